// y[b, r] = bias[r] + Σ_k scale(k) · Σ_i (code(k, i) − zero(k)) · x[b, c(k) + i]
//
// over the kept groups k of row r, whose first column is c(k), for any batch, on GPUs. A workgroup
// sums a panel of PANEL rows x 4 · ACROSS vectors. Step by step CHUNK slots are decoded into
// workgroup memory; its lanes are teams of ACROSS, and each team takes slots of its own, a lane
// four vectors. Slots lie by columns, so that PIECE columns of x, loaded to registers once, serve
// all successive slots that meet them. Sums of rows lie in workgroup memory, where lanes meet nobody
// else's; at the end the teams' are added in order.
//
// A piece of a slot costs a lane PIECE / 4 loads of values and one access to a sum for PIECE · 4 products.
//
// Consts: WORKGROUP, ACROSS, PANEL, BLOCK, CHUNK, PIECE, BITS; GROUP = columns of a group;
// GROUP_WORDS = words of its codes; SCALE_WORDS; ZERO_BITS; MIDDLE = the zero where none is
// stored; EDGE = the last group, or quad, reaches past `cols`.
// Fragments: linear, bias, scale, slot, x, index_words.
const TEAMS: u32 = WORKGROUP / ACROSS;
const OWN: u32 = CHUNK / TEAMS;   // slots of a team
const QUADS: u32 = GROUP / 4u;

// `values`: CHUNK slots, four values a quad. `heads`: the row and the first column of each slot.
var<workgroup> values: array<vec4<f32>, CHUNK * QUADS>;
var<workgroup> heads: array<vec2<u32>, CHUNK>;
var<workgroup> sums: array<vec4<f32>, PANEL * WORKGROUP>;

// Quad q of a slot's codes, as values.
fn decode(slot: u32, q: u32, word: u32) -> vec4<f32> {
    let bit = q * 4u * BITS;
    let at = params.values + slot * GROUP_WORDS + bit / 32u;
    var fields = words[at] >> (bit % 32u);
    if 32u % (4u * BITS) != 0u {
        // Two shifts, because WGSL has none by 32.
        fields |= (words[at + 1u] << (31u - bit % 32u)) << 1u;
    }
    let codes = (vec4(fields) >> (vec4(0u, 1u, 2u, 3u) * BITS)) & vec4((1u << BITS) - 1u);
    var zero = MIDDLE;
    if ZERO_BITS != 0u {
        zero = f32(i32((word >> 16u) & ((1u << ZERO_BITS) - 1u)));
    }
    return scale_of(word) * (vec4<f32>(vec4<i32>(codes)) - zero);
}

fn stage(first: u32, lane: u32) {
    for (var i = lane; i < CHUNK; i += WORKGROUP) {
        let word = scale_word(first + i);
        let row = (word >> (16u + ZERO_BITS)) % PANEL;
        // A spare slot, of scale 0, belongs to no row: the x that it points at must not matter.
        let to = select(row, PANEL, scale_of(word) == 0.0);
        heads[i] = vec2(to, first_column(column_word(first + i), word));
    }
    for (var i = lane; i < CHUNK * QUADS; i += WORKGROUP) {
        let slot = first + i / QUADS;
        values[i] = decode(slot, i % QUADS, scale_word(slot));
    }
}

// Columns 4·quad … of four vectors, by columns, zero beyond `cols`.
fn x_square(vector0: u32, quad: u32) -> array<vec4<f32>, 4> {
    var rows: array<vec4<f32>, 4>;
    for (var v = 0u; v < 4u; v++) {
        // Sums of vectors past the end are not stored.
        let vector = min(vector0 + v, params.batch - 1u);
        if EDGE {
            for (var j = 0u; j < 4u; j++) {
                let col = 4u * quad + j;
                rows[v][j] = select(0.0, x_at(vector, min(col, params.cols - 1u)), col < params.cols);
            }
        } else {
            rows[v] = x_quad(vector, quad);
        }
    }
    return array(
        vec4(rows[0].x, rows[1].x, rows[2].x, rows[3].x),
        vec4(rows[0].y, rows[1].y, rows[2].y, rows[3].y),
        vec4(rows[0].z, rows[1].z, rows[2].z, rows[3].z),
        vec4(rows[0].w, rows[1].w, rows[2].w, rows[3].w),
    );
}

// Adds the products of the staged slots from `begin` to `end`, all of the group that starts at column `first`.
fn add_slots(begin: u32, end: u32, first: u32, vector0: u32, lane: u32) {
    for (var piece = 0u; piece < GROUP / PIECE; piece++) {
        var xs: array<vec4<f32>, PIECE>;
        for (var q = 0u; q < PIECE / 4u; q++) {
            let square = x_square(vector0, first / 4u + piece * (PIECE / 4u) + q);
            for (var j = 0u; j < 4u; j++) {
                xs[4u * q + j] = square[j];
            }
        }
        for (var s = begin; s < end; s++) {
            let row = heads[s].x;
            if row < PANEL {
                var sum = sums[row * WORKGROUP + lane];
                for (var q = 0u; q < PIECE / 4u; q++) {
                    let w = values[s * QUADS + piece * (PIECE / 4u) + q];
                    sum += w.x * xs[4u * q];
                    sum += w.y * xs[4u * q + 1u];
                    sum += w.z * xs[4u * q + 2u];
                    sum += w.w * xs[4u * q + 3u];
                }
                sums[row * WORKGROUP + lane] = sum;
            }
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles = (params.batch + 4u * ACROSS - 1u) / (4u * ACROSS);
    let id = group.x + group.y * groups.x;
    let panel = id / tiles;
    let tile = id % tiles * ACROSS * 4u;
    if panel * PANEL >= params.rows {
        return;
    }
    for (var r = 0u; r < PANEL; r++) {
        sums[r * WORKGROUP + lane] = vec4<f32>();
    }
    let end = words[params.indices + panel + 1u];
    for (var first = words[params.indices + panel]; first < end; first += CHUNK) {
        workgroupBarrier();
        stage(first, lane);
        workgroupBarrier();
        var at = lane / ACROSS * OWN;
        let stop = at + OWN;
        while at < stop {
            let column = heads[at].y;
            var next = at + 1u;
            while next < stop && heads[min(next, CHUNK - 1u)].y == column {
                next++;
            }
            add_slots(at, next, column, tile + lane % ACROSS * 4u, lane);
            at = next;
        }
    }
    workgroupBarrier();
    for (var i = lane; i < PANEL * ACROSS; i += WORKGROUP) {
        var sum: vec4<f32>;
        for (var team = 0u; team < TEAMS; team++) {
            sum += sums[i / ACROSS * WORKGROUP + team * ACROSS + i % ACROSS];
        }
        let row = panel * PANEL + i / ACROSS;
        let vector = tile + i % ACROSS * 4u;
        for (var v = 0u; v < 4u; v++) {
            if row < params.rows && vector + v < params.batch {
                store(row, vector + v, sum[v]);
            }
        }
    }
}
