// Weights are staged as they are stored.
const WIDE: u32 = SPAN;   // halves of a packet
const FIELDS: u32 = 1u;

fn fetch_fields(row0: u32, step: u32, lane: u32) -> array<array<u32, FIELDS>, W_HELD> {
    return array<array<u32, FIELDS>, W_HELD>();
}

fn put_packet(at: u32, values: array<f32, SPAN>, fields: array<u32, FIELDS>, packet: u32) {
    for (var j = 0u; j < SPAN; j += 4u) {
        let four = vec4(values[j], values[j + 1u], values[j + 2u], values[j + 3u]);
        let within = before(packet * SPAN + j, params.slots);
        put_four_w(at + j, vec4<f16>(select(vec4<f32>(), four, within)));
    }
}
