// Two neighbouring words of the weight, the first at an even place, as one 64-bit integer: CPU
// adapters pay for loads, not for their width.
@group(0) @binding(6) var<storage, read> longs: array<u64>;

fn pair(at: u32) -> vec2<u32> {
    let long = longs[at / 2u];
    return vec2(u32(long), u32(long >> 32u));
}
