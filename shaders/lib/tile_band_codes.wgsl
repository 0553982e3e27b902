// A tile of codes in bands of BAND rows, as scale · (code − zero): a packet is one column, whose codes lie
// together, as do the scales of its group. `store` applies the factor of the weight.
const SPAN: u32 = 1u;

fn tile(row0: u32, packet: u32) -> array<array<f32, SPAN>, ROWS> {
    let band = row0 / BAND;
    let run = params.values + (band * params.cols + packet) * params.value_stride;
    let packed = load(run + row0 % BAND * BITS / 32u, 0u);
    let groups = (params.cols + GROUP - 1u) / GROUP;
    let scales = params.scales + (band * groups + packet / GROUP) * BAND + row0 % BAND;
    var held: array<array<f32, SPAN>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let word = words[scales + r];
        held[r][0] = scale_of(word) * centred(packed, r * BITS, zero_of(word));
    }
    return held;
}
