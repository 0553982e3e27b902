// A packet of SPAN ≤ 8 columns of a balanced group-pruned weight as values, scale · (code − zero): exact, since a half
// times a small integer fits an f32. What is not kept becomes -0, and nothing else does. WORDS words hold a packet,
// wherever its first bit lies, and then a word of zeros. `store` applies the factor of the weight. Needs products_kept.
@group(0) @binding(3) var<storage, read> words: array<u32>;

// Words of codes, then the scale: 0 where nothing is kept, which no stored scale is.
const RAW: u32 = WORDS;

fn fetch_packet(row: u32, packet: u32) -> array<u32, RAW> {
    var raw: array<u32, RAW>;
    let number = packet * SPAN / GROUP;
    let index = params.indices + row * params.index_stride + number / 32u * 2u;
    let kept = words[index];
    let before = kept & ((1u << (number % 32u)) - 1u);
    let last = params.scale_stride / (4u * SCALE_WORDS) - 1u;
    let rank = min(words[index + 1u] + countOneBits(before), last);
    let moves = params.indices + row * params.index_stride + MOVES + rank / 4u;
    let moved = extractBits(bitcast<i32>(words[moves]), rank % 4u * 8u, 8u);
    let slot = min(rank + bitcast<u32>(moved), last);
    let codes = params.values + row * params.value_stride + slot * GROUP_WORDS;
    let at = codes + packet * SPAN % GROUP * BITS / 32u;
    for (var i = 0u; i < WORDS - 1u; i++) {
        raw[i] = words[at + i];
    }
    let scale = words[params.scales + row / 4u * params.scale_stride + slot * SCALE_WORDS * 4u + row % 4u];
    raw[WORDS - 1u] = select(0u, scale, ((kept >> (number % 32u)) & 1u) == 1u);
    return raw;
}

fn decode_packet(raw: array<u32, RAW>, packet: u32) -> array<f32, SPAN> {
    var window: array<u32, WORDS>;
    for (var i = 0u; i < WORDS - 1u; i++) {
        window[i] = raw[i];
    }
    if SPAN * BITS % 32u != 0u {
        // The codes move to the lowest bits, by two shifts, because WGSL has none by 32.
        let odd = packet * SPAN % GROUP * BITS % 32u;
        for (var i = 0u; i < WORDS - 1u; i++) {
            window[i] = (window[i] >> odd) | ((window[i + 1u] << (31u - odd)) << 1u);
        }
    }
    let word = raw[WORDS - 1u];
    var zero = MIDDLE;
    if ZERO_BITS != 0u {
        zero = whole((word >> 16u) & ((1u << ZERO_BITS) - 1u));
    }
    var values: array<f32, SPAN>;
    for (var i = 0u; i < SPAN; i++) {
        let value = scale_of(word) * centred(window, i * BITS, zero);
        let sound = select(value, 0.0, value == 0.0);
        values[i] = select(sound, bitcast<f32>(NOT_KEPT), (word & 0xffffu) == 0u);
    }
    return values;
}
