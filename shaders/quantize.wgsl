// Activations as integers of eight bits, in blocks that share a step: x ≈ step · q.
//
// | quotients [vectors][blocks][QUOTIENT_WORDS] | step, sum of q [vectors][blocks] |
//
// Quotients lie as the codes of a word will meet them, see the fragment. Vectors are padded to whole packets by zeros.
// Magnitudes are compared as integers, whose order is the same: a NaN is above all and makes the step, and so y, NaN.
//
// A lane takes a block, which suits CPU adapters; GPUs have quantize_lanes. Reads x once and writes a
// quarter of it.
//
// Consts: WORKGROUP, BITS = bits of a code, STEP_COLS = columns of a block.
// Fragments: vectors, peaks, steps_bytes, bytes or halves, put, values.
const TAKEN: u32 = STEP_COLS;

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
    let col = place % params.blocks * STEP_COLS;

    let values = values_of(vector, col);
    let step = step_of(peak_of(values));
    let inverse = inverse_of(step);
    var quotients: array<i32, STEP_COLS>;
    var sum = 0;
    for (var i = 0u; i < STEP_COLS; i++) {
        quotients[i] = quotient(values[i] * inverse);
        sum += quotients[i];
    }

    for (var i = 0u; i < QUOTIENT_WORDS; i += 2u) {
        put_pair(place * QUOTIENT_WORDS + i, quotient_word(quotients, i), quotient_word(quotients, i + 1u));
    }
    let steps = params.batch * params.blocks * QUOTIENT_WORDS;
    put_pair(steps + 2u * place, bitcast<u32>(step), bitcast<u32>(sum));
}
