// Scales of a tile's rows: each lane of a subgroup loads one, that of its `own_row`, and hands it round. For CPU
// adapters: lanes of one group would else each load all of them.
fn load_scales(row0: u32, group: u32) -> array<u32, ROWS> {
    let at = params.scales + own_row / 8u * params.scale_stride + own_row % 8u;
    let own = words[at + group * 8u];
    var scales: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        scales[r] = subgroupShuffle(own, r);
    }
    return scales;
}
