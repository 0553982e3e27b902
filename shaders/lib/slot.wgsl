// A slot of a part in panels: where its scale lies, and which columns it meets.
fn scale_word(slot: u32) -> u32 {
    return words[params.scales + slot * SCALE_WORDS];
}

// First column of the group in a slot.
fn first_column(slot: u32, word: u32) -> u32 {
    if SCALE_WORDS == 2u {
        return words[params.scales + slot * SCALE_WORDS + 1u] * GROUP;
    }
    let base = words[params.indices + params.index_stride + slot / BLOCK];
    return (base + (word >> (16u + ZERO_BITS)) / PANEL) * GROUP;
}
