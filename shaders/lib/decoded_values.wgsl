// A packet of plain values: WORDS words.
const SPAN: u32 = WORDS * PER_WORD;
const RAW: u32 = WORDS;

fn fetch_packet(row: u32, packet: u32) -> array<u32, RAW> {
    return load(params.values + row * params.value_stride, packet);
}

fn decode_packet(raw: array<u32, RAW>, packet: u32) -> array<f32, SPAN> {
    var values: array<f32, SPAN>;
    for (var word = 0u; word < WORDS; word++) {
        let pieces = decode(raw[word]);
        for (var j = 0u; j < PER_WORD; j++) {
            values[word * PER_WORD + j] = pieces[j];
        }
    }
    return values;
}

fn decoded(row: u32, packet: u32) -> array<f32, SPAN> {
    return decode_packet(fetch_packet(row, packet), packet);
}
