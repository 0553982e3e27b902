// x that `quantize` has made integers of, in the order of its columns, as numbers again: for kernels
// that multiply in f32. Blocks of STEP_COLS columns share a step; a vector has x_stride of them.
@group(0) @binding(1) var<storage, read> quotients: array<u32>;

fn x_at(vector: u32, col: u32) -> f32 {
    let first = (params.vector_base + vector) * params.x_stride;
    let at = first * STEP_COLS + col;
    let q = bitcast<i32>(quotients[at / 4u] << (24u - at % 4u * 8u)) >> 24u;
    let steps = params.batch * params.x_stride * (STEP_COLS / 4u);
    return bitcast<f32>(quotients[steps + 2u * (first + col / STEP_COLS)]) * f32(q);
}

// Columns 4·quad … 4·quad + 3.
fn x_quad(vector: u32, quad: u32) -> vec4<f32> {
    let col = 4u * quad;
    return vec4(
        x_at(vector, col),
        x_at(vector, col + 1u),
        x_at(vector, col + 2u),
        x_at(vector, col + 3u),
    );
}
