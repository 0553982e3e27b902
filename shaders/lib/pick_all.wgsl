// Dense: a packet of values meets the x of the same columns, the same for every row.
const HELD: u32 = BATCH * SPAN;

fn fetch(packet: u32) -> array<f32, HELD> {
    var held: array<f32, HELD>;
    let col = packet * SPAN;
    for (var b = 0u; b < BATCH; b++) {
        if EDGE {
            for (var i = 0u; i < SPAN; i++) {
                held[b * SPAN + i] = x_or_zero(b, col + i);
            }
        } else if SPAN % 4u == 0u {
            for (var q = 0u; q < SPAN / 4u; q++) {
                let quad = x_quad(b, col / 4u + q);
                held[b * SPAN + 4u * q] = quad.x;
                held[b * SPAN + 4u * q + 1u] = quad.y;
                held[b * SPAN + 4u * q + 2u] = quad.z;
                held[b * SPAN + 4u * q + 3u] = quad.w;
            }
        } else {
            for (var i = 0u; i < SPAN; i++) {
                held[b * SPAN + i] = x_at(b, col + i);
            }
        }
    }
    return held;
}

fn pick(
    held: array<f32, HELD>,
    fields: array<u32, FIELDS>,
    block0: u32,
    block: u32,
    packet: u32,
) -> array<f32, BATCH * SPAN> {
    return held;
}
