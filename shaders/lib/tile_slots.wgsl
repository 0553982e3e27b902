// The weight tile of gemm_tiled as stored: one row of the tile a slot, four rows a quad.
const W_STRIDE: u32 = TILE_ROWS / 4u + 1u;
var<workgroup> w_tile: array<vec4<f32>, TILE_SLOTS * W_STRIDE>;

fn weight_quad(slot: u32, quad: u32) -> vec4<f32> {
    return w_tile[slot * W_STRIDE + quad];
}

// Slots of a tile that the row still has.
fn tile_steps(step: u32) -> u32 {
    return min(TILE_SLOTS, params.slots - step * TILE_SLOTS);
}

fn stage_slots(row0: u32, step: u32, lane: u32) {
    const ACROSS = TILE_SLOTS / PER_WORD;
    let last = params.rows - 1u;
    for (var i = lane; i < ACROSS * TILE_ROWS / 4u; i += WORKGROUP) {
        let word = step * ACROSS + i % ACROSS;
        let quad = i / ACROSS;
        var values: array<array<f32, PER_WORD>, 4>;
        for (var k = 0u; k < 4u; k++) {
            // Rows past the end repeat the last one; their sums are not stored.
            let row = min(row0 + 4u * quad + k, last);
            if word < params.value_stride {
                values[k] = decode(load(params.values + row * params.value_stride, word)[0]);
            }
        }
        for (var j = 0u; j < PER_WORD; j++) {
            w_tile[(i % ACROSS * PER_WORD + j) * W_STRIDE + quad] =
                vec4(values[0][j], values[1][j], values[2][j], values[3][j]);
        }
    }
}
