// x += h, the output of a block's last product.
@group(0) @binding(2) var<storage, read> h: array<vec4<f32>>;

fn settle(row: u32, lane: u32) {
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        x[row * QUADS + i] += h[row * QUADS + i];
    }
}
