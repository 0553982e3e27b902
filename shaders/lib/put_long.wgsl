// Two neighbouring words of the quotients, the first at an even place, as one 64-bit integer.
@group(0) @binding(2) var<storage, read_write> quotients: array<u64>;

fn put_pair(at: u32, low: u32, high: u32) {
    quotients[at / 2u] = u64(low) | (u64(high) << 32u);
}
