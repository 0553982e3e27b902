// The zero of a group, a code in the high half of the word of its scale.
fn zero_of(word: u32) -> f32 {
    return whole(word >> 16u);
}
