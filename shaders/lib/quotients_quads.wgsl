// What `quantize` wrote, 16 bytes at a time.
@group(0) @binding(1) var<storage, read> quotients: array<vec4<u32>>;

fn quotient_quad(quad: u32) -> vec4<u32> {
    return quotients[quad];
}

// Step and sum of a block, at an even word.
fn block_at(word: u32) -> vec2<u32> {
    let quad = quotients[word / 4u];
    return select(quad.xy, quad.zw, word % 4u != 0u);
}
