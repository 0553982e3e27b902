// Scales of a tile's rows, which lie anywhere, one load each.
fn load_scales(row0: u32, group: u32) -> array<u32, ROWS> {
    var scales: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let row = row_of(row0, r);
        scales[r] = words[params.scales + row / 8u * params.scale_stride + group * 8u + row % 8u];
    }
    return scales;
}
