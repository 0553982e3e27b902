// N:M: every index set of the tile's rows has an x of its own, the columns of its slots.
const X_QUADS: u32 = DEPTH / 4u;
const X_ITEMS: u32 = X_QUADS * TILE_BATCH * SETS;
const X_HELD: u32 = (X_ITEMS + WORKGROUP - 1u) / WORKGROUP;

// Four slots of one set for one vector, side by side in a lane: one index word serves them.
fn fetch_x(row0: u32, vector0: u32, step: u32, lane: u32) -> array<vec4<f32>, X_HELD> {
    var held: array<vec4<f32>, X_HELD>;
    let last = (params.rows - 1u) / V;
    for (var k = 0u; k < X_HELD; k++) {
        let i = k * WORKGROUP + lane;
        let block = min(row0 / V + i / X_QUADS / TILE_BATCH, last);
        let vector = min(vector0 + i / X_QUADS % TILE_BATCH, params.batch - 1u);
        let quad = min(step * X_QUADS + i % X_QUADS, params.index_stride - 1u);
        let word = words[params.indices + block / INTERLEAVE * params.index_stride + quad];
        let fields = word >> (block % INTERLEAVE * 4u * INDEX_BITS);
        for (var j = 0u; j < 4u; j++) {
            let in_window = (fields >> (j * INDEX_BITS)) & INDEX_MASK;
            let col = (4u * quad + j) / N * M + in_window;
            held[k][j] = select(0.0, x_at(vector, min(col, params.cols - 1u)), col < params.cols);
        }
    }
    return held;
}

fn x_end() -> u32 {
    return params.slots;
}
