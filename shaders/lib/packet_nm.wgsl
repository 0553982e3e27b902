// The index words of a packet, loaded once for all index sets of the workgroup's rows.
const SETS: u32 = ROWS / SHARE;
const GROUPS: u32 = (SETS + INTERLEAVE - 1u) / INTERLEAVE;
const FIELDS: u32 = GROUPS * SPAN / 4u;

fn fetch_fields(block0: u32, packet: u32) -> array<u32, FIELDS> {
    var fields: array<u32, FIELDS>;
    for (var g = 0u; g < GROUPS; g++) {
        // A tile that reaches past the last row finds the padding of its group, or repeats the last group.
        let group = min(block0 / INTERLEAVE + g, (params.rows - 1u) / V / INTERLEAVE);
        let at = params.indices + group * params.index_stride + packet * (SPAN / 4u);
        for (var q = 0u; q < SPAN / 4u; q++) {
            fields[g * (SPAN / 4u) + q] = words[at + q];
        }
    }
    return fields;
}

// Slot i's place in its window, in the lowest bits; what lies above them is not cleared.
fn field(fields: array<u32, FIELDS>, block0: u32, block: u32, i: u32) -> u32 {
    let word = fields[block / INTERLEAVE * (SPAN / 4u) + i / 4u];
    var part = block % INTERLEAVE;
    if SETS % INTERLEAVE != 0u {
        // The workgroup has only some of a group's sets.
        part = (block0 + block) % INTERLEAVE;
    }
    return word >> ((part * 4u + i % 4u) * INDEX_BITS);
}

// The column of slot i of a packet.
fn packet_column(
    fields: array<u32, FIELDS>,
    block0: u32,
    block: u32,
    packet: u32,
    i: u32,
) -> u32 {
    var window = (packet * SPAN + i) / N;
    if SPAN % N == 0u {
        window = packet * (SPAN / N) + i / N;
    }
    return window * M + (field(fields, block0, block, i) & INDEX_MASK);
}
