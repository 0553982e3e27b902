// A packet is as many words as there are lanes: each lane loads one and hands it round.
// One load a row and packet instead of one a word.
@group(0) @binding(3) var<storage, read> words: array<u32>;

const HELD_WORDS: u32 = 1u;

fn hold(row_at: u32, packet: u32, lane: u32) -> array<u32, HELD_WORDS> {
    // A row may end inside its last packet.
    return array<u32, HELD_WORDS>(words[row_at + min(packet * WORDS + lane, params.value_stride - 1u)]);
}

fn held_word(held: array<u32, HELD_WORDS>, i: u32) -> u32 {
    return subgroupShuffle(held[0], i);
}
