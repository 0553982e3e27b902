// A word of codes of one column in bands of BAND rows, as scale · (code − zero), with the scales of its rows,
// which lie together too. `store` applies the factor of the weight.
const SPAN: u32 = 32u / BITS;
const RAW: u32 = WORDS + SPAN;

fn fetch_run(row: u32, col: u32) -> array<u32, RAW> {
    var raw: array<u32, RAW>;
    let run = params.values + (row / BAND * params.cols + col) * params.value_stride;
    raw[0] = words[run + row % BAND / SPAN];
    let groups = (params.cols + GROUP - 1u) / GROUP;
    let scales = params.scales + (row / BAND * groups + col / GROUP) * BAND + row % BAND;
    for (var j = 0u; j < SPAN; j++) {
        raw[WORDS + j] = words[scales + j];
    }
    return raw;
}

fn decode_run(raw: array<u32, RAW>) -> array<f32, SPAN> {
    var packed: array<u32, WORDS>;
    packed[0] = raw[0];
    var values: array<f32, SPAN>;
    for (var j = 0u; j < SPAN; j++) {
        let word = raw[WORDS + j];
        values[j] = scale_of(word) * centred(packed, j * BITS, zero_of(word));
    }
    return values;
}
