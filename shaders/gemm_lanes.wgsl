// y[b, r] = bias[r] + Σ_s W[r, s] · x[b, column(s)]   for any batch, on CPU adapters
//
// Lanes lie along the batch: one workgroup of LANES invocations sums ROWS rows x
// LANES · STRIPS vectors in registers. x comes transposed in tiles of as many vectors, so that a column of a tile is
// contiguous for all lanes, whatever column the weight asks for: a sparse
// weight costs no gather. The weight's values are the same for all lanes.
//
// Consts: LANES, ROWS, STRIPS; SHARE = rows of the tile that use the same columns;
// EDGE = some packet reaches past `cols`.
// Fragments: linear, y, bias, tile, decoded (and what they load with), hold, xt, packet (and columns
// for N:M), lanes.
// Tiles of rows that share a range of vectors: all of them multiply it before the next range begins, so that its
// x stays in a core's cache, and so do their weights.
const CHUNK: u32 = 4u;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile_batch = LANES * STRIPS;
    let across = (params.batch + tile_batch - 1u) / tile_batch;
    let id = group.x + group.y * groups.x;
    let tiles = (params.rows + ROWS - 1u) / ROWS;
    let first_tile = min(id / (CHUNK * across) * CHUNK, tiles);
    let chunk = min(CHUNK, tiles - first_tile);
    let place = id % (CHUNK * across);
    if place >= chunk * across {
        return;
    }
    // A lane's vectors lie side by side: one load may take several.
    let vector0 = place / chunk * tile_batch + lane * STRIPS;
    let row0 = (first_tile + place % chunk) * ROWS;

    let x0 = place / chunk * tile_batch * params.cols + lane * STRIPS;
    let acc = sum_tile(row0, x0, lane);
    for (var r = 0u; r < ROWS; r += RUN) {
        for (var t = 0u; t < STRIPS; t++) {
            var sums: array<f32, RUN>;
            for (var i = 0u; i < RUN; i++) {
                sums[i] = acc[(r + i) * STRIPS + t];
            }
            let vector = vector0 + t;
            if row0 + r < params.rows && vector < params.batch {
                store_run(row0 + r, vector, sums);
            }
        }
    }
}
