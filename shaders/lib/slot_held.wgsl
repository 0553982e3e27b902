// Multiplies slot g of a load of group-pruned weights by x as integers in workgroup memory. Needs slot_zero and hold.
const PIECE_BLOCKS: u32 = PIECE / STEP_COLS;
// Words of a block in one quad.
const QUAD_WORDS: u32 = min(4u, QUOTIENT_WORDS);

// Four codes, one a byte: word i of the codes of a load, if each had a byte of its own.
fn codes_of(packed: array<u32, WORDS>, i: u32) -> u32 {
    return ((packed[i / FIELDS] >> (i % FIELDS * BITS)) & BYTE_MASK) ^ (OFFSET * 0x01010101u);
}

// Σ (code − zero) · x over the piece of slot g, whose x begins at column `col` of what is held, which is
// Σ step · (Σ code · q − zero · Σ q) over its blocks: what is in brackets is exact.
fn dot_slot(packed: array<u32, WORDS>, g: u32, word: u32, col: u32) -> array<f32, BATCH> {
    let zero = zero_of(word) - i32(OFFSET);
    var dots: array<f32, BATCH>;
    for (var k = 0u; k < PIECE_BLOCKS; k++) {
        let block = col / STEP_COLS + k;
        let first = block % BLOCKS * QUOTIENT_WORDS;
        for (var b = 0u; b < BATCH; b++) {
            let held = b * HOLD * BLOCKS + block;
            var digits: array<vec4<i32>, BYTES>;
            for (var byte = 0u; byte < BYTES; byte++) {
                var digit = -zero * total_of(held, byte);
                for (var q = 0u; q < QUOTIENT_WORDS; q += QUAD_WORDS) {
                    let quad = quads_of_x[quad_at(b, byte, block / BLOCKS, first / 4u + q / 4u)];
                    for (var i = 0u; i < QUAD_WORDS; i++) {
                        let codes = codes_of(packed, (g * PIECE_BLOCKS + k) * QUOTIENT_WORDS + q + i);
                        digit += dot4I8Packed(codes, quad[select(first + i, i, QUAD_WORDS == 4u) % 4u]);
                    }
                }
                digits[byte].x = digit;
            }
            dots[b] += steps[held] * joined(digits).x;
        }
    }
    return dots;
}
