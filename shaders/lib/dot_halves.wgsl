// Codes times quotients in halves, as `pack_halves` leaves them: of two columns with codes c and d
// and quotients p and q,
//
//   (c + d · 2^16) · (q + p · 2^16) = c · q + (c · p + d · q) · 2^16   modulo 2^32
//
// Sums of such products keep c · p + d · q exact in their upper half while both parts fit 16 bits,
// signed: 8 products of codes of 4 bits, 43 of 2.
const HALF_MASK: u32 = ((1u << BITS) - 1u) * 0x00010001u;
const OFFSET: i32 = 0;
// Products that are summed before the upper half is read.
const PRODUCTS: u32 = min(8u, QUOTIENT_WORDS);

// Σ code · q over block s of a packet and vector b.
fn dot_block(packed: array<u32, WORDS>, s: u32, held: array<u32, HELD>, b: u32) -> i32 {
    var sum = 0;
    for (var p = 0u; p < QUOTIENT_WORDS / PRODUCTS; p++) {
        var products = 0u;
        for (var i = 0u; i < PRODUCTS; i++) {
            let at = s * QUOTIENT_WORDS + p * PRODUCTS + i;
            let codes = (packed[at / FIELDS] >> (at % FIELDS * BITS)) & HALF_MASK;
            products += codes * held[b * PACKET_WORDS + at];
        }
        // A negative lower half has borrowed from the upper one.
        sum += bitcast<i32>(products + 0x8000u) >> 16u;
    }
    return sum;
}
