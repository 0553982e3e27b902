// The nearest f16, ties to even, the same on every device: `pack2x16float` may truncate instead, and leaves open
// what becomes of numbers that are too large. Here they become infinite.
fn encode(v: f32) -> u32 {
    let sign = (bitcast<u32>(v) >> 16u) & 0x8000u;
    let size = bitcast<u32>(v) & 0x7fffffffu;
    // Below 2^-14 steps are 2^-24 wide; a whole number of them is exact.
    var half = u32(round(bitcast<f32>(min(size, 0x38800000u)) * 16777216.0));
    if size >= 0x38800000u {
        half = (size - 0x38000000u + 0xfffu + ((size >> 13u) & 1u)) >> 13u;
    }
    half = select(half, 0x7c00u, size >= 0x477ff000u);
    return sign | select(half, 0x7e00u, size > 0x7f800000u);
}
