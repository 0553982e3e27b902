// The scale of a group, a half in the low half of its word.
fn scale_of(word: u32) -> f32 {
    return unpack2x16float(word & 0xffffu).x;
}
