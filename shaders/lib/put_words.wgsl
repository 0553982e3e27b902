// Two neighbouring words of the quotients.
@group(0) @binding(2) var<storage, read_write> quotients: array<u32>;

fn put_pair(at: u32, low: u32, high: u32) {
    quotients[at] = low;
    quotients[at + 1u] = high;
}
