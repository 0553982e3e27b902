// y[b, r] = bias[r] + Σ_k scale(r, k) · step(b, k) · Σ_c (code(r, c) − zero(r, k)) · q(b, c)
//
// over blocks k of columns c, for BATCH vectors. Each workgroup makes the integers q of x for itself: HOLD
// packets at a time, all of them where there is room. It sums TILES tiles of four rows; LANES lanes share a tile,
// and each takes a packet of codes of its rows at a time while the next is on its way. Codes are requested before
// x, so that they arrive while the integers are made.
//
// Reads the weight once, and x once a workgroup. More vectors than BATCH are taken in turns along z.
//
// Values of the four rows are a vec4, and no array holds arrays: NVIDIA's compiler keeps those in memory, or
// crashes (580.159).
//
// Consts: WORKGROUP, TILES, BATCH, BITS, REAL_ZEROS; GROUP = columns of a group, SEGMENT = those of a
// packet that share a scale; HOLD; WHOLE = that is all packets.
// Fragments: linear, bias, y_words, load_quads, scale, fours, hold and what it needs.
const WORDS: u32 = PACKET;   // of a load
const SETS: u32 = SPAN / SEGMENT;

// What a round brings: a packet of codes of each row, and the scales of their segments.
struct Round {
    codes: array<vec4<u32>, ROWS>,
    scales: array<vec4<u32>, SETS>,
}

// Lanes without a packet load the last one again, in vain: no load is conditional.
fn fetch(row_at: vec4<u32>, row0: u32, packet: u32) -> Round {
    var round: Round;
    for (var r = 0u; r < ROWS; r++) {
        round.codes[r] = quads[row_at[r] / 4u + packet];
    }
    let scales = params.scales + row0 / 8u * params.scale_stride + row0 % 8u;
    for (var s = 0u; s < SETS; s++) {
        // A packet may reach past the last group.
        let group = min((packet * SPAN + s * SEGMENT) / GROUP, params.scale_stride / 8u - 1u);
        round.scales[s] = quads[(scales + group * 8u) / 4u];
    }
    return round;
}

// The real zeros of four rows.
fn reals(words: vec4<u32>) -> vec4<f32> {
    let halves = words >> vec4(16u);
    return vec4(
        unpack2x16float(halves.x).x,
        unpack2x16float(halves.y).x,
        unpack2x16float(halves.z).x,
        unpack2x16float(halves.w).x,
    );
}

// Adds a packet of each row, which meets packet `held` of the x in workgroup memory.
fn add_round(acc: ptr<function, array<vec4<f32>, BATCH>>, round: Round, held: u32, counts: bool) {
    for (var k = 0u; k < BLOCKS; k++) {
        var dots: array<vec4<i32>, BATCH * BYTES>;
        for (var i = k * QUOTIENT_WORDS; i < (k + 1u) * QUOTIENT_WORDS; i++) {
            var codes: vec4<u32>;
            for (var r = 0u; r < ROWS; r++) {
                codes[r] = round.codes[r][i / FIELDS];
            }
            codes = ((codes >> vec4(i % FIELDS * BITS)) & vec4(BYTE_MASK)) ^ vec4(OFFSET * 0x01010101u);
            for (var v = 0u; v < BATCH * BYTES; v++) {
                let word = quads_of_x[quad_at(v / BYTES, v % BYTES, held, i / 4u)][i % 4u];
                dots[v].x += dot4I8Packed(codes.x, word);
                dots[v].y += dot4I8Packed(codes.y, word);
                dots[v].z += dot4I8Packed(codes.z, word);
                dots[v].w += dot4I8Packed(codes.w, word);
            }
        }
        let words = round.scales[k * STEP_COLS / SEGMENT];
        // Real zeros are no integers: their products are subtracted afterwards.
        let stored = select(vec4<i32>(words >> vec4(16u)), vec4<i32>(), REAL_ZEROS);
        let zeros = stored - vec4(i32(OFFSET));
        let scales = vec4(scale_of(words.x), scale_of(words.y), scale_of(words.z), scale_of(words.w));
        for (var b = 0u; b < BATCH; b++) {
            let block = (b * HOLD + held) * BLOCKS + k;
            let step = select(0.0, steps[block], counts);
            var digits: array<vec4<i32>, BYTES>;
            for (var byte = 0u; byte < BYTES; byte++) {
                digits[byte] = dots[b * BYTES + byte] - zeros * total_of(block, byte);
            }
            var sums = joined(digits);
            if REAL_ZEROS {
                var totals: array<vec4<i32>, BYTES>;
                for (var byte = 0u; byte < BYTES; byte++) {
                    totals[byte] = vec4(total_of(block, byte));
                }
                sums -= reals(words) * joined(totals);
            }
            (*acc)[b] += scales * (step * sums);
        }
    }
}

// The packets of each lane from `own` to `end`, of which those from `first` on are held.
fn add_rounds(
    acc: ptr<function, array<vec4<f32>, BATCH>>,
    next: ptr<function, Round>,
    row_at: vec4<u32>,
    row0: u32,
    own: u32,
    first: u32,
    end: u32,
) {
    let last = (params.slots + SPAN - 1u) / SPAN - 1u;
    for (var base = 0u; base < end - first; base += LANES) {
        let packet = own + base;
        let round = *next;
        *next = fetch(row_at, row0, min(packet + LANES, last));
        add_round(acc, round, min(packet, last) - first, packet <= last);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (group.x + group.y * groups.x) * (TILES * ROWS);
    if first_row >= params.rows {
        return;
    }
    turn = group.z * BATCH;
    let row0 = first_row_of(first_row, lane);
    let row_at = rows_at(row0);
    let packets = (params.slots + SPAN - 1u) / SPAN;
    let own = lane % LANES;
    var next = fetch(row_at, row0, min(own, packets - 1u));
    var acc: array<vec4<f32>, BATCH>;
    if WHOLE {
        hold(0u, lane);
        add_rounds(&acc, &next, row_at, row0, own, 0u, packets);
    } else {
        for (var first = 0u; first < packets; first += HOLD) {
            workgroupBarrier();
            hold(first, lane);
            let end = min(first + HOLD, packets);
            add_rounds(&acc, &next, row_at, row0, first + own, first, end);
        }
    }
    finish(acc, first_row, lane);
}
