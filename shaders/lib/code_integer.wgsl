// Codes of BITS bits side by side, lowest bits first. A field may straddle two words.
const CODE_MASK: u32 = (1u << BITS) - 1u;

// The code at bit `bit`, less `zero`.
fn centred(packed: array<u32, WORDS>, bit: u32, zero: f32) -> f32 {
    var field = packed[bit / 32u] >> (bit % 32u);
    if 32u % BITS != 0u {
        if bit % 32u + BITS > 32u {
            field |= packed[bit / 32u + 1u] << (32u - bit % 32u);
        }
    }
    // A code is never negative: converting it as a signed number is one instruction everywhere.
    return f32(i32(field & CODE_MASK)) - zero;
}

// A whole number that fits 23 bits.
fn whole(n: u32) -> f32 {
    return f32(i32(n));
}
