// y[b, r] = bias[r] + Σ_s W[r, s] · f16(x[b, column(s)])   by cooperative matrices
//
// One workgroup computes TILE_ROWS x TILE_BATCH of y, SIZE x SIZE matrices of it in each of its
// subgroups: MR down, MB across. Step by step DEPTH numbers of each row and what x they meet are
// staged in workgroup memory as f16; products are summed in f32. The next step is fetched into
// registers while this one is multiplied.
//
// Rows that share their columns (V, a multiple of SIZE) may meet a copy of x that holds these columns
// alone: only stored weights are multiplied. Where rows keep columns of their own, or few are left out,
// what is not kept is staged as zeros, and all rows meet the same x. Either way an x that nobody kept, NaN
// included, does not matter.
//
// A step costs DEPTH · (TILE_ROWS + SETS · TILE_BATCH) halves of workgroup memory for
// 2 · DEPTH · TILE_ROWS · TILE_BATCH FLOPs.
//
// Consts: WORKGROUP, TILE_ROWS, TILE_BATCH, DEPTH, MR, MB; TILE_SLOTS = stored weights of a row and step;
// SETS = copies of x, for index sets of the tile's rows; SET_ROWS = rows of the tile that meet the same x.
// Fragments: linear, bias, decoded (and what it loads with), tile_weights, x, coop_8 or coop_16; coop_stored or
// coop_filled, which stage weights; coop_dense or coop_gather, which stage x; coop_all or coop_kept, which see to
// x that is not finite; and `multiply` and `leave`, written out for MR x MB matrices.
const DOWN: u32 = TILE_ROWS / (MR * SIZE);
const ACROSS: u32 = TILE_BATCH / (MB * SIZE);
const SUBGROUPS: u32 = DOWN * ACROSS;
const LANES: u32 = WORKGROUP / SUBGROUPS;

// The stride of rows is 16 bytes more than a power of two, so that a column of them lies in all banks.
const STRIDE: u32 = DEPTH + 8u;
const W_HALVES: u32 = TILE_ROWS * STRIDE;
const X_HALVES: u32 = SETS * TILE_BATCH * STRIDE;
// A matrix of sums of each subgroup on its way out.
var<workgroup> y_tile: array<f32, SUBGROUPS * SIZE * SIZE>;

fn put_weights(
    held: array<array<u32, RAW>, W_HELD>,
    fields: array<array<u32, FIELDS>, W_HELD>,
    step: u32,
    lane: u32,
) {
    for (var k = 0u; k < W_HELD; k++) {
        let i = k * WORKGROUP + lane;
        if W_ITEMS % WORKGROUP == 0u || i < W_ITEMS {
            let packet = step * PACKETS + i % PACKETS;
            let at = i / PACKETS * STRIDE + i % PACKETS * WIDE;
            put_packet(at, decode_packet(held[k], packet), fields[k], packet);
        }
    }
}

// Items of x are four numbers of one vector, and of one index set. Past the last slot index words are padding.
fn put_x(held: array<vec4<f32>, X_HELD>, step: u32, lane: u32) {
    for (var k = 0u; k < X_HELD; k++) {
        let i = k * WORKGROUP + lane;
        if X_ITEMS % WORKGROUP == 0u || i < X_ITEMS {
            let first = (step * X_QUADS + i % X_QUADS) * 4u;
            let four = select(vec4<f32>(), held[k], before(first, x_end()));
            look_at(four);
            put_four_x(i / X_QUADS * STRIDE + i % X_QUADS * 4u, vec4<f16>(four));
        }
    }
}

// Which of four numbers from `first` on lie before `end`.
fn before(first: u32, end: u32) -> vec4<bool> {
    return vec4(first, first + 1u, first + 2u, first + 3u) < vec4(end);
}

// Where matrices begin in the tiles, at slot k: of W, matrix r of the rows from `down` on; of x, matrix b of the
// vectors from `across` on, in the copy of x that the rows of r meet.
fn weights_at(down: u32, r: u32, k: u32) -> u32 {
    return ((down + r * SIZE) * STRIDE + k) / STAGED;
}

fn inputs_at(down: u32, r: u32, across: u32, b: u32, k: u32) -> u32 {
    let vector = (down + r * SIZE) / SET_ROWS * TILE_BATCH + across + b * SIZE;
    return (vector * STRIDE + k) / STAGED;
}

// Brings a matrix of sums of a subgroup from y_tile to y.
fn put_sums(row0: u32, vector0: u32, subgroup: u32, own: u32) {
    let at = subgroup * SIZE * SIZE;
    for (var i = own; i < SIZE * SIZE; i += LANES) {
        let row = row0 + i % SIZE;
        let vector = vector0 + i / SIZE;
        if row < params.rows && vector < params.batch && !is_odd() {
            store(row, vector, y_tile[at + i % SIZE * SIZE + i / SIZE]);
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) own: u32,
) {
    let tiles = (params.batch + TILE_BATCH - 1u) / TILE_BATCH;
    let id = group.x + group.y * groups.x;
    let vector0 = id % tiles * TILE_BATCH;
    let row0 = id / tiles * TILE_ROWS;
    let down = subgroup / ACROSS * MR * SIZE;
    let across = subgroup % ACROSS * MB * SIZE;

    // A workgroup past the last row takes no steps: with cooperative matrices it may not return here.
    let steps = select(0u, (params.slots + TILE_SLOTS - 1u) / TILE_SLOTS, row0 < params.rows);
    var weights = fetch_weights(row0, 0u, lane);
    var fields = fetch_fields(row0, 0u, lane);
    var xs = fetch_x(row0, vector0, 0u, lane);
    forget(lane);
    for (var step = 0u; step < steps; step++) {
        workgroupBarrier();
        put_weights(weights, fields, step, lane);
        put_x(xs, step, lane);
        workgroupBarrier();
        weights = fetch_weights(row0, step + 1u, lane);
        fields = fetch_fields(row0, step + 1u, lane);
        xs = fetch_x(row0, vector0, step + 1u, lane);

        for (var k = 0u; k < DEPTH; k += SIZE) {
            multiply(down, across, k);
        }
    }
    leave(row0 + down, vector0 + across, subgroup, own);
    mend(row0, vector0, lane);
}
