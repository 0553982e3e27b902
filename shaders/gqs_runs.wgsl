// y[b, r] = bias[r] + Σ_k scale(k) · (Σ_i code(k, i) · x[b, c(k) + i] − zero(k) · Σ_i x[b, c(k) + i])
//
// over the kept groups k of row r, whose first column is c(k), for BATCH vectors, on CPU adapters.
// GQSA, https://arxiv.org/abs/2412.17560. A workgroup sums a panel of PANEL rows, or a piece of
// one where BY_PIECES, run by run: the rows that keep a group of columns meet the same x, which
// every lane holds in registers; lanes side by side then take slots side by side, PAIR at a time,
// so that a load brings two groups' codes or scales. Each lane has sums of its own for all rows of the panel;
// lanes that have no slot load the last pair again, in vain, and must not add to its rows. However long a slot
// is, it loads and stores its sums once.
//
// Reads the weight once and x once a panel. 2 · kept · batch FLOPs.
//
// Consts: LANES, PANEL, PAIR, BATCH, BITS; GROUP = columns of a group; GROUP_WORDS = words of its
// codes, WORDS = those of a pair; PARTS = 1 to 4, of a group; ZERO_BITS; MIDDLE = the zero where none is stored;
// BY_PIECES.
// Fragments: linear, bias, load, code_quad, scale, pair, hold, x, pieces.
const SUMS: u32 = PANEL * BATCH;
const QUADS: u32 = GROUP / 4u;
const PART: u32 = GROUP / PARTS;   // columns
// Whether the first word of a pair is loaded a round ahead. Shorter pairs share cache lines, and lose more by the
// load than they gain (measured at 4 words and 8).
const AHEAD: bool = WORDS >= 8u;

// Sum i belongs to row i / BATCH of the panel and vector i % BATCH.
var<workgroup> sums: array<f32, SUMS * LANES>;

fn x_or_zero(vector: u32, col: u32) -> f32 {
    return select(0.0, x_at(vector, min(col, params.cols - 1u)), col < params.cols);
}

// Part p of the x of a group of columns, zero beyond `cols`. Lanes load HELD columns at a time, and
// hand them round. A driver unrolls a loop only where it is short, so long groups come in parts,
// each known when the shader is compiled.
fn fetch_part(
    xs: ptr<function, array<vec4<f32>, BATCH * QUADS>>,
    p: u32,
    first: u32,
    lane: u32,
) {
    if p >= PARTS {
        return;
    }
    for (var b = 0u; b < BATCH; b++) {
        for (var h = 0u; h < (PART + HELD - 1u) / HELD; h++) {
            let own = x_or_zero(b, first + p * PART + h * HELD + lane % HELD);
            for (var q = 0u; q < HELD / 4u; q++) {
                if PART % HELD == 0u || h * HELD + 4u * q < PART {
                    (*xs)[b * QUADS + p * (PART / 4u) + h * (HELD / 4u) + q] = vec4(
                        hand_round(own, 4u * q),
                        hand_round(own, 4u * q + 1u),
                        hand_round(own, 4u * q + 2u),
                        hand_round(own, 4u * q + 3u),
                    );
                }
            }
            if HELD == 1u {
                (*xs)[b * QUADS + p * (PART / 4u) + h / 4u][h % 4u] = own;
            }
        }
    }
}

// Adds part p of the x of a group to `totals`.
fn total_part(
    totals: ptr<function, array<f32, BATCH>>,
    p: u32,
    xs: array<vec4<f32>, BATCH * QUADS>,
) {
    if p >= PARTS {
        return;
    }
    for (var b = 0u; b < BATCH; b++) {
        for (var i = 0u; i < QUADS / PARTS; i++) {
            (*totals)[b] += dot(xs[b * QUADS + p * (QUADS / PARTS) + i], vec4(1.0));
        }
    }
}

// Adds Σ code · x over part p of slot s of a pair to `dots`.
fn add_part(
    dots: ptr<function, array<f32, BATCH>>,
    packed: array<u32, WORDS>,
    s: u32,
    p: u32,
    xs: array<vec4<f32>, BATCH * QUADS>,
) {
    if p >= PARTS {
        return;
    }
    for (var i = 0u; i < QUADS / PARTS; i++) {
        let q = p * (QUADS / PARTS) + i;
        let bit = s * GROUP_WORDS * 32u + q * 4u * BITS;
        let codes = code_quad(packed, bit);
        for (var b = 0u; b < BATCH; b++) {
            (*dots)[b] += dot(codes, xs[b * QUADS + q]);
        }
    }
}

