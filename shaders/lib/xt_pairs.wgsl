// A lane's STRIPS vectors of one column of the transposed x, two to a 64-bit integer: CPU adapters pay for loads,
// hardly for their width. Those of column 0 begin at word `first`; STRIPS and `first` are even.
@group(0) @binding(1) var<storage, read> xt: array<u64>;

fn xt_at(col: u32, first: u32) -> array<f32, STRIPS> {
    var loaded: array<f32, STRIPS>;
    for (var t = 0u; t < STRIPS; t += 2u) {
        let pair = xt[(first + col * (LANES * STRIPS) + t) / 2u];
        loaded[t] = bitcast<f32>(u32(pair));
        loaded[t + 1u] = bitcast<f32>(u32(pair >> 32u));
    }
    return loaded;
}
