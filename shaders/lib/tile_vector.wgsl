// V-shared indices: the rows of an invocation use one index block (a block is V rows), whose columns
// (counted from the tile's first) are staged beside the values.
// NM-SpMM (https://arxiv.org/abs/2503.01253) calls this the non-packing path.
var<workgroup> columns: array<u32, TILE_SLOTS * TILE_SETS>;

fn stage_weight(row0: u32, step: u32, lane: u32) {
    stage_slots(row0, step, lane);
    let last = (params.rows - 1u) / V;
    for (var i = lane; i < TILE_SLOTS * TILE_SETS; i += WORKGROUP) {
        let block = min(row0 / V + i / TILE_SLOTS, last);
        let slot = step * TILE_SLOTS + i % TILE_SLOTS;
        // Slots past the row's end hold zeros; any column of the tile will do.
        columns[i] = select(0u, column(block, slot) - step * TILE_COLS, slot < params.slots);
    }
}

fn tile_column(slot: u32, row0: u32, lane_row: u32) -> u32 {
    return columns[((row0 + lane_row) / V - row0 / V) * TILE_SLOTS + slot];
}
