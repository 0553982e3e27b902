// A lane's packets go to the planes of their rows, four slots a quad.
fn put_weights(held: array<array<u32, RAW>, W_HELD>, step: u32, lane: u32) {
    for (var k = 0u; k < W_HELD; k++) {
        let i = k * WORKGROUP + lane;
        if W_ITEMS % WORKGROUP == 0u || i < W_ITEMS {
            let row = i / PACKETS;
            let packet = step * PACKETS + i % PACKETS;
            let values = decode_packet(held[k], packet);
            let at = row / TR * W_STRIDE + i % PACKETS * (SPAN / 4u);
            for (var q = 0u; q < SPAN / 4u; q++) {
                let four = vec4(
                    values[4u * q],
                    values[4u * q + 1u],
                    values[4u * q + 2u],
                    values[4u * q + 3u],
                );
                w_tile[row % TR][at + q] =
                    select(vec4<f32>(), four, packet * SPAN < params.slots);
            }
        }
    }
}
