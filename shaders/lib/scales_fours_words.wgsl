// Quad `at` of a part whose scales lie by fours of rows, and which is read word by word.
fn scales_at(at: u32) -> vec4<u32> {
    return vec4(words[4u * at], words[4u * at + 1u], words[4u * at + 2u], words[4u * at + 3u]);
}
