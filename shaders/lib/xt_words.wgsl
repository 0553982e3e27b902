// Vectors first … first + STRIPS - 1 of one column of the transposed x.
@group(0) @binding(1) var<storage, read> xt: array<f32>;

fn xt_at(col: u32, first: u32) -> array<f32, STRIPS> {
    var loaded: array<f32, STRIPS>;
    for (var t = 0u; t < STRIPS; t++) {
        loaded[t] = xt[col * params.x_stride + first + t];
    }
    return loaded;
}
