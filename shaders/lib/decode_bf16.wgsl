const PER_WORD: u32 = 2u;

// bf16 is the upper half of an f32.
fn decode(word: u32) -> array<f32, PER_WORD> {
    return array<f32, PER_WORD>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}
