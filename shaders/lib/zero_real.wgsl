// The zero of a group, any number: a half in the high half of the word of its scale.
fn zero_of(word: u32) -> f32 {
    return unpack2x16float(word >> 16u).x;
}
