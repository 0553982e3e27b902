// Quotients two a word, for devices that multiply words faster than bytes. After a shift and a mask every
// FIELDS-th code of a word lies in a half of its own; the quotients of these two columns lie the other way round,
// the first above.
const FIELDS: u32 = 16u / BITS;
const QUOTIENT_WORDS: u32 = STEP_COLS / 2u;

// Word i of a block.
fn quotient_word(quotients: array<i32, STEP_COLS>, i: u32) -> u32 {
    let at = i / FIELDS * (2u * FIELDS) + i % FIELDS;
    return bitcast<u32>((quotients[at] << 16u) + quotients[at + FIELDS]);
}
