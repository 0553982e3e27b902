// All rows meet the same x.
const X_QUADS: u32 = DEPTH / 4u;
const X_ITEMS: u32 = X_QUADS * TILE_BATCH;
const X_HELD: u32 = (X_ITEMS + WORKGROUP - 1u) / WORKGROUP;

fn fetch_x(row0: u32, vector0: u32, step: u32, lane: u32) -> array<vec4<f32>, X_HELD> {
    var held: array<vec4<f32>, X_HELD>;
    for (var k = 0u; k < X_HELD; k++) {
        let i = k * WORKGROUP + lane;
        let vector = min(vector0 + i / X_QUADS, params.batch - 1u);
        held[k] = x_quad(vector, min(step * X_QUADS + i % X_QUADS, (params.cols - 1u) / 4u));
    }
    return held;
}

fn x_end() -> u32 {
    return params.cols;
}
