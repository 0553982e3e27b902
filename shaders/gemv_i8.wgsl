// y[b, r] = bias[r] + Σ_k scale(r, k) · step(b, k) · (Σ_c code(r, c) · q(b, c) − zero(r, k) · Σ_c q(b, c))
//
// over blocks k of columns c, for BATCH vectors that `quantize` has turned into integers q. The brackets are
// exact, except with real zeros. One workgroup sums ROWS rows; each lane takes a packet of SPAN codes of all of
// them at a time. More vectors than BATCH are taken in turns along z.
//
// Reads the weight once, and a quarter of x once per ROWS rows.
//
// Consts: WORKGROUP, ROWS, BATCH, BITS, REAL_ZEROS; WORDS = words of a packet; STEP_COLS = columns that
// share a step; GROUP = columns of a group, SEGMENT = those of a packet that share a scale; GUARD = packets do not
// fill the last round of lanes.
// Fragments: linear, bias, rows, load, scale, scales, bytes or halves, quotients, reduce.
const ACC: u32 = ROWS * BATCH;
const SPAN: u32 = WORDS * 32u / BITS;
const BLOCKS: u32 = SPAN / STEP_COLS;
const SETS: u32 = SPAN / SEGMENT;
const PACKET_WORDS: u32 = BLOCKS * QUOTIENT_WORDS;
const HELD: u32 = BATCH * PACKET_WORDS;

// The first vector of a turn.
var<private> turn: u32;

// Sum i of a workgroup belongs to row i / BATCH and vector i % BATCH.
fn store_sum(row0: u32, i: u32, sum: f32) {
    if row0 + i / BATCH < rows_end() {
        put(i / BATCH, row0, turn + i % BATCH, sum);
    }
}

fn fetch_quotients(packet: u32, packets: u32) -> array<u32, HELD> {
    var held: array<u32, HELD>;
    for (var b = 0u; b < BATCH; b++) {
        let at = ((params.vector_base + turn + b) * packets + packet) * (PACKET_WORDS / 4u);
        for (var i = 0u; i < PACKET_WORDS / 4u; i++) {
            let quad = quotient_quad(at + i);
            held[b * PACKET_WORDS + 4u * i] = quad.x;
            held[b * PACKET_WORDS + 4u * i + 1u] = quad.y;
            held[b * PACKET_WORDS + 4u * i + 2u] = quad.z;
            held[b * PACKET_WORDS + 4u * i + 3u] = quad.w;
        }
    }
    return held;
}

// Step and sum of each block of a packet, for each vector.
fn fetch_blocks(packet: u32, packets: u32) -> array<vec2<u32>, BATCH * BLOCKS> {
    var blocks: array<vec2<u32>, BATCH * BLOCKS>;
    let steps = params.batch * packets * PACKET_WORDS;
    for (var b = 0u; b < BATCH; b++) {
        let at = steps + ((params.vector_base + turn + b) * packets + packet) * (2u * BLOCKS);
        for (var k = 0u; k < BLOCKS; k++) {
            blocks[b * BLOCKS + k] = block_at(at + 2u * k);
        }
    }
    return blocks;
}

fn fetch_scales(row0: u32, packet: u32) -> array<u32, SETS * ROWS> {
    var scales: array<u32, SETS * ROWS>;
    let last = params.scale_stride / 8u - 1u;
    for (var s = 0u; s < SETS; s++) {
        // A packet may reach past the last group.
        let of_rows = load_scales(row0, min((packet * SPAN + s * SEGMENT) / GROUP, last));
        for (var r = 0u; r < ROWS; r++) {
            scales[s * ROWS + r] = of_rows[r];
        }
    }
    return scales;
}

// Σ (code − zero) · q, of Σ (code − OFFSET) · q and Σ q.
fn less_zeros(dot: i32, sum: i32, word: u32) -> f32 {
    if REAL_ZEROS {
        return f32(dot) - (unpack2x16float(word >> 16u).x - f32(OFFSET)) * f32(sum);
    }
    return f32(dot - (i32(word >> 16u) - OFFSET) * sum);
}

// Adds a packet of each row. Lanes without one load the last again and multiply it by steps of zero, so that no
// load is conditional.
fn add_packets(
    acc: ptr<function, array<f32, ACC>>,
    row_at: array<u32, ROWS>,
    row0: u32,
    own: u32,
    packets: u32,
) {
    var packet = own;
    if GUARD {
        packet = min(own, packets - 1u);
    }
    let held = fetch_quotients(packet, packets);
    let blocks = fetch_blocks(packet, packets);
    let scales = fetch_scales(row0, packet);
    for (var r = 0u; r < ROWS; r++) {
        let packed = load(row_at[r], packet);
        for (var k = 0u; k < BLOCKS; k++) {
            let word = scales[k * STEP_COLS / SEGMENT * ROWS + r];
            for (var b = 0u; b < BATCH; b++) {
                let block = blocks[b * BLOCKS + k];
                let dot = less_zeros(dot_block(packed, k, held, b), bitcast<i32>(block.y), word);
                let step = select(0.0, bitcast<f32>(block.x), !GUARD || own < packets);
                (*acc)[r * BATCH + b] += scale_of(word) * (step * dot);
            }
        }
    }
}

// The packet of a round that a lane takes, see `gemv`.
fn place(lane: u32) -> u32 {
    if HALVES {
        return lane % 2u * (WORKGROUP / 2u) + lane / 2u;
    }
    return lane;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let row0 = first_row(group.x + group.y * groups.x);
    if row0 >= rows_end() {
        return;
    }

    turn = group.z * BATCH;
    var acc: array<f32, ACC>;
    // Rows past the end repeat the last one; their sums are not stored.
    var row_at: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        row_at[r] = params.values + row_of(row0, r) * params.value_stride;
    }
    let packets = (params.slots + SPAN - 1u) / SPAN;
    for (var base = 0u; base < packets; base += WORKGROUP) {
        add_packets(&acc, row_at, row0, base + place(lane.index), packets);
    }

    finish(acc, row0, lane);
}
