// A lane's part of a step's weights where they lie in bands: packets of SPAN rows of one column, side by side in
// memory for lanes side by side. What lies past an end repeats what comes before it, so that nothing is
// conditional here; it is staged as zeros.
const PACKETS: u32 = TILE_ROWS / SPAN;   // of a column
const W_ITEMS: u32 = PACKETS * TILE_SLOTS;
const W_HELD: u32 = (W_ITEMS + WORKGROUP - 1u) / WORKGROUP;

fn fetch_weights(row0: u32, step: u32, lane: u32) -> array<array<u32, RAW>, W_HELD> {
    var held: array<array<u32, RAW>, W_HELD>;
    for (var k = 0u; k < W_HELD; k++) {
        let i = k * WORKGROUP + lane;
        // Sums of rows past the end are not stored.
        let row = min(row0 + i % PACKETS * SPAN, (params.rows - 1u) / SPAN * SPAN);
        held[k] = fetch_run(row, min(step * TILE_SLOTS + i / PACKETS, params.cols - 1u));
    }
    return held;
}

fn put_weights(held: array<array<u32, RAW>, W_HELD>, step: u32, lane: u32) {
    for (var k = 0u; k < W_HELD; k++) {
        let i = k * WORKGROUP + lane;
        if W_ITEMS % WORKGROUP == 0u || i < W_ITEMS {
            let slot = i / PACKETS;
            let values = decode_run(held[k]);
            for (var j = 0u; j < SPAN; j++) {
                let row = i % PACKETS * SPAN + j;
                let at = row / TR * W_STRIDE + slot / 4u;
                w_tile[row % TR][at][slot % 4u] =
                    select(0.0, values[j], step * TILE_SLOTS + slot < params.slots);
            }
        }
    }
}
