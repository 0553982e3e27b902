// Dense: a slot is its column.
fn stage_columns(row0: u32, step: u32, lane: u32) {}

fn tile_column(slot: u32, row0: u32, tile_row: u32) -> u32 {
    return slot;
}
