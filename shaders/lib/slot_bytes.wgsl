// Multiplies slot g of a load of group-pruned weights by x in bytes, as `quantize` left it. Needs STEP_COLS,
// slot_zero, dot_bytes and quotients; a vector has x_stride blocks.
const PIECE_BLOCKS: u32 = PIECE / STEP_COLS;
const PACKET_WORDS: u32 = SLOTS * PIECE_BLOCKS * QUOTIENT_WORDS;
const HELD: u32 = BATCH * PACKET_WORDS;

// The quotients of a block, for `dot_block` to find under number `s` of vector b.
fn hold_block(held: ptr<function, array<u32, HELD>>, b: u32, s: u32, block: u32) {
    let to = b * PACKET_WORDS + s * QUOTIENT_WORDS;
    if QUOTIENT_WORDS == 2u {
        let pair = block_at(2u * block);
        (*held)[to] = pair.x;
        (*held)[to + 1u] = pair.y;
        return;
    }
    for (var i = 0u; i < QUOTIENT_WORDS / 4u; i++) {
        let quad = quotient_quad(block * (QUOTIENT_WORDS / 4u) + i);
        (*held)[to + 4u * i] = quad.x;
        (*held)[to + 4u * i + 1u] = quad.y;
        (*held)[to + 4u * i + 2u] = quad.z;
        (*held)[to + 4u * i + 3u] = quad.w;
    }
}

// Σ (code − zero) · x over the piece of slot g, whose x begins at `col`, which is
// Σ step · (Σ code · q − zero · Σ q) over its blocks: what is in brackets is exact.
fn dot_slot(packed: array<u32, WORDS>, g: u32, word: u32, col: u32) -> array<f32, BATCH> {
    let zero = zero_of(word) - OFFSET;
    let steps = params.batch * params.x_stride * QUOTIENT_WORDS;
    var held: array<u32, HELD>;
    var dots: array<f32, BATCH>;
    for (var b = 0u; b < BATCH; b++) {
        let first = (params.vector_base + b) * params.x_stride + col / STEP_COLS;
        for (var k = 0u; k < PIECE_BLOCKS; k++) {
            let s = g * PIECE_BLOCKS + k;
            hold_block(&held, b, s, first + k);
            let block = block_at(steps + 2u * (first + k));
            let dot = dot_block(packed, s, held, b) - zero * bitcast<i32>(block.y);
            dots[b] += bitcast<f32>(block.x) * f32(dot);
        }
    }
    return dots;
}
