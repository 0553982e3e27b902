// A workgroup sums TILES tiles of four rows, LANES lanes each. Needs hold or hold_floats, whose memory it uses
// again when x is no longer needed.
const ROWS: u32 = 4u;   // of a tile
const LANES: u32 = WORKGROUP / TILES;
// Lanes that add the shares that all lanes of a tile have of a sum.
const STRIPS: u32 = 8u;

// The first row of a lane's tile. Tiles past the end repeat the last one; their sums are not stored.
fn first_row_of(first_row: u32, lane: u32) -> u32 {
    return min(first_row + lane / LANES * ROWS, (params.rows - 1u) / ROWS * ROWS);
}

// Where the rows of the tile that begins at row0 lie; rows past the end repeat the last one.
fn rows_at(row0: u32) -> vec4<u32> {
    let rows = min(vec4(row0) + vec4(0u, 1u, 2u, 3u), vec4(params.rows - 1u));
    return vec4(params.values) + rows * params.value_stride;
}

// Adds and stores the sums of all lanes of each tile, a vector at a time.
fn finish(acc: array<vec4<f32>, BATCH>, first_row: u32, lane: u32) {
    for (var b = 0u; b < BATCH; b++) {
        workgroupBarrier();
        quads_of_x[lane] = bitcast<vec4<u32>>(acc[b]);
        workgroupBarrier();
        for (var k = lane; k < TILES * STRIPS; k += WORKGROUP) {
            let at = k / STRIPS * LANES + k % STRIPS;
            var sum = vec4<f32>();
            for (var i = 0u; i < LANES; i += STRIPS) {
                sum += bitcast<vec4<f32>>(quads_of_x[at + i]);
            }
            quads_of_x[at] = bitcast<vec4<u32>>(sum);
        }
        workgroupBarrier();
        for (var r = lane; r < TILES * ROWS; r += WORKGROUP) {
            var sum = 0.0;
            for (var k = 0u; k < STRIPS; k++) {
                sum += bitcast<f32>(quads_of_x[r / ROWS * LANES + k][r % ROWS]);
            }
            if first_row + r < params.rows {
                store(first_row + r, turn + b, sum);
            }
        }
    }
}
