// N:M: the columns of a step's slots, counted from the step's first, are staged beside the
// values. NM-SpMM (https://arxiv.org/abs/2503.01253) calls this the non-packing path.
var<workgroup> columns: array<u32, TILE_SLOTS * TILE_SETS>;

fn stage_columns(row0: u32, step: u32, lane: u32) {
    let last = (params.rows - 1u) / V;
    for (var i = lane; i < TILE_SLOTS * TILE_SETS; i += WORKGROUP) {
        let block = min(row0 / V + i / TILE_SLOTS, last);
        let slot = step * TILE_SLOTS + i % TILE_SLOTS;
        if slot < params.slots {
            columns[i] = column(block, slot) - step * TILE_COLS;
        }
    }
}

fn tile_column(slot: u32, row0: u32, tile_row: u32) -> u32 {
    return columns[((row0 + tile_row) / V - row0 / V) * TILE_SLOTS + slot];
}
