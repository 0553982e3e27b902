// A tile of a weight that lies by rows: one packet of each row.
fn tile(row0: u32, packet: u32) -> array<array<f32, SPAN>, ROWS> {
    var held: array<array<f32, SPAN>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        // Rows past the end repeat the last one; their sums are not stored.
        held[r] = decoded(min(row0 + r, params.rows - 1u), packet);
    }
    return held;
}
