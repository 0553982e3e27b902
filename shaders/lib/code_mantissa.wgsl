// Codes of BITS bits side by side, lowest bits first. A field may straddle two words.
//
// A field becomes a number where it lies, in the mantissa of 2^23:
// (2^23 + code · 2^t) · 2^-t − 2^(23 - t) is the code, exactly. That is one logical and one fused
// operation a code instead of a shift, a mask and a conversion, which GPUs do at half their
// speed or less.
const CODE_MASK: u32 = (1u << BITS) - 1u;

// The code at bit `bit`, less `zero`, a whole number.
fn centred(packed: array<u32, WORDS>, bit: u32, zero: f32) -> f32 {
    var word = packed[bit / 32u];
    var at = bit % 32u;
    if 32u % BITS != 0u {
        if at + BITS > 32u {
            word = (word >> at) | (packed[bit / 32u + 1u] << (32u - at));
            at = 0u;
        }
    }
    if at + BITS > 23u {
        word >>= 12u;
        at -= 12u;
    }
    let shifted = bitcast<f32>((word & (CODE_MASK << at)) | 0x4b000000u);
    return shifted * bitcast<f32>((127u - at) << 23u) - (bitcast<f32>((150u - at) << 23u) + zero);
}

// A whole number that fits 23 bits, by the same way.
fn whole(n: u32) -> f32 {
    return bitcast<f32>(n | 0x4b000000u) - 8388608.0;
}
