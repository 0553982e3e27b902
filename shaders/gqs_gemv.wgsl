// y[b, r] = bias[r] + Σ_k scale(k) · (Σ_i code(k, i) · x[b, c(k) + i] − zero(k) · Σ_i x[b, c(k) + i])
//
// over the kept groups k of row r, whose first column is c(k), for BATCH vectors. GQSA,
// https://arxiv.org/abs/2412.17560. One workgroup sums a panel of PANEL rows, whose kept groups
// lie by columns. A lane takes a packet at a time, GROUPS kept groups or one of the PIECES of a
// group: lanes side by side meet the same few groups of columns, so x comes from the cache in a
// few lines. Each lane has sums of its own for all rows of the panel, in workgroup memory, where
// they lie so that no two lanes of a subgroup meet in a bank.
//
// Reads the weight once and x once a panel. 2 · kept · batch FLOPs.
//
// Consts: WORKGROUP, PANEL, BLOCK, BATCH, BITS; GROUP = columns of a group; GROUP_WORDS = words of
// its codes; WORDS of a packet; SCALE_WORDS; ZERO_BITS; MIDDLE = the zero where none is stored;
// EDGE = the last group reaches past `cols`.
// Fragments: linear, bias, load, code, scale, x.
const GROUPS: u32 = max(1u, WORDS / GROUP_WORDS);
const PIECES: u32 = max(1u, GROUP_WORDS / WORDS);
const PIECE: u32 = GROUP / PIECES;   // columns
const SUMS: u32 = PANEL * BATCH;

// Sum i belongs to row i / BATCH of the panel and vector i % BATCH.
var<workgroup> sums: array<f32, SUMS * WORKGROUP>;

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

// Adds what piece `piece` of kept group k gives; its codes are group g of a packet.
fn add_group(packed: array<u32, WORDS>, g: u32, k: u32, piece: u32, lane: u32) {
    let word = words[params.scales + k * SCALE_WORDS];
    var number = word >> (16u + ZERO_BITS);
    let row = number % PANEL;
    if SCALE_WORDS == 1u {
        number = words[params.indices + params.index_stride + k / BLOCK] + number / PANEL;
    } else {
        number = words[params.scales + k * SCALE_WORDS + 1u];
    }
    var zero = MIDDLE;
    if ZERO_BITS != 0u {
        zero = f32(i32((word >> 16u) & ((1u << ZERO_BITS) - 1u)));
    }
    let scale = scale_of(word);
    for (var b = 0u; b < BATCH; b++) {
        var dots: array<f32, PIECE / 8u>;
        var xsums: array<f32, PIECE / 8u>;
        for (var c = 0u; c < PIECE / 8u; c++) {
            let xs = chunk_x(b, number * GROUP + piece * PIECE + c * 8u);
            for (var i = 0u; i < 8u; i++) {
                dots[c] += code(packed, g * GROUP_WORDS * 32u / BITS + c * 8u + i) * xs[i];
                xsums[c] += xs[i];
            }
        }
        var dot = 0.0;
        var xsum = 0.0;
        for (var c = 0u; c < PIECE / 8u; c++) {
            dot += dots[c];
            xsum += xsums[c];
        }
        // Spare slots have scale 0; the x they point at must not matter.
        let at = (row * BATCH + b) * WORKGROUP + lane;
        sums[at] += select(0.0, scale * (dot - zero * xsum), scale != 0.0);
    }
}

fn add_packet(begin: u32, packet: u32, lane: u32) {
    let packed = load(params.values + begin * GROUP_WORDS, packet);
    for (var g = 0u; g < GROUPS; g++) {
        add_group(packed, g, begin + packet / PIECES * GROUPS + g, packet % PIECES, lane);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let panel = group.x + group.y * groups.x;
    if panel * PANEL >= params.rows {
        return;
    }
    for (var i = 0u; i < SUMS; i++) {
        sums[i * WORKGROUP + lane] = 0.0;
    }
    let begin = words[params.indices + panel];
    let packets = (words[params.indices + panel + 1u] - begin) * PIECES / GROUPS;
    // Rounds in which every lane has a packet come first: nothing is conditional there.
    let rounds = packets / WORKGROUP;
    for (var round = 0u; round < rounds; round++) {
        add_packet(begin, round * WORKGROUP + lane, lane);
    }
    let packet = rounds * WORKGROUP + lane;
    if packet < packets {
        add_packet(begin, packet, lane);
    }

    // All sums advance together, spread over all lanes.
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        for (var k = lane; k < SUMS * half; k += WORKGROUP) {
            let at = k / half * WORKGROUP + k % half;
            sums[at] += sums[at + half];
        }
    }
    workgroupBarrier();
    for (var i = lane; i < SUMS; i += WORKGROUP) {
        let row = panel * PANEL + i / BATCH;
        if row < params.rows {
            store(row, i % BATCH, sums[i * WORKGROUP]);
        }
    }
}
