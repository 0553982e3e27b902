// y[b, r] = bias[r] + Σ_s W[r, s] · x[b, column(s)]   for rows that share their columns, on GPUs
//
// One workgroup computes TILE_ROWS x TILE_BATCH of y, rows of one index set. Step by step TILE_SLOTS slots are staged
// in workgroup memory: the weights, and of the transposed x the columns of these slots and no others, so that a
// product costs what its stored weights cost. NM-SpMM (https://arxiv.org/abs/2503.01253) calls this the packing path.
// The next step is fetched into registers while this one is multiplied; its columns are looked up a step earlier.
//
// A lane holds 8 x 8 sums and takes two quads of W and two of x for 64 products.
//
// Consts: WORKGROUP, TILE_ROWS, TILE_BATCH, TILE_SLOTS; SPARE = the last step, or the last window, has
// slots without a column.
// Fragments: linear, bias, y, columns, decoded (and what it loads with), tile_weights.
@group(0) @binding(1) var<storage, read> xt: array<vec4<f32>>;

const DOWN: u32 = TILE_ROWS / 8u;
const ACROSS: u32 = TILE_BATCH / 8u;

// Quads of a slot. W has one more than needed, so that the slots of a row lie in different banks.
const W_STRIDE: u32 = TILE_ROWS / 4u + 1u;
const X_STRIDE: u32 = TILE_BATCH / 4u;
var<workgroup> w_tile: array<vec4<f32>, TILE_SLOTS * W_STRIDE>;
var<workgroup> x_tile: array<vec4<f32>, TILE_SLOTS * X_STRIDE>;

fn put_weights(held: array<array<u32, RAW>, W_HELD>, step: u32, lane: u32) {
    for (var k = 0u; k < W_HELD; k++) {
        let i = k * WORKGROUP + lane;
        if W_ITEMS % WORKGROUP == 0u || i < W_ITEMS {
            let row = i / PACKETS;
            let packet = step * PACKETS + i % PACKETS;
            let values = decode_packet(held[k], packet);
            for (var j = 0u; j < SPAN; j++) {
                let slot = i % PACKETS * SPAN + j;
                var value = values[j];
                if SPARE {
                    value = select(0.0, value, packet * SPAN < params.slots);
                }
                w_tile[slot * W_STRIDE + row / 4u][row % 4u] = value;
            }
        }
    }
}

// A lane's part of a step's x: quads of vectors, each of one column.
const X_HELD: u32 = TILE_SLOTS * X_STRIDE / WORKGROUP;

// Their columns, `cols` where a slot has none.
fn fetch_columns(block: u32, step: u32, lane: u32) -> array<u32, X_HELD> {
    var held: array<u32, X_HELD>;
    for (var k = 0u; k < X_HELD; k++) {
        let slot = step * TILE_SLOTS + (k * WORKGROUP + lane) / X_STRIDE;
        held[k] = column(block, min(slot, params.slots - 1u));
        if SPARE {
            held[k] = select(params.cols, held[k], slot < params.slots);
        }
    }
    return held;
}

fn fetch_x(columns: array<u32, X_HELD>, vector0: u32, lane: u32) -> array<vec4<f32>, X_HELD> {
    var held: array<vec4<f32>, X_HELD>;
    for (var k = 0u; k < X_HELD; k++) {
        let col = vector0 / TILE_BATCH * params.cols + min(columns[k], params.cols - 1u);
        held[k] = xt[col * X_STRIDE + (k * WORKGROUP + lane) % X_STRIDE];
    }
    return held;
}

fn put_x(held: array<vec4<f32>, X_HELD>, columns: array<u32, X_HELD>, lane: u32) {
    for (var k = 0u; k < X_HELD; k++) {
        var quad = held[k];
        if SPARE {
            quad = select(vec4<f32>(), quad, columns[k] < params.cols);
        }
        x_tile[k * WORKGROUP + lane] = quad;
    }
}

fn store_quad(row: u32, vector: u32, sums: vec4<f32>) {
    for (var i = 0u; i < 4u; i += RUN) {
        if row + i < params.rows && vector < params.batch {
            var run: array<f32, RUN>;
            for (var j = 0u; j < RUN; j++) {
                run[j] = sums[i + j];
            }
            store_run(row + i, vector, run);
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
    let block = row0 / V;
    let down = lane % DOWN;
    let across = lane / DOWN;

    // Sum 8 · t + 2 · j + q: quad q of the lane's rows, vector j of quad t of its vectors.
    var acc: array<vec4<f32>, 16>;
    let steps = (params.slots + TILE_SLOTS - 1u) / TILE_SLOTS;
    var weights = fetch_weights(row0, 0u, lane);
    var columns = fetch_columns(block, 0u, lane);
    var xs = fetch_x(columns, vector0, lane);
    var next = fetch_columns(block, 1u, lane);
    for (var step = 0u; step < steps; step++) {
        workgroupBarrier();
        put_weights(weights, step, lane);
        put_x(xs, columns, lane);
        workgroupBarrier();
        columns = next;
        weights = fetch_weights(row0, step + 1u, lane);
        xs = fetch_x(columns, vector0, lane);
        next = fetch_columns(block, step + 2u, lane);

        for (var k = 0u; k < TILE_SLOTS; k++) {
            let w0 = w_tile[k * W_STRIDE + down];
            let w1 = w_tile[k * W_STRIDE + DOWN + down];
            let x0 = x_tile[k * X_STRIDE + across];
            let x1 = x_tile[k * X_STRIDE + ACROSS + across];
            acc[0] += w0 * x0.x;
            acc[1] += w1 * x0.x;
            acc[2] += w0 * x0.y;
            acc[3] += w1 * x0.y;
            acc[4] += w0 * x0.z;
            acc[5] += w1 * x0.z;
            acc[6] += w0 * x0.w;
            acc[7] += w1 * x0.w;
            acc[8] += w0 * x1.x;
            acc[9] += w1 * x1.x;
            acc[10] += w0 * x1.y;
            acc[11] += w1 * x1.y;
            acc[12] += w0 * x1.z;
            acc[13] += w1 * x1.z;
            acc[14] += w0 * x1.w;
            acc[15] += w1 * x1.w;
        }
    }

    for (var t = 0u; t < 2u; t++) {
        for (var j = 0u; j < 4u; j++) {
            let vector = vector0 + 4u * (t * ACROSS + across) + j;
            for (var q = 0u; q < 2u; q++) {
                let row = row0 + 4u * (q * DOWN + down);
                store_quad(row, vector, acc[8u * t + 2u * j + q]);
            }
        }
    }
}
