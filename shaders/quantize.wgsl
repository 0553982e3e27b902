// Activations as integers of eight bits, in blocks that share a step: x ≈ step · q.
//
// | quotients [vectors][blocks][QUOTIENT_WORDS] | step, sum of q [vectors][blocks] |
//
// Quotients lie as the codes of a word will meet them, see the fragment. Vectors are padded to
// whole packets by zeros. The largest magnitude is found among integers, whose order is the same:
// a NaN is above all and makes the step, and so y, NaN.
//
// A lane takes a block. Reads x once and writes a quarter of it.
//
// Consts: WORKGROUP, BITS = bits of a code, BLOCK = columns of a block.
// Fragments: bytes or halves, put, block_quads or block_scalars.
struct Quantize {
    cols: u32,
    batch: u32,
    blocks: u32,   // of a vector
}

@group(0) @binding(0) var<uniform> params: Quantize;

// No step is smaller than 2^-100: its inverse would be infinite.
const LEAST: u32 = 0x10fe0000u;   // 127 · 2^-100

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if place >= params.batch * params.blocks {
        return;
    }
    let vector = place / params.blocks;
    let col = place % params.blocks * BLOCK;

    let values = block_of(vector, col);
    var largest = LEAST;
    for (var i = 0u; i < BLOCK; i++) {
        largest = max(largest, bitcast<u32>(values[i]) & 0x7fffffffu);
    }
    let step = bitcast<f32>(largest) / 127.0;
    let inverse = 1.0 / step;
    var quotients: array<i32, BLOCK>;
    var sum = 0;
    for (var i = 0u; i < BLOCK; i++) {
        quotients[i] = i32(clamp(round(values[i] * inverse), -127.0, 127.0));
        sum += quotients[i];
    }

    for (var i = 0u; i < QUOTIENT_WORDS; i += 2u) {
        put_pair(place * QUOTIENT_WORDS + i, quotient_word(quotients, i), quotient_word(quotients, i + 1u));
    }
    let steps = params.batch * params.blocks * QUOTIENT_WORDS;
    put_pair(steps + 2u * place, bitcast<u32>(step), bitcast<u32>(sum));
}
