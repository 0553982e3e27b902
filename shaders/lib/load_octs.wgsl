// A packet of values is WORDS consecutive words, loaded 32 bytes at a time as 64-bit integers;
// its row starts at word `row_at`, a multiple of 8.
@group(0) @binding(4) var<storage, read> quads: array<vec4<u64>>;

fn load(row_at: u32, packet: u32) -> array<u32, WORDS> {
    var loaded: array<u32, WORDS>;
    for (var i = 0u; i < WORDS; i += 8u) {
        let octet = quads[row_at / 8u + packet * (WORDS / 8u) + i / 8u];
        for (var j = 0u; j < 4u; j++) {
            loaded[i + 2u * j] = u32(octet[j]);
            loaded[i + 2u * j + 1u] = u32(octet[j] >> 32u);
        }
    }
    return loaded;
}
