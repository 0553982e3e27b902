// Every lane holds all WORDS words of a packet.
const HELD_WORDS: u32 = WORDS;

fn hold(row_at: u32, packet: u32, lane: u32) -> array<u32, HELD_WORDS> {
    return load(row_at, packet);
}

fn held_word(held: array<u32, HELD_WORDS>, i: u32) -> u32 {
    return held[i];
}
