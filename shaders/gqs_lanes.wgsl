// y[b, r] = bias[r] + Σ_k scale(k) · Σ_i (code(k, i) − zero(k)) · x[b, c(k) + i]
//
// over the kept groups k of row r, whose first column is c(k), for any batch, on CPU adapters.
// Lanes lie along the batch: a workgroup sums a panel of PANEL rows x LANES · STRIPS vectors. It
// goes through the panel run by run: all of a run meets the same x, which lanes hold in registers.
// Each lane decodes a slot of its own and hands the values round. Sums of rows lie in workgroup
// memory, where lanes meet nobody else's, and are touched once a slot.
//
// Consts: LANES, PANEL, STRIPS, BITS; GROUP = columns of a group; WORDS = words of its codes;
// PARTS = 1 to 4, of a group; ZERO_BITS; MIDDLE = the zero where none is stored; EDGE = the last
// group, or quad, reaches past `cols`.
// Fragments: linear, y, bias, load, code_quad, scale, hold, x, pieces.
const QUADS: u32 = GROUP / 4u;
const PART: u32 = QUADS / PARTS;

// Sum r · STRIPS + t belongs to row r of the panel and vector t of the lane.
var<workgroup> sums: array<f32, PANEL * STRIPS * LANES>;

fn x_or_zero(vector: u32, col: u32) -> f32 {
    return select(0.0, x_at(vector, min(col, params.cols - 1u)), col < params.cols);
}

// Drivers unroll only short loops, so long groups come in parts.
fn fetch_x(
    xs: ptr<function, array<vec4<f32>, STRIPS * QUADS>>,
    p: u32,
    vector0: u32,
    first: u32,
) {
    if p >= PARTS {
        return;
    }
    for (var t = 0u; t < STRIPS; t++) {
        // Sums of vectors past the end are not stored.
        let vector = min(vector0 + t, params.batch - 1u);
        for (var i = 0u; i < PART; i++) {
            let q = p * PART + i;
            if EDGE {
                let col = first + 4u * q;
                (*xs)[t * QUADS + q] = vec4(
                    x_or_zero(vector, col),
                    x_or_zero(vector, col + 1u),
                    x_or_zero(vector, col + 2u),
                    x_or_zero(vector, col + 3u),
                );
            } else {
                (*xs)[t * QUADS + q] = x_quad(vector, first / 4u + q);
            }
        }
    }
}

fn decode(
    values: ptr<function, array<vec4<f32>, QUADS>>,
    p: u32,
    packed: array<u32, WORDS>,
    word: u32,
) {
    if p >= PARTS {
        return;
    }
    var zero = MIDDLE;
    if ZERO_BITS != 0u {
        zero = f32(i32((word >> 16u) & ((1u << ZERO_BITS) - 1u)));
    }
    for (var i = 0u; i < PART; i++) {
        let codes = code_quad(packed, (p * PART + i) * 4u * BITS);
        (*values)[p * PART + i] = scale_of(word) * (codes - zero);
    }
}

// Adds to `dots` the products of x and part p of the slot that lane `owner` holds.
fn add_part(
    dots: ptr<function, array<f32, STRIPS>>,
    p: u32,
    values: array<vec4<f32>, QUADS>,
    owner: u32,
    xs: array<vec4<f32>, STRIPS * QUADS>,
) {
    if p >= PARTS {
        return;
    }
    for (var i = 0u; i < PART; i++) {
        let own = values[p * PART + i];
        let value = vec4(
            hand_round(own.x, owner),
            hand_round(own.y, owner),
            hand_round(own.z, owner),
            hand_round(own.w, owner),
        );
        for (var t = 0u; t < STRIPS; t++) {
            (*dots)[t] += dot(value, xs[t * QUADS + p * PART + i]);
        }
    }
}

// Adds the slots from `begin` to `end` of the run whose group starts at column `first`.
fn add_run(begin: u32, end: u32, first: u32, vector0: u32, lane: u32) {
    var xs: array<vec4<f32>, STRIPS * QUADS>;
    fetch_x(&xs, 0u, vector0, first);
    fetch_x(&xs, 1u, vector0, first);
    fetch_x(&xs, 2u, vector0, first);
    fetch_x(&xs, 3u, vector0, first);
    for (var base = begin; base < end; base += HELD) {
        let slot = min(base + lane % HELD, end - 1u);
        let word = words[params.scales + slot];
        let packed = load(params.values, slot);
        var values: array<vec4<f32>, QUADS>;
        decode(&values, 0u, packed, word);
        decode(&values, 1u, packed, word);
        decode(&values, 2u, packed, word);
        decode(&values, 3u, packed, word);
        // A spare slot, of scale 0, belongs to no row: the x that it points at must not matter.
        let row = (word >> (16u + ZERO_BITS)) % PANEL;
        let own = select(f32(row), -1.0, scale_of(word) == 0.0);
        let here = min(HELD, end - base);
        for (var i = 0u; i < here; i++) {
            var dots: array<f32, STRIPS>;
            add_part(&dots, 0u, values, i, xs);
            add_part(&dots, 1u, values, i, xs);
            add_part(&dots, 2u, values, i, xs);
            add_part(&dots, 3u, values, i, xs);
            let to = hand_round(own, i);
            for (var t = 0u; t < STRIPS; t++) {
                let at = (u32(max(to, 0.0)) * STRIPS + t) * LANES + lane;
                sums[at] += select(0.0, dots[t], to >= 0.0);
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.batch + LANES * STRIPS - 1u) / (LANES * STRIPS);
    let id = group.x + group.y * groups.x;
    let panel = id / across;
    let vector0 = (id % across * LANES + lane) * STRIPS;
    if panel >= panels() {
        return;
    }
    for (var i = 0u; i < PANEL * STRIPS; i++) {
        sums[i * LANES + lane] = 0.0;
    }
    for (var number = 0u; number < params.index_stride; number++) {
        let run = panel * params.index_stride + number;
        add_run(run_start(run), run_start(run + 1u), number * GROUP, vector0, lane);
    }
    for (var r = 0u; r < PANEL; r += RUN) {
        let row = panel * PANEL + r;
        for (var t = 0u; t < STRIPS; t++) {
            if row < params.rows && vector0 + t < params.batch {
                var run: array<f32, RUN>;
                for (var i = 0u; i < RUN; i++) {
                    run[i] = sums[((r + i) * STRIPS + t) * LANES + lane];
                }
                store_run(row, vector0 + t, run);
            }
        }
    }
}
