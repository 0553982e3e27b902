// Dense weights have no index fields.
const FIELDS: u32 = 1u;

fn fetch_fields(block0: u32, packet: u32) -> array<u32, FIELDS> {
    return array<u32, FIELDS>();
}

fn packet_column(
    fields: array<u32, FIELDS>,
    block0: u32,
    block: u32,
    packet: u32,
    i: u32,
) -> u32 {
    return packet * SPAN + i;
}