// Adds slot s of a pair.
fn add_slot(
    packed: array<u32, WORDS>,
    s: u32,
    word: u32,
    xs: array<vec4<f32>, BATCH * QUADS>,
    totals: array<f32, BATCH>,
    lane: u32,
    counts: bool,
) {
    var dots: array<f32, BATCH>;
    add_part(&dots, packed, s, 0u, xs);
    add_part(&dots, packed, s, 1u, xs);
    add_part(&dots, packed, s, 2u, xs);
    add_part(&dots, packed, s, 3u, xs);
    var zero = MIDDLE;
    if ZERO_BITS != 0u {
        zero = f32(i32((word >> 16u) & ((1u << ZERO_BITS) - 1u)));
    }
    let scale = scale_of(word);
    let row = (word >> (16u + ZERO_BITS)) % PANEL;
    for (var b = 0u; b < BATCH; b++) {
        // Spare slots have scale 0; the x they point at must not matter.
        let sum = select(0.0, scale * (dots[b] - zero * totals[b]), counts && scale != 0.0);
        sums[(row * BATCH + b) * LANES + lane] += sum;
    }
}

// The first word of the codes of a slot, loaded by itself a round ahead: LLVM masks wider loads for most lanes,
// and a cache line that a masked load touches first comes late (see `gemv`).
fn first_word(slot: u32, end: u32) -> u32 {
    if !AHEAD {
        return 0u;
    }
    return words[params.values + min(slot, end - PAIR) / PAIR * WORDS];
}

// Adds the slots from `begin` to `end` of a run, whole pairs of the group that starts at `first`.
fn add_run(begin: u32, end: u32, first: u32, lane: u32) {
    var xs: array<vec4<f32>, BATCH * QUADS>;
    fetch_part(&xs, 0u, first, lane);
    fetch_part(&xs, 1u, first, lane);
    fetch_part(&xs, 2u, first, lane);
    fetch_part(&xs, 3u, first, lane);
    var totals: array<f32, BATCH>;
    total_part(&totals, 0u, xs);
    total_part(&totals, 1u, xs);
    total_part(&totals, 2u, xs);
    total_part(&totals, 3u, xs);
    var head = first_word(begin + PAIR * lane, end);
    for (var base = begin; base < end; base += PAIR * LANES) {
        let slot = base + PAIR * lane;
        let at = min(slot, end - PAIR);
        var packed = load(params.values, at / PAIR);
        if AHEAD {
            packed[0] = head;
        }
        head = first_word(slot + PAIR * LANES, end);
        let scales = pair(params.scales + at);
        add_slot(packed, 0u, scales.x, xs, totals, lane, slot < end);
        add_slot(packed, 1u, scales.y, xs, totals, lane, slot < end);
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = group.x + group.y * groups.x;
    if BY_PIECES {
        if id >= piece_count() {
            return;
        }
    } else if id >= panels() {
        return;
    }
    // Number, first run, first slot, last slot + 1.
    var piece = vec4(id, id * params.index_stride, run_start(id * params.index_stride), 0u);
    if BY_PIECES {
        piece = piece_at(id);
    } else {
        piece.w = run_start((id + 1u) * params.index_stride);
    }

    for (var i = 0u; i < SUMS; i++) {
        sums[i * LANES + lane] = 0.0;
    }
    var run = piece.y;
    var begin = piece.z;
    while begin < piece.w {
        let end = min(piece.w, run_start(run + 1u));
        if begin < end {
            add_run(begin, end, run % params.index_stride * GROUP, lane);
        }
        begin = end;
        run++;
    }
    workgroupBarrier();
    for (var i = lane; i < SUMS; i += LANES) {
        var sum = 0.0;
        for (var k = 0u; k < LANES; k++) {
            sum += sums[i * LANES + k];
        }
        if BY_PIECES {
            y[piece.x * SUMS + i] = sum;
        } else if id * PANEL + i / BATCH < params.rows {
            store(id * PANEL + i / BATCH, i % BATCH, sum);
        }
    }
}
