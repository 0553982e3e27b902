// Codes of BITS bits side by side, lowest bits first, four at a time: they fit a word, wherever
// they begin. One word is picked for four codes and shifted by constants: llvmpipe unrolls this loop
// over quads, where a loop over codes that each pick their word would be too long.
const FIELD_MASK: u32 = (1u << BITS) - 1u;

// The codes from bit `bit` on, a multiple of 4 · BITS.
fn code_quad(packed: array<u32, WORDS>, bit: u32) -> vec4<f32> {
    var fields = packed[bit / 32u] >> (bit % 32u);
    if 32u % (4u * BITS) != 0u {
        // Two shifts, because WGSL has none by 32.
        let next = packed[min(bit / 32u + 1u, WORDS - 1u)];
        fields |= (next << (31u - bit % 32u)) << 1u;
    }
    // A code is never negative: converting it as a signed number is one instruction everywhere.
    return vec4(
        f32(i32(fields & FIELD_MASK)),
        f32(i32((fields >> BITS) & FIELD_MASK)),
        f32(i32((fields >> (2u * BITS)) & FIELD_MASK)),
        f32(i32((fields >> (3u * BITS)) & FIELD_MASK)),
    );
}
