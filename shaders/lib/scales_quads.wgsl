// Scales of a tile of 4 or 8 rows, 16 bytes at a time. What lies past the last row is padding.
fn load_scales(row0: u32, group: u32) -> array<u32, ROWS> {
    var scales: array<u32, ROWS>;
    let at = params.scales + row0 / 8u * params.scale_stride + group * 8u + row0 % 8u;
    for (var r = 0u; r < ROWS; r += 4u) {
        let quad = quads[(at + r) / 4u];
        scales[r] = quad.x;
        scales[r + 1u] = quad.y;
        scales[r + 2u] = quad.z;
        scales[r + 3u] = quad.w;
    }
    return scales;
}
