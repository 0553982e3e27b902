// A packet of plain values of one column, WORDS words, in bands of BAND rows.
const SPAN: u32 = WORDS * PER_WORD;
const RAW: u32 = WORDS;

fn fetch_run(row: u32, col: u32) -> array<u32, RAW> {
    let run = params.values + (row / BAND * params.cols + col) * params.value_stride;
    return load(run + row % BAND / PER_WORD, 0u);
}

fn decode_run(raw: array<u32, RAW>) -> array<f32, SPAN> {
    var values: array<f32, SPAN>;
    for (var word = 0u; word < WORDS; word++) {
        let pieces = decode(raw[word]);
        for (var j = 0u; j < PER_WORD; j++) {
            values[word * PER_WORD + j] = pieces[j];
        }
    }
    return values;
}
