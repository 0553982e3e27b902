// Loaded as sparse, computed as dense: the stored values of a tile are scattered over its
// columns in workgroup memory. Any N:M, at the arithmetic of a dense product.
const W_STRIDE: u32 = TILE_ROWS + 4u;
var<workgroup> w_tile: array<f32, TILE_COLS * W_STRIDE>;

fn weight_quad(slot: u32, quad: u32) -> vec4<f32> {
    let at = slot * W_STRIDE + 4u * quad;
    return vec4(w_tile[at], w_tile[at + 1u], w_tile[at + 2u], w_tile[at + 3u]);
}

fn tile_steps(step: u32) -> u32 {
    return min(TILE_COLS, params.cols - step * TILE_COLS);
}

fn stage_weight(row0: u32, step: u32, lane: u32) {
    for (var i = lane; i < TILE_COLS * W_STRIDE; i += WORKGROUP) {
        w_tile[i] = 0.0;
    }
    workgroupBarrier();
    const ACROSS = TILE_SLOTS / PER_WORD;
    for (var i = lane; i < ACROSS * TILE_ROWS; i += WORKGROUP) {
        let slot0 = step * TILE_SLOTS + i % ACROSS * PER_WORD;
        let tile_row = i / ACROSS;
        let row = row0 + tile_row;
        if row < params.rows && slot0 < params.slots {
            let values = decode(load(params.values + row * params.value_stride, slot0 / PER_WORD)[0]);
            for (var j = 0u; j < PER_WORD; j++) {
                let col = column(row / V, slot0 + j);
                if slot0 + j < params.slots && col < params.cols {
                    w_tile[(col - step * TILE_COLS) * W_STRIDE + tile_row] = values[j];
                }
            }
        }
    }
}

fn tile_column(slot: u32, row0: u32, lane_row: u32) -> u32 {
    return slot;
}
