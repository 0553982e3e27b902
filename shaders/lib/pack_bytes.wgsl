// Quotients four a word, for dot products of bytes. After a shift and a mask every FIELDS-th code of a word lies
// in a byte of its own: four columns, FIELDS apart, meet the quotients of one word.
const FIELDS: u32 = 8u / BITS;
const QUOTIENT_WORDS: u32 = STEP_COLS / 4u;

// Word i of a block.
fn quotient_word(quotients: array<i32, STEP_COLS>, i: u32) -> u32 {
    var word = 0u;
    for (var k = 0u; k < 4u; k++) {
        let q = quotients[i / FIELDS * (4u * FIELDS) + k * FIELDS + i % FIELDS];
        word |= (bitcast<u32>(q) & 0xffu) << (8u * k);
    }
    return word;
}
