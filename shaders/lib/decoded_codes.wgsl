// A packet of SPAN ≤ 8 codes as values, scale · (code − zero): exact, for a half times a
// small integer fits an f32. SEGMENT = slots of a packet that share a scale; GROUP = slots of a
// group; WORDS hold a packet, wherever its first bit lies, and one word of zeros after it.
// The factor of the weight waits for `store`.
@group(0) @binding(3) var<storage, read> words: array<u32>;

fn decoded(row: u32, packet: u32) -> array<f32, SPAN> {
    let first = packet * (SPAN * BITS);
    let at = params.values + row * params.value_stride + first / 32u;
    var window: array<u32, WORDS>;
    for (var i = 0u; i < WORDS - 1u; i++) {
        window[i] = words[at + i];
    }
    if SPAN * BITS % 32u != 0u {
        // Codes move to the lowest bits; a shift by 32 is one by 31 and one by 1.
        let odd = first % 32u;
        for (var i = 0u; i < WORDS - 1u; i++) {
            window[i] = (window[i] >> odd) | ((window[i + 1u] << (31u - odd)) << 1u);
        }
    }

    var values: array<f32, SPAN>;
    let last = params.scale_stride / 8u - 1u;
    let scales = params.scales + row / 8u * params.scale_stride + row % 8u;
    for (var s = 0u; s < SPAN / SEGMENT; s++) {
        // A packet may reach past the last group.
        let group = min((packet * SPAN + s * SEGMENT) / GROUP, last);
        let word = words[scales + group * 8u];
        let zero = f32(i32(word >> 16u));
        for (var i = 0u; i < SEGMENT; i++) {
            values[s * SEGMENT + i] =
                scale_of(word) * centred(window, (s * SEGMENT + i) * BITS, zero);
        }
    }
    return values;
}
