// Adds a packet of each row. Lanes without one take the last again, against zeros: loads are in flight side by
// side, and CPU adapters run without lane masks, only where nothing is conditional.
fn add_round(
    acc: ptr<function, array<f32, ACC>>,
    row_at: array<u32, ROWS>,
    row0: u32,
    own: u32,
    packets: u32,
) {
    let block0 = row0 / V;
    var packet = own;
    if GUARD {
        packet = min(own, packets - 1u);
    }
    let held = fetch(packet);
    let fields = fetch_fields(block0, packet);
    let scales = fetch_scales(row0, packet);
    add_blocks(acc, row_at, 0u, packet, own < packets, block0, held, fields, scales);
    add_blocks(acc, row_at, 1u, packet, own < packets, block0, held, fields, scales);
}

// Adds part p of the blocks of rows; the packet counts as zeros unless `counts`. There are SPLIT parts for the
// same reason as `add_rows` has PARTS.
fn add_blocks(
    acc: ptr<function, array<f32, ACC>>,
    row_at: array<u32, ROWS>,
    p: u32,
    packet: u32,
    counts: bool,
    block0: u32,
    held: array<f32, HELD>,
    fields: array<u32, FIELDS>,
    scales: array<u32, SCALES>,
) {
    if p >= SPLIT {
        return;
    }
    let blocks = ROWS / SHARE / SPLIT;
    for (var block = p * blocks; block < (p + 1u) * blocks; block++) {
        var picked = pick(held, fields, block0, block, packet);
        if GUARD {
            for (var i = 0u; i < BATCH * SPAN; i++) {
                picked[i] = select(0.0, picked[i], counts);
            }
        }
        let sums = sum_segments(picked);
        add_rows(acc, row_at, block, 0u, packet, picked, sums, scales);
        add_rows(acc, row_at, block, 1u, packet, picked, sums, scales);
    }
}

// Adds part p of the rows of a block. CPU adapters unroll a loop over rows only up to some length: in two loops
// over half the rows each, bodies may be twice as long.
fn add_rows(
    acc: ptr<function, array<f32, ACC>>,
    row_at: array<u32, ROWS>,
    block: u32,
    p: u32,
    packet: u32,
    picked: array<f32, BATCH * SPAN>,
    sums: array<f32, SUMS>,
    scales: array<u32, SCALES>,
) {
    if p >= PARTS {
        return;
    }
    for (var i = 0u; i < SHARE / PARTS; i++) {
        let r = block * SHARE + p * (SHARE / PARTS) + i;
        add_packet(acc, r, load(row_at[r], packet), picked, sums, scales);
    }
}

fn add_rounds(
    acc: ptr<function, array<f32, ACC>>,
    row_at: array<u32, ROWS>,
    row0: u32,
    own: u32,
    packets: u32,
) {
    for (var base = 0u; base < packets; base += WORKGROUP) {
        add_round(acc, row_at, row0, base + own, packets);
    }
}
