// A lane's part of a step's weights, as stored. What lies past an end repeats what comes before it, so that
// nothing is conditional here; it is staged as zeros.
const PACKETS: u32 = TILE_SLOTS / SPAN;
const W_ITEMS: u32 = PACKETS * TILE_ROWS;
const W_HELD: u32 = (W_ITEMS + WORKGROUP - 1u) / WORKGROUP;

fn fetch_weights(row0: u32, step: u32, lane: u32) -> array<array<u32, RAW>, W_HELD> {
    var held: array<array<u32, RAW>, W_HELD>;
    let last = (params.slots + SPAN - 1u) / SPAN - 1u;
    for (var k = 0u; k < W_HELD; k++) {
        let i = k * WORKGROUP + lane;
        // Sums of rows past the end are not stored.
        let row = min(row0 + i / PACKETS, params.rows - 1u);
        held[k] = fetch_packet(row, min(step * PACKETS + i % PACKETS, last));
    }
    return held;
}
