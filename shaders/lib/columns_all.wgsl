// Dense: slot and column are the same.
fn column(block: u32, slot: u32) -> u32 {
    return slot;
}
