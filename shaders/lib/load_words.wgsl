// A packet of values is WORDS consecutive words; its row starts at word `row_at`.
@group(0) @binding(3) var<storage, read> words: array<u32>;

fn load(row_at: u32, packet: u32) -> array<u32, WORDS> {
    var loaded: array<u32, WORDS>;
    for (var i = 0u; i < WORDS; i++) {
        loaded[i] = words[row_at + packet * WORDS + i];
    }
    return loaded;
}
