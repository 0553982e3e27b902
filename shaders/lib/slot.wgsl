// A slot of a part in panels: where its scale lies, and which columns it meets.
fn scale_word(slot: u32) -> u32 {
    return words[params.scales + slot * SCALE_WORDS];
}

// The word that says where the columns of a slot begin: the number of its group, or of its block's first.
fn column_word(slot: u32) -> u32 {
    if SCALE_WORDS == 2u {
        return words[params.scales + slot * SCALE_WORDS + 1u];
    }
    return words[params.indices + params.index_stride + slot / BLOCK];
}

fn first_column(told: u32, word: u32) -> u32 {
    if SCALE_WORDS == 2u {
        return told * GROUP;
    }
    return (told + (word >> (16u + ZERO_BITS)) / PANEL) * GROUP;
}
