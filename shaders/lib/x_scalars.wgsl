@group(0) @binding(1) var<storage, read> x: array<f32>;

fn x_at(vector: u32, col: u32) -> f32 {
    return x[(params.vector_base + vector) * params.cols + col];
}

// Columns 4·quad … 4·quad + 3.
fn x_quad(vector: u32, quad: u32) -> vec4<f32> {
    let at = (params.vector_base + vector) * params.cols + 4u * quad;
    return vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
}
