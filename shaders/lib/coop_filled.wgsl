// N:M weights are staged with their zeros. A packet is the slots of whole windows and becomes their columns, four at a
// time: M is a multiple of four.
const WINDOWS: u32 = SPAN / N;
const WIDE: u32 = WINDOWS * M;   // halves of a packet
const FIELDS: u32 = SPAN / 4u;

// The index words of a lane's packets, those of its rows in the lowest bits.
fn fetch_fields(row0: u32, step: u32, lane: u32) -> array<array<u32, FIELDS>, W_HELD> {
    var held: array<array<u32, FIELDS>, W_HELD>;
    for (var k = 0u; k < W_HELD; k++) {
        let i = k * WORKGROUP + lane;
        let block = min(row0 + i / PACKETS, params.rows - 1u) / V;
        let at = params.indices + block / INTERLEAVE * params.index_stride;
        for (var f = 0u; f < FIELDS; f++) {
            let word = (step * PACKETS + i % PACKETS) * FIELDS + f;
            held[k][f] = words[at + min(word, params.index_stride - 1u)]
                >> (block % INTERLEAVE * 4u * INDEX_BITS);
        }
    }
    return held;
}

fn put_packet(at: u32, values: array<f32, SPAN>, fields: array<u32, FIELDS>, packet: u32) {
    for (var w = 0u; w < WINDOWS; w++) {
        for (var q = 0u; q < M; q += 4u) {
            var four: vec4<f32>;
            for (var n = 0u; n < N; n++) {
                let slot = w * N + n;
                let place = (fields[slot / 4u] >> (slot % 4u * INDEX_BITS)) & INDEX_MASK;
                let here = vec4(q, q + 1u, q + 2u, q + 3u) == vec4(place);
                let stored = packet * SPAN + slot < params.slots;
                four = select(four, vec4(values[slot]), here & vec4(stored));
            }
            put_four_w(at + w * M + q, vec4<f16>(four));
        }
    }
}
