// A workgroup takes one of SPLITS shares of the keys; `attention_join` joins what they give.
//
// splits: [SPLITS][tokens][HEADS][QUADS + 1], the last of (highest score, Σ p_j, 0, 0)
//
// Consts: WORKGROUP, QUADS, HEADS, SPLITS, TOKENS.
@group(0) @binding(4) var<storage, read_write> splits: array<vec4<f32>>;

fn share(seen: vec2<u32>, part: u32) -> vec2<u32> {
    let rounds = (seen.y - seen.x + WORKGROUP - 1u) / WORKGROUP;
    let keys = (rounds + SPLITS - 1u) / SPLITS * WORKGROUP;
    return min(seen.x + vec2(part, part + 1u) * keys, seen.yy);
}

fn split_at(token: u32, head: u32, part: u32) -> u32 {
    return ((part * TOKENS + token) * HEADS + head) * (QUADS + 1u);
}

fn store(token: u32, head: u32, part: u32, i: u32, quad: vec4<f32>, sum: f32) {
    splits[split_at(token, head, part) + i] = quad;
}

fn store_sum(token: u32, head: u32, part: u32, highest: f32, sum: f32) {
    splits[split_at(token, head, part) + QUADS] = vec4(highest, sum, 0.0, 0.0);
}
