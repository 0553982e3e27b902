// y[b, r] = bias[r] + Σ_s W[r, s] · x[b, column(s)]   for any batch, on GPUs
//
// One workgroup computes TILE_ROWS x TILE_BATCH of y, each invocation TR x TB of it in
// registers. Step by step TILE_COLS columns of x and the stored weights that meet them
// are staged in workgroup memory, where x[column] is found for free: an invocation reads
// it once for the SHARE of its rows that use the same columns. Only stored weights are
// multiplied, so what x holds elsewhere, NaN included, does not matter.
//
// Consts: WORKGROUP, TILE_ROWS, TILE_BATCH, TILE_COLS, TILE_SLOTS, TR, TB, SHARE.
// Fragments: linear, bias, decoded (and what it loads with), tile.
@group(0) @binding(1) var<storage, read> x: array<f32>;

const X_STRIDE: u32 = TILE_BATCH / 4u + 1u;   // one quad more: no bank conflicts
var<workgroup> x_tile: array<vec4<f32>, TILE_COLS * X_STRIDE>;

// The weights of a step: one row of the tile a slot, four rows a quad.
const W_STRIDE: u32 = TILE_ROWS / 4u + 1u;
var<workgroup> w_tile: array<vec4<f32>, TILE_SLOTS * W_STRIDE>;

fn stage_weight(row0: u32, step: u32, lane: u32) {
    const ACROSS = TILE_SLOTS / SPAN;
    let last = params.rows - 1u;
    let packets = (params.slots + SPAN - 1u) / SPAN;
    for (var i = lane; i < ACROSS * TILE_ROWS / 4u; i += WORKGROUP) {
        let packet = step * ACROSS + i % ACROSS;
        let quad = i / ACROSS;
        var values: array<array<f32, SPAN>, 4>;
        for (var k = 0u; k < 4u; k++) {
            // Rows past the end repeat the last one; their sums are not stored.
            let row = min(row0 + 4u * quad + k, last);
            if packet < packets {
                values[k] = decoded(row, packet);
            }
        }
        for (var j = 0u; j < SPAN; j++) {
            w_tile[(i % ACROSS * SPAN + j) * W_STRIDE + quad] =
                vec4(values[0][j], values[1][j], values[2][j], values[3][j]);
        }
    }
}

fn x_or_zero(vector: u32, col: u32) -> f32 {
    if vector < params.batch && col < params.cols {
        return x[vector * params.cols + col];
    }
    return 0.0;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.batch + TILE_BATCH - 1u) / TILE_BATCH;
    let id = group.x + group.y * groups.x;
    let vector0 = id % across * TILE_BATCH;
    let row0 = id / across * TILE_ROWS;
    if row0 >= params.rows {
        return;
    }
    let lane_vector = lane % (TILE_BATCH / TB) * TB;
    let lane_row = lane / (TILE_BATCH / TB) * TR;

    var acc: array<vec4<f32>, TR * TB / 4u>;
    let steps = (params.cols + TILE_COLS - 1u) / TILE_COLS;
    for (var step = 0u; step < steps; step++) {
        workgroupBarrier();
        for (var i = lane; i < TILE_COLS * TILE_BATCH / 4u; i += WORKGROUP) {
            let col = step * TILE_COLS + i % TILE_COLS;
            let quad = i / TILE_COLS;
            let vector = vector0 + 4u * quad;
            x_tile[i % TILE_COLS * X_STRIDE + quad] = vec4(
                x_or_zero(vector, col),
                x_or_zero(vector + 1u, col),
                x_or_zero(vector + 2u, col),
                x_or_zero(vector + 3u, col),
            );
        }
        stage_weight(row0, step, lane);
        stage_columns(row0, step, lane);
        workgroupBarrier();

        // Slots of the tile that the row still has.
        let here = min(TILE_SLOTS, params.slots - step * TILE_SLOTS);
        for (var s = 0u; s < here; s++) {
            var ws: array<vec4<f32>, TR / 4u>;
            for (var q = 0u; q < TR / 4u; q++) {
                ws[q] = w_tile[s * W_STRIDE + lane_row / 4u + q];
            }
            for (var block = 0u; block < TR / SHARE; block++) {
                let col = tile_column(s, row0, lane_row + block * SHARE);
                var xs: array<vec4<f32>, TB / 4u>;
                for (var t = 0u; t < TB / 4u; t++) {
                    xs[t] = x_tile[col * X_STRIDE + lane_vector / 4u + t];
                }
                for (var i = 0u; i < SHARE; i++) {
                    let r = block * SHARE + i;
                    for (var t = 0u; t < TB / 4u; t++) {
                        acc[r * (TB / 4u) + t] += ws[r / 4u][r % 4u] * xs[t];
                    }
                }
            }
        }
    }

    for (var r = 0u; r < TR; r++) {
        let row = row0 + lane_row + r;
        for (var t = 0u; t < TB; t++) {
            let vector = vector0 + lane_vector + t;
            if row < params.rows && vector < params.batch {
                store(row, vector, acc[r * (TB / 4u) + t / 4u][t % 4u]);
            }
        }
    }
}
