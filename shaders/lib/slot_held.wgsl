// What slot g of a load of group-pruned weights is multiplied with: x as integers in workgroup memory.
// Needs slot_zero and hold.
const PIECE_BLOCKS: u32 = PIECE / STEP_COLS;

fn ready(lane: u32) {
    hold(0u, lane);
}

// Σ code · q of each byte over a block of a slot: `first` is its first word among those that all codes of a
// load make when every byte of a word takes one, `block` the block of the vector that it meets.
fn dot_held(packed: array<u32, WORDS>, first: u32, vector: u32, block: u32) -> array<vec4<i32>, BYTES> {
    var dots: array<vec4<i32>, BYTES>;
    for (var i = 0u; i < QUOTIENT_WORDS; i++) {
        let at = first + i;
        let codes = (packed[at / FIELDS] >> (at % FIELDS * BITS)) & BYTE_MASK;
        let to = block % BLOCKS * QUOTIENT_WORDS + i;
        for (var byte = 0u; byte < BYTES; byte++) {
            let quad = quads_of_x[quad_at(vector, byte, block / BLOCKS, to / 4u)];
            dots[byte].x += dot4I8Packed(codes ^ (OFFSET * 0x01010101u), quad[to % 4u]);
        }
    }
    return dots;
}

// Σ (code − zero) · x over the piece of slot g, whose x begins at `col`.
fn dot_slot(packed: array<u32, WORDS>, g: u32, word: u32, col: u32) -> array<f32, BATCH> {
    let zero = zero_of(word) - i32(OFFSET);
    var dots: array<f32, BATCH>;
    for (var b = 0u; b < BATCH; b++) {
        for (var k = 0u; k < PIECE_BLOCKS; k++) {
            let block = col / STEP_COLS + k;
            var digits = dot_held(packed, (g * PIECE_BLOCKS + k) * QUOTIENT_WORDS, b, block);
            let held = b * HOLD * BLOCKS + block;
            for (var byte = 0u; byte < BYTES; byte++) {
                digits[byte].x -= zero * total_of(held, byte);
            }
            dots[b] += steps[held] * joined(digits).x;
        }
    }
    return dots;
}
