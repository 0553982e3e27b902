// Codes times quotients in bytes, as `pack_bytes` leaves them.
const BYTE_MASK: u32 = ((1u << BITS) - 1u) * 0x01010101u;

// Codes of eight bits do not fit a signed byte, so 128 is subtracted from them, and from their zero.
const OFFSET: i32 = select(0, 128, BITS == 8u);

// Σ (code − OFFSET) · q over block s of a packet and vector b.
fn dot_block(packed: array<u32, WORDS>, s: u32, held: array<u32, HELD>, b: u32) -> i32 {
    var sum = 0;
    for (var i = 0u; i < QUOTIENT_WORDS; i++) {
        let at = s * QUOTIENT_WORDS + i;
        let codes = (packed[at / FIELDS] >> (at % FIELDS * BITS)) & BYTE_MASK;
        sum += dot4I8Packed(codes ^ (u32(OFFSET) * 0x01010101u), held[b * PACKET_WORDS + at]);
    }
    return sum;
}
