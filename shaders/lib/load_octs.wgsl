// A packet of values is WORDS consecutive words, loaded 32 bytes at a time as 64-bit integers;
// its row starts at word `row_at`, a multiple of 8.
@group(0) @binding(4) var<storage, read> quads: array<vec4<u64>>;

// Octet o of a packet. llvmpipe does not unroll a loop over octets, and what is indexed in it then
// stays in memory; there are 8 at most, two groups of 128 codes of 8 bits.
fn load_octet(
    loaded: ptr<function, array<u32, WORDS>>,
    row_at: u32,
    packet: u32,
    o: u32,
) {
    if o >= WORDS / 8u {
        return;
    }
    let octet = quads[row_at / 8u + packet * (WORDS / 8u) + o];
    for (var j = 0u; j < 4u; j++) {
        (*loaded)[8u * o + 2u * j] = u32(octet[j]);
        (*loaded)[8u * o + 2u * j + 1u] = u32(octet[j] >> 32u);
    }
}

fn load(row_at: u32, packet: u32) -> array<u32, WORDS> {
    var loaded: array<u32, WORDS>;
    load_octet(&loaded, row_at, packet, 0u);
    load_octet(&loaded, row_at, packet, 1u);
    load_octet(&loaded, row_at, packet, 2u);
    load_octet(&loaded, row_at, packet, 3u);
    load_octet(&loaded, row_at, packet, 4u);
    load_octet(&loaded, row_at, packet, 5u);
    load_octet(&loaded, row_at, packet, 6u);
    load_octet(&loaded, row_at, packet, 7u);
    return loaded;
}
