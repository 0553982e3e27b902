// y[b, r] = bias[r] + Σ_k scale(k) · (Σ_i code(k, i) · x[b, c(k) + i] − zero(k) · Σ_i x[b, c(k) + i])
//
// over the kept groups k of row r, whose first column is c(k), for BATCH vectors. GQSA,
// https://arxiv.org/abs/2412.17560. One workgroup sums ROWS rows, one after the other; each
// lane takes a packet at a time, GROUPS kept groups or one of the PIECES of a group: codes are
// contiguous, the x of a group is, and only that x is read.
//
// Reads the weight once and the x of every kept group: (BITS + 32) / group + 32 bits of x a
// weight, which caches serve. 2 · kept · batch FLOPs.
//
// Consts: WORKGROUP, ROWS, BATCH, BITS; GROUP = columns of a group; GROUP_WORDS = words of its
// codes; WORDS of a packet; SCALE_WORDS; ZERO_BITS; MIDDLE = the zero where none is stored;
// EDGE = the last group reaches past `cols`.
// Fragments: linear, bias, load, code, x, reduce.
const ACC: u32 = ROWS * BATCH;
const GROUPS: u32 = max(1u, WORDS / GROUP_WORDS);
const PIECES: u32 = max(1u, GROUP_WORDS / WORDS);
const PIECE: u32 = GROUP / PIECES;   // columns

fn store_sum(row0: u32, i: u32, sum: f32) {
    let row = row0 + i / BATCH;
    if row < params.rows {
        store(row, i % BATCH, sum);
    }
}

// Eight columns of x, zero beyond `cols`.
fn chunk_x(vector: u32, col: u32) -> array<f32, 8> {
    var xs: array<f32, 8>;
    if EDGE {
        for (var i = 0u; i < 8u; i++) {
            let at = min(col + i, params.cols - 1u);
            xs[i] = select(0.0, x_at(vector, at), col + i < params.cols);
        }
    } else {
        let low = x_quad(vector, col / 4u);
        let high = x_quad(vector, col / 4u + 1u);
        xs = array<f32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
    }
    return xs;
}

fn add_group(
    acc: ptr<function, array<f32, ACC>>,
    r: u32,
    packed: array<u32, WORDS>,
    g: u32,
    k: u32,
    piece: u32,
) {
    let word = words[params.scales + k * SCALE_WORDS];
    var number = word >> (16u + ZERO_BITS);
    if SCALE_WORDS == 2u {
        number = words[params.scales + k * SCALE_WORDS + 1u];
    }
    var zero = MIDDLE;
    if ZERO_BITS != 0u {
        zero = f32(i32((word >> 16u) & ((1u << ZERO_BITS) - 1u)));
    }
    let scale = scale_of(word);
    for (var b = 0u; b < BATCH; b++) {
        var dots: array<f32, PIECE / 8u>;
        var sums: array<f32, PIECE / 8u>;
        for (var c = 0u; c < PIECE / 8u; c++) {
            let xs = chunk_x(b, number * GROUP + piece * PIECE + c * 8u);
            for (var i = 0u; i < 8u; i++) {
                dots[c] += code(packed, g * GROUP_WORDS * 32u / BITS + c * 8u + i) * xs[i];
                sums[c] += xs[i];
            }
        }
        var dot = 0.0;
        var sum = 0.0;
        for (var c = 0u; c < PIECE / 8u; c++) {
            dot += dots[c];
            sum += sums[c];
        }
        // Groups that fill up a row have scale 0; the x they point at must not matter.
        (*acc)[r * BATCH + b] += select(0.0, scale * (dot - zero * sum), scale != 0.0);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    lane: Lane,
) {
    let row0 = (group.x + group.y * groups.x) * ROWS;
    if row0 >= params.rows {
        return;
    }
    stage_x(lane.index);

    var acc: array<f32, ACC>;
    for (var r = 0u; r < ROWS; r++) {
        // Rows past the end repeat the last one; their sums are not stored.
        let row = min(row0 + r, params.rows - 1u);
        let begin = words[params.indices + row];
        let packets = (words[params.indices + row + 1u] - begin) * PIECES / GROUPS;
        for (var base = 0u; base < packets; base += WORKGROUP) {
            let packet = base + lane.index;
            if packet < packets {
                let packed = load(params.values + begin * GROUP_WORDS, packet);
                for (var g = 0u; g < GROUPS; g++) {
                    let k = begin + packet / PIECES * GROUPS + g;
                    add_group(&acc, r, packed, g, k, packet % PIECES);
                }
            }
        }
    }

    finish(acc, row0, lane);
}
