const PER_WORD: u32 = 1u;

fn decode(word: u32) -> array<f32, PER_WORD> {
    return array<f32, PER_WORD>(bitcast<f32>(word));
}
