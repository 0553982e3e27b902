const PER_WORD: u32 = 2u;

// `unpack2x16float` is core WGSL: no f16 feature is needed.
fn decode(word: u32) -> array<f32, PER_WORD> {
    let pair = unpack2x16float(word);
    return array<f32, PER_WORD>(pair.x, pair.y);
}
