fn stage_weight(row0: u32, step: u32, lane: u32) {
    stage_slots(row0, step, lane);
}

fn tile_column(slot: u32, row0: u32, lane_row: u32) -> u32 {
    return slot;
}
