// The sums of a tile, slot by slot: rows that share a column share its x.
fn sum_tile(row0: u32, x0: u32, lane: u32) -> array<f32, ROWS * STRIPS> {
    var acc: array<f32, ROWS * STRIPS>;
    let block0 = row0 / V;
    let cols = params.cols;
    let packets = (params.slots + SPAN - 1u) / SPAN;
    for (var first = 0u; first < packets; first += HELD) {
        let held = tile(row0, min(first + lane % HELD, packets - 1u));
        let here = min(HELD, packets - first);
        for (var i = 0u; i < here; i++) {
            let packet = first + i;
            let fields = fetch_fields(block0, packet);
            for (var j = 0u; j < SPAN; j++) {
                for (var block = 0u; block < ROWS / SHARE; block++) {
                    let col = packet_column(fields, block0, block, packet, j);
                    if !EDGE || col < cols {
                        let xs = xt_at(col, x0);
                        for (var k = 0u; k < SHARE; k++) {
                            let r = block * SHARE + k;
                            let value = hand_round(held[r][j], i);
                            for (var t = 0u; t < STRIPS; t++) {
                                acc[r * STRIPS + t] += value * xs[t];
                            }
                        }
                    }
                }
            }
        }
    }
    return acc;
}
