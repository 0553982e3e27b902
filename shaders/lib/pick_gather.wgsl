// N:M by gather: each slot of an index set loads its own x, once for the rows that share the set.
const HELD: u32 = 1u;

fn fetch(packet: u32) -> array<f32, HELD> {
    return array<f32, HELD>(0.0);
}

fn pick(
    held: array<f32, HELD>,
    fields: array<u32, FIELDS>,
    block0: u32,
    block: u32,
    packet: u32,
) -> array<f32, BATCH * SPAN> {
    var picked: array<f32, BATCH * SPAN>;
    for (var i = 0u; i < SPAN; i++) {
        let col = packet_column(fields, block0, block, packet, i);
        for (var b = 0u; b < BATCH; b++) {
            picked[b * SPAN + i] = x_or_zero(b, col);
        }
    }
    return picked;
}
