// AHEAD rounds at a time: what all of them need is loaded before the first is multiplied. A packet of
// codes is few bytes, and a GPU reaches the bandwidth of its memory only with many loads in flight.
// Lanes without a packet repeat the last against zeros.
fn add_rounds(
    acc: ptr<function, array<f32, ACC>>,
    row_at: array<u32, ROWS>,
    row0: u32,
    own: u32,
    packets: u32,
) {
    let block0 = row0 / V;
    for (var base = 0u; base < packets; base += AHEAD * WORKGROUP) {
        var packet: array<u32, AHEAD>;
        var packed: array<array<u32, WORDS>, AHEAD * ROWS>;
        var scales: array<array<u32, SCALES>, AHEAD>;
        var fields: array<array<u32, FIELDS>, AHEAD>;
        var held: array<array<f32, HELD>, AHEAD>;
        for (var a = 0u; a < AHEAD; a++) {
            packet[a] = min(base + a * WORKGROUP + own, packets - 1u);
            for (var r = 0u; r < ROWS; r++) {
                packed[a * ROWS + r] = load(row_at[r], packet[a]);
            }
            scales[a] = fetch_scales(row0, packet[a]);
            fields[a] = fetch_fields(block0, packet[a]);
            held[a] = fetch(packet[a]);
        }
        for (var a = 0u; a < AHEAD; a++) {
            for (var block = 0u; block < ROWS / SHARE; block++) {
                var picked = pick(held[a], fields[a], block0, block, packet[a]);
                if GUARD {
                    for (var i = 0u; i < BATCH * SPAN; i++) {
                        let own_packet = base + a * WORKGROUP + own;
                        picked[i] = select(0.0, picked[i], own_packet < packets);
                    }
                }
                let sums = sum_segments(picked);
                for (var i = 0u; i < SHARE; i++) {
                    let r = block * SHARE + i;
                    add_packet(acc, r, packed[a * ROWS + r], picked, sums, scales[a]);
                }
            }
        }
    }
}
