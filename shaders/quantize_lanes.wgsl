// What quantize does, for GPUs: a lane takes four columns, and the lanes of a block find its step together, so
// that neighbouring lanes load and store neighbouring words.
//
// Consts: WORKGROUP, whole blocks; BITS = bits of a code, STEP_COLS = columns of a block.
// Fragments: vectors, peaks, steps_bytes, bytes, put_words, values.
const TAKEN: u32 = 4u;
const LANES: u32 = STEP_COLS / TAKEN;   // of a block: one for each of its words

var<workgroup> peaks: array<u32, WORKGROUP>;
// The quotients of a lane in bytes, in the order of their columns.
var<workgroup> bytes: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Lanes past the last block repeat its last one: barriers wait for all.
    let words = params.batch * params.blocks * LANES;
    let place = (group.x + group.y * groups.x) * WORKGROUP + lane;
    let at = min(place, words - LANES + lane % LANES);
    let block = at / LANES;
    let values = values_of(block / params.blocks, block % params.blocks * STEP_COLS + lane % LANES * TAKEN);

    peaks[lane] = peak_of(values);
    workgroupBarrier();
    let first = lane - lane % LANES;
    var peak = 0u;
    for (var i = 0u; i < LANES; i++) {
        peak = max(peak, peaks[first + i]);
    }
    let step = step_of(peak);
    let inverse = inverse_of(step);
    var own = 0u;
    for (var i = 0u; i < TAKEN; i++) {
        own |= (bitcast<u32>(quotient(values[i] * inverse)) & 0xffu) << (8u * i);
    }
    bytes[lane] = own;
    workgroupBarrier();

    if place >= words {
        return;
    }
    var all: array<i32, STEP_COLS>;
    var sum = 0;
    for (var i = 0u; i < LANES; i++) {
        let four = bytes[first + i];
        sum += dot4I8Packed(four, 0x01010101u);
        for (var j = 0u; j < TAKEN; j++) {
            all[TAKEN * i + j] = extractBits(bitcast<i32>(four), 8u * j, 8u);
        }
    }
    quotients[place] = quotient_word(all, lane % LANES);
    if lane % LANES == 0u {
        put_pair(words + 2u * block, bitcast<u32>(step), bitcast<u32>(sum));
    }
}
