// The TAKEN values of x from column `col` on, zero past the last, where vectors are whole quads: a
// quarter of the loads.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

fn values_of(vector: u32, col: u32) -> array<f32, TAKEN> {
    var values: array<f32, TAKEN>;
    for (var i = 0u; i < TAKEN; i += 4u) {
        let at = (vector * params.cols + min(col + i, params.cols - 4u)) / 4u;
        let quad = select(vec4<f32>(), x[at], col + i < params.cols);
        values[i] = quad.x;
        values[i + 1u] = quad.y;
        values[i + 2u] = quad.z;
        values[i + 3u] = quad.w;
    }
    return values;
}
