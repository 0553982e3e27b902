// Where cols is a multiple of 4, every vector starts on 16 bytes; they are loaded as two
// 64-bit integers.
@group(0) @binding(1) var<storage, read> x: array<vec2<u64>>;

fn x_quad(vector: u32, quad: u32) -> vec4<f32> {
    let pair = x[(params.vector_base + vector) * params.cols / 4u + quad];
    return bitcast<vec4<f32>>(vec4(
        u32(pair.x),
        u32(pair.x >> 32u),
        u32(pair.y),
        u32(pair.y >> 32u),
    ));
}

fn x_at(vector: u32, col: u32) -> f32 {
    return x_quad(vector, col / 4u)[col % 4u];
}
