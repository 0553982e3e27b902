// A packet of SPAN ≤ 8 codes as values, scale · (code − zero): exact except with real zeros, since a half times a
// small integer fits an f32. SEGMENT = slots of a packet that share a scale; GROUP = slots of a group; WORDS words
// hold a packet, wherever its first bit lies, and then a word of zeros. `store` applies the factor of the weight.
@group(0) @binding(3) var<storage, read> words: array<u32>;

const SEGMENTS: u32 = SPAN / SEGMENT;
// Words of codes, then the scale of each segment. Zeros decode to zeros.
const RAW: u32 = WORDS - 1u + SEGMENTS;

fn fetch_packet(row: u32, packet: u32) -> array<u32, RAW> {
    var raw: array<u32, RAW>;
    let at = params.values + row * params.value_stride + packet * (SPAN * BITS) / 32u;
    for (var i = 0u; i < WORDS - 1u; i++) {
        raw[i] = words[at + i];
    }
    let last = params.scale_stride / 8u - 1u;
    let scales = params.scales + row / 8u * params.scale_stride + row % 8u;
    for (var s = 0u; s < SEGMENTS; s++) {
        // A packet may reach past the last group.
        let group = min((packet * SPAN + s * SEGMENT) / GROUP, last);
        raw[WORDS - 1u + s] = words[scales + group * 8u];
    }
    return raw;
}

fn decode_packet(raw: array<u32, RAW>, packet: u32) -> array<f32, SPAN> {
    var window: array<u32, WORDS>;
    for (var i = 0u; i < WORDS - 1u; i++) {
        window[i] = raw[i];
    }
    if SPAN * BITS % 32u != 0u {
        // The codes move to the lowest bits, by two shifts, because WGSL has none by 32.
        let odd = packet * (SPAN * BITS) % 32u;
        for (var i = 0u; i < WORDS - 1u; i++) {
            window[i] = (window[i] >> odd) | ((window[i + 1u] << (31u - odd)) << 1u);
        }
    }

    var values: array<f32, SPAN>;
    for (var s = 0u; s < SEGMENTS; s++) {
        let word = raw[WORDS - 1u + s];
        let zero = zero_of(word);
        for (var i = 0u; i < SEGMENT; i++) {
            values[s * SEGMENT + i] =
                scale_of(word) * centred(window, (s * SEGMENT + i) * BITS, zero);
        }
    }
    return values;
}

fn decoded(row: u32, packet: u32) -> array<f32, SPAN> {
    return decode_packet(fetch_packet(row, packet), packet);
}
