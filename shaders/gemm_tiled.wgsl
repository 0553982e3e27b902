// y[b, r] = bias[r] + Σ_s W[r, s] · x[b, column(s)]   for any batch, on GPUs
//
// One workgroup computes TILE_ROWS x TILE_BATCH of y. Its lanes are teams: each team holds the whole tile in
// registers, TR x TB a lane, and sums slots of its own; at the end the teams' sums are added in a fixed order. So
// even a few tiles keep a whole GPU busy.
//
// Step by step TILE_SLOTS slots and the TILE_COLS columns they meet are staged in workgroup
// memory, 16 bytes at a time; the next step is fetched into registers while this one is
// multiplied. There x[column] is found for free: a lane reads it once for the SHARE of its rows
// that use the same columns. Only stored weights are multiplied, so what x holds elsewhere, NaN
// included, does not matter. Past the last column both are zero: every step is a whole one.
//
// A lane takes four slots at a time: 4 · TB / 4 quads of x and TR of W for 4 · TR · TB products. For weights that
// do not keep every column that is staged, `products` leaves out what must not count.
//
// Consts: WORKGROUP, TILE_ROWS, TILE_BATCH, TILE_COLS, TILE_SLOTS, TR, TB, SHARE; W_PLANE =
// quads of a plane of W; ROUND = sums of a lane that are added at a time; EDGE = the last
// columns do not fill a quad.
// Fragments: linear, bias, x, tile, products; decoded (and what it loads with), tile_weights and tile_put for
// weights by rows, tile_bands and what decodes its packets for those in bands.
const QUADS: u32 = TILE_SLOTS / 4u;
const COL_QUADS: u32 = TILE_COLS / 4u;
const ACROSS: u32 = TILE_BATCH / TB;   // lanes of a team along the batch
const TEAM: u32 = TILE_ROWS / TR * ACROSS;
const TEAMS: u32 = WORKGROUP / TEAM;
const SUMS: u32 = TR * TB / 4u;

// Plane t: quad t of every lane, by columns; one quad more after every four columns, so that lanes that stage or
// read side by side do not meet in a bank. Constant indices, like t, come first: what follows is then checked and
// computed once for all of them.
const X_PLANE: u32 = TILE_COLS * ACROSS + COL_QUADS;
var<workgroup> x_tile: array<array<vec4<f32>, X_PLANE>, TB / 4u>;

// Plane r: row r of every lane, four slots a quad. The stride is odd for the same reason.
const W_STRIDE: u32 = QUADS | 1u;
var<workgroup> w_tile: array<array<vec4<f32>, W_PLANE>, TR>;

// A lane's part of a step's x: squares of four vectors by four columns.
const X_ITEMS: u32 = COL_QUADS * TILE_BATCH / 4u;
const X_HELD: u32 = (X_ITEMS + WORKGROUP - 1u) / WORKGROUP;

fn fetch_x(vector0: u32, step: u32, lane: u32) -> array<array<vec4<f32>, 4>, X_HELD> {
    var held: array<array<vec4<f32>, 4>, X_HELD>;
    for (var k = 0u; k < X_HELD; k++) {
        let i = min(k * WORKGROUP + lane, X_ITEMS - 1u);
        let quad = min(step * COL_QUADS + i % COL_QUADS, (params.cols - 1u) / 4u);
        for (var v = 0u; v < 4u; v++) {
            let vector = min(vector0 + i / COL_QUADS * 4u + v, params.batch - 1u);
            held[k][v] = x_quad(vector, quad);
        }
    }
    return held;
}

