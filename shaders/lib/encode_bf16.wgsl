// The nearest bf16, ties to even: the upper half of an f32.
fn encode(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let half = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
    return select(half, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}
