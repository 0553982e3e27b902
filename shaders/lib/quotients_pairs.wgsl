// What `quantize` wrote, 16 bytes at a time as two 64-bit integers.
@group(0) @binding(1) var<storage, read> quotients: array<vec2<u64>>;

fn quotient_quad(quad: u32) -> vec4<u32> {
    let pair = quotients[quad];
    return vec4(u32(pair.x), u32(pair.x >> 32u), u32(pair.y), u32(pair.y >> 32u));
}

// Step and sum of a block, at an even word.
fn block_at(word: u32) -> vec2<u32> {
    let long = quotients[word / 4u][word / 2u % 2u];
    return vec2(u32(long), u32(long >> 32u));
}
