// y[b, r] = bias[r] + Σ_k scale(r, k) · Σ_i (code(r, k, i) − zero(r, k)) · x[b, c(r, k) + i]
//
// over the kept groups k of row r, whose first column is c(r, k), for BATCH vectors, where all rows keep equally
// many. GQSA, https://arxiv.org/abs/2412.17560. Rows that lie side by side keep different groups, each of which
// meets an x of its own: so a workgroup holds x in its memory, as numbers or as integers, HOLD packets of columns
// at a time, all of them where there is room. It sums TILES tiles of four rows; LANES lanes share a tile, and
// each takes a load of codes of its rows at a time, whole groups or one of the PIECES of one, while the next is
// on its way. Codes are requested before x is copied.
//
// Reads the weight once, and x once a workgroup. More vectors than BATCH are taken in turns along z.
//
// Consts: WORKGROUP, TILES, BATCH, BITS; WORDS = words of a row that a lane takes at a time; GROUP =
// columns of a group, GROUP_WORDS = words of its codes, SLOT_WORDS = those of a piece; SCALE_WORDS;
// ZERO_BITS; MIDDLE = the zero where none is stored; HOLD; WHOLE = that is all packets.
// Fragments: linear, bias, y_words, load, scale, scales_fours_quads or scales_fours_words, fours, what
// holds x with what it needs, and slot_floats or slot_held.
const PIECES: u32 = GROUP_WORDS / SLOT_WORDS;
const PIECE: u32 = GROUP / PIECES;   // columns
const SLOTS: u32 = WORDS / SLOT_WORDS;   // of a row

// What a lane takes at a time: codes of each of four rows, and of each slot the scales and the numbers of
// the groups of all four. The codes are no array of arrays: NVIDIA's compiler keeps those in memory.
struct Round {
    a: array<u32, WORDS>,
    b: array<u32, WORDS>,
    c: array<u32, WORDS>,
    d: array<u32, WORDS>,
    scales: array<vec4<u32>, SLOTS>,
    numbers: array<vec4<u32>, SLOTS>,
}

fn fetch(row_at: vec4<u32>, row0: u32, item: u32) -> Round {
    var round: Round;
    round.a = load(row_at.x, item);
    round.b = load(row_at.y, item);
    round.c = load(row_at.z, item);
    round.d = load(row_at.w, item);
    let scales = (params.scales + row0 / ROWS * params.scale_stride) / 4u;
    for (var g = 0u; g < SLOTS; g++) {
        let at = scales + (item / PIECES * SLOTS + g) * SCALE_WORDS;
        round.scales[g] = scales_at(at);
        if SCALE_WORDS == 2u {
            round.numbers[g] = scales_at(at + 1u);
        } else {
            round.numbers[g] = round.scales[g] >> vec4(16u + ZERO_BITS);
        }
    }
    return round;
}

// The columns where the pieces of a slot begin, of the four rows.
fn columns_of(round: Round, g: u32, item: u32) -> vec4<u32> {
    return round.numbers[g] * GROUP + vec4(item % PIECES * PIECE);
}

// The sums of slot g of a row's load, whose x begins at column `col` of what is held; zero if it lies elsewhere.
fn slot_sums(codes: array<u32, WORDS>, g: u32, word: u32, col: u32) -> array<f32, BATCH> {
    let scale = scale_of(word);
    // Spare slots have scale 0; the x they point at must not matter.
    let meets = scale != 0.0 && (WHOLE || col < HOLD * SPAN);
    var sums = dot_slot(codes, g, word, select(0u, col, meets));
    for (var b = 0u; b < BATCH; b++) {
        sums[b] = select(0.0, scale * sums[b], meets);
    }
    return sums;
}

// Adds a load of each row, as far as its x is held: the columns from `first` on.
fn add_round(acc: ptr<function, array<vec4<f32>, BATCH>>, round: Round, item: u32, first: u32) {
    for (var g = 0u; g < SLOTS; g++) {
        let words = round.scales[g];
        let columns = columns_of(round, g, item) - vec4(first);
        let a = slot_sums(round.a, g, words.x, columns.x);
        let b = slot_sums(round.b, g, words.y, columns.y);
        let c = slot_sums(round.c, g, words.z, columns.z);
        let d = slot_sums(round.d, g, words.w, columns.w);
        for (var v = 0u; v < BATCH; v++) {
            (*acc)[v] += vec4(a[v], b[v], c[v], d[v]);
        }
    }
}

fn least(four: vec4<u32>) -> u32 {
    return min(min(four.x, four.y), min(four.z, four.w));
}

fn most(four: vec4<u32>) -> u32 {
    return max(max(four.x, four.y), max(four.z, four.w));
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
    let last = (params.scale_stride / (4u * SCALE_WORDS)) / SLOTS * PIECES - 1u;
    var acc: array<vec4<f32>, BATCH>;
    var own = lane % LANES;
    var next = fetch(row_at, row0, min(own, last));
    if WHOLE {
        hold(0u, lane);
        for (var item = own; item <= last; item += LANES) {
            let round = next;
            next = fetch(row_at, row0, min(item + LANES, last));
            add_round(&acc, round, item, 0u);
        }
    } else {
        // The windows of groups of each row ascend. A load that has not met all of its x yet is taken again.
        for (var first = 0u; first < params.cols; first += HOLD * SPAN) {
            workgroupBarrier();
            hold(first / SPAN, lane);
            let end = first + HOLD * SPAN;
            next = fetch(row_at, row0, min(own, last));
            for (var item = own; item <= last; item += LANES) {
                let round = next;
                next = fetch(row_at, row0, min(item + LANES, last));
                if least(columns_of(round, 0u, item)) >= end {
                    break;
                }
                add_round(&acc, round, item, first);
                if most(columns_of(round, SLOTS - 1u, item)) < end {
                    own = item + LANES;
                }
            }
        }
    }
    finish(acc, first_row, lane);
}