fn put_x(held: array<array<vec4<f32>, 4>, X_HELD>, step: u32, lane: u32) {
    for (var k = 0u; k < X_HELD; k++) {
        let i = k * WORKGROUP + lane;
        if X_ITEMS % WORKGROUP == 0u || i < X_ITEMS {
            let quad = i % COL_QUADS;
            let plane = i / COL_QUADS / ACROSS;
            let at = quad * (4u * ACROSS + 1u) + i / COL_QUADS % ACROSS;
            let col = step * TILE_COLS + 4u * quad;
            for (var j = 0u; j < 4u; j++) {
                let four = vec4(held[k][0][j], held[k][1][j], held[k][2][j], held[k][3][j]);
                // Without EDGE the four columns of a quad end together.
                x_tile[plane][at + j * ACROSS] =
                    select(vec4<f32>(), four, col + select(0u, j, EDGE) < params.cols);
                look_at(x_tile[plane][at + j * ACROSS], step);
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
    let tiles = (params.batch + TILE_BATCH - 1u) / TILE_BATCH;
    let id = group.x + group.y * groups.x;
    let vector0 = id % tiles * TILE_BATCH;
    let row0 = id / tiles * TILE_ROWS;
    if row0 >= params.rows {
        return;
    }
    let team = lane / TEAM;
    let lane_across = lane % TEAM % ACROSS;
    let lane_down = lane % TEAM / ACROSS;

    // Sum t · TR + r: row r of the lane, four vectors.
    var acc: array<vec4<f32>, SUMS>;
    let steps = (params.cols + TILE_COLS - 1u) / TILE_COLS;
    var weights = fetch_weights(row0, 0u, lane);
    var xs = fetch_x(vector0, 0u, lane);
    var columns = fetch_columns(row0, 0u, lane);
    forget(0u, lane);
    for (var step = 0u; step < steps; step++) {
        workgroupBarrier();
        put_weights(weights, step, lane);
        put_x(xs, step, lane);
        put_columns(columns, lane);
        workgroupBarrier();
        weights = fetch_weights(row0, step + 1u, lane);
        xs = fetch_x(vector0, step + 1u, lane);
        columns = fetch_columns(row0, step + 1u, lane);
        let odd = is_odd(step);
        forget(step + 1u, lane);

        for (var turn = 0u; turn < (QUADS + TEAMS - 1u) / TEAMS; turn++) {
            let quad = turn * TEAMS + team;
            if QUADS % TEAMS != 0u && quad >= QUADS {
                break;
            }
            let w_at = lane_down * W_STRIDE + quad;
            for (var block = 0u; block < TR / SHARE; block++) {
                let at = x_places(quad, row0, lane_down * TR + block * SHARE)
                    + vec4(lane_across);
                var x0: array<vec4<f32>, TB / 4u>;
                var x1: array<vec4<f32>, TB / 4u>;
                var x2: array<vec4<f32>, TB / 4u>;
                var x3: array<vec4<f32>, TB / 4u>;
                for (var t = 0u; t < TB / 4u; t++) {
                    x0[t] = x_tile[t][at.x];
                    x1[t] = x_tile[t][at.y];
                    x2[t] = x_tile[t][at.z];
                    x3[t] = x_tile[t][at.w];
                }
                for (var i = 0u; i < SHARE; i++) {
                    let r = block * SHARE + i;
                    let w = w_tile[r][w_at];
                    for (var t = 0u; t < TB / 4u; t++) {
                        var sum = acc[t * TR + r];
                        if odd {
                            sum += w.x * kept(w.x, x0[t]);
                            sum += w.y * kept(w.y, x1[t]);
                            sum += w.z * kept(w.z, x2[t]);
                            sum += w.w * kept(w.w, x3[t]);
                        } else {
                            sum += w.x * x0[t];
                            sum += w.y * x1[t];
                            sum += w.z * x2[t];
                            sum += w.w * x3[t];
                        }
                        acc[t * TR + r] = sum;
                    }
                }
            }
        }
    }

    // The teams' sums are added where the weights were, ROUND of a lane at a time, and leave by rows.
    for (var round = 0u; round < SUMS / ROUND; round++) {
        workgroupBarrier();
        for (var s = 0u; s < SUMS; s++) {
            if s / ROUND == round {
                let at = s % ROUND * (WORKGROUP + 1u) + lane;
                w_tile[at / W_PLANE][at % W_PLANE] = acc[s];
            }
        }
        workgroupBarrier();
        for (var i = lane; i < ROUND * TEAM; i += WORKGROUP) {
            var sum: vec4<f32>;
            for (var k = 0u; k < TEAMS; k++) {
                let at = i % ROUND * (WORKGROUP + 1u) + k * TEAM + i / ROUND;
                sum += w_tile[at / W_PLANE][at % W_PLANE];
            }
            let s = round * ROUND + i % ROUND;
            let row = row0 + i / ROUND / ACROSS * TR + s % TR;
            let vector = vector0 + 4u * (s / TR * ACROSS + i / ROUND % ACROSS);
            for (var v = 0u; v < 4u; v++) {
                if row < params.rows && vector + v < params.batch {
                    store(row, vector + v, sum[v]);
                }
            }
        }
    }
}
