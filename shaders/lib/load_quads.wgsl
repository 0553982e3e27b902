// A packet of values is WORDS consecutive words, loaded 16 bytes at a time; its row starts
// at word `row_at`, a multiple of 4.
@group(0) @binding(4) var<storage, read> quads: array<vec4<u32>>;

fn load(row_at: u32, packet: u32) -> array<u32, WORDS> {
    var loaded: array<u32, WORDS>;
    for (var i = 0u; i < WORDS; i += 4u) {
        let quad = quads[row_at / 4u + packet * (WORDS / 4u) + i / 4u];
        loaded[i] = quad.x;
        loaded[i + 1u] = quad.y;
        loaded[i + 2u] = quad.z;
        loaded[i + 3u] = quad.w;
    }
    return loaded;
}
