// y[b, r] = bias[r] + Σ_k scale(k) · (Σ_i code(k, i) · x[b, c(k) + i] − zero(k) · Σ_i x[b, c(k) + i])
//
// over the kept groups k of row r, whose first column is c(k), for BATCH vectors. GQSA,
// https://arxiv.org/abs/2412.17560. One workgroup sums ROWS rows, one after the other; each
// lane takes a packet of GROUPS kept groups at a time: their codes are contiguous, the x of a
// group is, and only that x is read.
//
// Reads the weight once and the x of every kept group: (BITS + 32) / group + 32 bits of x a
// weight, which caches serve. 2 · kept · batch FLOPs.
//
// Consts: WORKGROUP, ROWS, BATCH, BITS; GROUP = columns of a group; GROUP_WORDS = words of its
// codes; GROUPS, WORDS = GROUPS · GROUP_WORDS of a packet; SCALE_WORDS; ZERO_BITS; MIDDLE = the
// zero where none is stored; EDGE = the last group reaches past `cols`.
// Fragments: linear, bias, load, code, x, reduce.
const ACC: u32 = ROWS * BATCH;

fn store_sum(row0: u32, i: u32, sum: f32) {
    let row = row0 + i / BATCH;
    if row < params.rows {
        store(row, i % BATCH, sum);
    }
}

// x of a group, zero beyond `cols`.
fn group_x(vector: u32, col: u32) -> array<f32, GROUP> {
    var xs: array<f32, GROUP>;
    if EDGE {
        for (var i = 0u; i < GROUP; i++) {
            let at = min(col + i, params.cols - 1u);
            xs[i] = select(0.0, x_at(vector, at), col + i < params.cols);
        }
    } else {
        for (var q = 0u; q < GROUP / 4u; q++) {
            let quad = x_quad(vector, col / 4u + q);
            xs[4u * q] = quad.x;
            xs[4u * q + 1u] = quad.y;
            xs[4u * q + 2u] = quad.z;
            xs[4u * q + 3u] = quad.w;
        }
    }
    return xs;
}

fn add_group(
    acc: ptr<function, array<f32, ACC>>,
    r: u32,
    packed: array<u32, WORDS>,
    g: u32,
    k: u32,
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
        let xs = group_x(b, number * GROUP);
        var dot = 0.0;
        var sum = 0.0;
        for (var i = 0u; i < GROUP; i++) {
            dot += code(packed, g * GROUP_WORDS * 32u, i) * xs[i];
            sum += xs[i];
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
        let packets = (words[params.indices + row + 1u] - begin) / GROUPS;
        for (var base = 0u; base < packets; base += WORKGROUP) {
            let packet = base + lane.index;
            if packet < packets {
                let packed = load(params.values + begin * GROUP_WORDS, packet);
                for (var g = 0u; g < GROUPS; g++) {
                    add_group(&acc, r, packed, g, begin + packet * GROUPS + g);
                }
            }
        }
    }

    finish(acc, row0, lane);
}
