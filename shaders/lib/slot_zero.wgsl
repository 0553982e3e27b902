// The zero of a slot of codes, as an integer: stored beside its scale, or in the middle of the codes.
fn zero_of(word: u32) -> i32 {
    if ZERO_BITS != 0u {
        return i32((word >> 16u) & ((1u << ZERO_BITS) - 1u));
    }
    return i32(MIDDLE);
}
