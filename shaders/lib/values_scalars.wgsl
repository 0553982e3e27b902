// The TAKEN values of x from column `col` on, zero past the last.
@group(0) @binding(1) var<storage, read> x: array<f32>;

fn values_of(vector: u32, col: u32) -> array<f32, TAKEN> {
    var values: array<f32, TAKEN>;
    for (var i = 0u; i < TAKEN; i++) {
        let at = vector * params.cols + min(col + i, params.cols - 1u);
        values[i] = select(0.0, x[at], col + i < params.cols);
    }
    return values;
}
