// Where cols is a multiple of 4, every vector starts on 16 bytes.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

fn x_at(vector: u32, col: u32) -> f32 {
    return x[((params.vector_base + vector) * params.cols + col) / 4u][col % 4u];
}

fn x_quad(vector: u32, quad: u32) -> vec4<f32> {
    return x[(params.vector_base + vector) * params.cols / 4u + quad];
}
