// A packet of plain values: WORDS words.
const SPAN: u32 = WORDS * PER_WORD;

fn decoded(row: u32, packet: u32) -> array<f32, SPAN> {
    var values: array<f32, SPAN>;
    let packed = load(params.values + row * params.value_stride, packet);
    for (var word = 0u; word < WORDS; word++) {
        let pieces = decode(packed[word]);
        for (var j = 0u; j < PER_WORD; j++) {
            values[word * PER_WORD + j] = pieces[j];
        }
    }
    return values;
}
