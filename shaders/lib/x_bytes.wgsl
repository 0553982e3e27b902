// x as numbers again, from the integers that `quantize` has made of it in the order of its columns, for kernels
// that multiply in f32. Blocks of STEP_COLS columns share a step; a vector has x_stride of them, which may reach
// past its last column.
@group(0) @binding(1) var<storage, read> quotients: array<u32>;

// Columns 4·quad … 4·quad + 3.
fn x_quad(vector: u32, quad: u32) -> vec4<f32> {
    let first = (params.vector_base + vector) * params.x_stride;
    let word = quotients[first * (STEP_COLS / 4u) + quad];
    let four = vec4<i32>(bitcast<i32>(word)) << vec4(24u, 16u, 8u, 0u);
    let steps = params.batch * params.x_stride * (STEP_COLS / 4u);
    let step = bitcast<f32>(quotients[steps + 2u * (first + quad / (STEP_COLS / 4u))]);
    return step * vec4<f32>(four >> vec4(24u));
}

fn x_at(vector: u32, col: u32) -> f32 {
    return x_quad(vector, col / 4u)[col % 4u];
}
