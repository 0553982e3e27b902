// A lane's STRIPS vectors of one column of the transposed x; those of column 0 begin at word `first`.
@group(0) @binding(1) var<storage, read> xt: array<f32>;

fn xt_at(col: u32, first: u32) -> array<f32, STRIPS> {
    var loaded: array<f32, STRIPS>;
    for (var t = 0u; t < STRIPS; t++) {
        loaded[t] = xt[first + col * (LANES * STRIPS) + t];
    }
    return loaded;
}
