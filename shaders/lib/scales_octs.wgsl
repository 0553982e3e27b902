// Scales of a tile of 8 rows, 32 bytes at a time as 64-bit integers. What lies past the last
// row is padding.
fn load_scales(row0: u32, group: u32) -> array<u32, ROWS> {
    var scales: array<u32, ROWS>;
    let octet = quads[(params.scales + row0 / 8u * params.scale_stride + group * 8u) / 8u];
    for (var j = 0u; j < 4u; j++) {
        scales[2u * j] = u32(octet[j]);
        scales[2u * j + 1u] = u32(octet[j] >> 32u);
    }
    return scales;
}
