// A packet of values is WORDS consecutive words, loaded 16 bytes at a time as 64-bit integers;
// its row starts at word `row_at`, a multiple of 4.
@group(0) @binding(4) var<storage, read> quads: array<vec2<u64>>;

fn load(row_at: u32, packet: u32) -> array<u32, WORDS> {
    var loaded: array<u32, WORDS>;
    for (var i = 0u; i < WORDS; i += 4u) {
        let quad = quads[row_at / 4u + packet * (WORDS / 4u) + i / 4u];
        for (var j = 0u; j < 2u; j++) {
            loaded[i + 2u * j] = u32(quad[j]);
            loaded[i + 2u * j + 1u] = u32(quad[j] >> 32u);
        }
    }
    return loaded;
}
