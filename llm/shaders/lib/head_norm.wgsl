// The norm of each head. The first HALF · 2 quads of weights are for queries, the others for keys.
@group(0) @binding(5) var<storage, read> head_norms: array<vec4<f32>>;

fn head_scale(lane: u32, squares: f32) -> f32 {
    return inverseSqrt(total(lane, squares) / f32(8u * HALF) + EPS);
}

fn head_weight(key: bool, i: u32) -> vec4<f32> {
    return head_norms[select(0u, 2u * HALF, key) + i];
}
