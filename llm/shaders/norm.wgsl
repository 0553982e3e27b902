// x += what the last block gave;   y = w ⊙ x / √(mean(x²) + EPS)
//
// Root mean square layer normalisation (https://arxiv.org/abs/1910.07467) after the residual addition,
// one workgroup for each row. Reads x and h once or twice, writes x and y.
//
// Consts: WORKGROUP, QUADS = elements of a row / 4, TOKENS = rows of x, EPS.
// Fragments: total, residual, row (and state).
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = source_row(group.x);
    settle(row, lane);
    // Each lane reads back only what it has written itself, so no barrier is needed.
    var squares = 0.0;
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        let quad = x[row * QUADS + i];
        squares += dot(quad, quad);
    }
    let scale = inverseSqrt(total(lane, squares) / f32(4u * QUADS) + EPS);
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        y[group.x * QUADS + i] = x[row * QUADS + i] * scale * weight[i];
    }
}
