// A tile of a weight in bands of BAND rows: a packet is one column, whose values lie together.
const SPAN: u32 = 1u;

fn tile(row0: u32, packet: u32) -> array<array<f32, SPAN>, ROWS> {
    let run = params.values + (row0 / BAND * params.cols + packet) * params.value_stride;
    let packed = load(run + row0 % BAND / PER_WORD, 0u);
    var held: array<array<f32, SPAN>, ROWS>;
    for (var word = 0u; word < WORDS; word++) {
        let values = decode(packed[word]);
        for (var j = 0u; j < PER_WORD; j++) {
            held[word * PER_WORD + j][0] = values[j];
        }
    }
    return held;
}
