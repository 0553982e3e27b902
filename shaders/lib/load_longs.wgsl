// A packet of values is WORDS consecutive words, loaded 8 bytes at a time as 64-bit integers;
// its row starts at word `row_at`, an even one.
@group(0) @binding(4) var<storage, read> quads: array<u64>;

fn load(row_at: u32, packet: u32) -> array<u32, WORDS> {
    var loaded: array<u32, WORDS>;
    for (var i = 0u; i < WORDS; i += 2u) {
        let long = quads[row_at / 2u + packet * (WORDS / 2u) + i / 2u];
        loaded[i] = u32(long);
        loaded[i + 1u] = u32(long >> 32u);
    }
    return loaded;
}
