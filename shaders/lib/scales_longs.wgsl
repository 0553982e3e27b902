// Scales of a tile of 4 or 8 rows, 8 bytes at a time as 64-bit integers. What lies past the last
// row is padding.
fn load_scales(row0: u32, group: u32) -> array<u32, ROWS> {
    var scales: array<u32, ROWS>;
    let at = params.scales + row0 / 8u * params.scale_stride + group * 8u + row0 % 8u;
    for (var r = 0u; r < ROWS; r += 2u) {
        let long = quads[(at + r) / 2u];
        scales[r] = u32(long);
        scales[r + 1u] = u32(long >> 32u);
    }
    return scales;
}
