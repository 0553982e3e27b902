// x += norm(h): the output of a block's last product, through a norm of its own.
@group(0) @binding(2) var<storage, read> h: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> post: array<vec4<f32>>;

fn settle(row: u32, lane: u32) {
    var squares = 0.0;
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        let quad = h[row * QUADS + i];
        squares += dot(quad, quad);
    }
    let scale = inverseSqrt(total(lane, squares) / f32(4u * QUADS) + EPS);
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        x[row * QUADS + i] += h[row * QUADS + i] * scale * post[i];
    }
}
