// N:M with windows of four columns, by selection: the x of a packet's windows is loaded
// once for all rows, then every row picks from registers. A packet holds whole windows.
const WINDOWS: u32 = SPAN / N;
const HELD: u32 = BATCH * WINDOWS * 4u;

fn fetch(packet: u32) -> array<f32, HELD> {
    var held: array<f32, HELD>;
    for (var b = 0u; b < BATCH; b++) {
        for (var w = 0u; w < WINDOWS; w++) {
            let at = (b * WINDOWS + w) * 4u;
            let window = packet * WINDOWS + w;
            if EDGE {
                for (var i = 0u; i < 4u; i++) {
                    held[at + i] = x_or_zero(b, window * 4u + i);
                }
            } else {
                let quad = x_quad(b, window);
                held[at] = quad.x;
                held[at + 1u] = quad.y;
                held[at + 2u] = quad.z;
                held[at + 3u] = quad.w;
            }
        }
    }
    return held;
}

// Slot k of a window holds one of the columns k … k + 4 - N, since indices ascend.
fn choose(held: array<f32, HELD>, at: u32, k: u32, index: u32) -> f32 {
    let odd = (index & 1u) != 0u;
    let upper = (index & 2u) != 0u;
    if N == 4u {
        return held[at + k];
    }
    if N == 3u {
        // One of two neighbours: they differ in their lowest bit.
        return select(held[at + k], held[at + k + 1u], odd == ((k + 1u) % 2u == 1u));
    }
    if N == 2u {
        if k == 0u {
            return select(select(held[at], held[at + 1u], odd), held[at + 2u], upper);
        }
        return select(held[at + 1u], select(held[at + 2u], held[at + 3u], odd), upper);
    }
    return select(
        select(held[at], held[at + 1u], odd),
        select(held[at + 2u], held[at + 3u], odd),
        upper,
    );
}

fn pick(
    held: array<f32, HELD>,
    fields: array<u32, FIELDS>,
    block0: u32,
    block: u32,
    packet: u32,
) -> array<f32, BATCH * SPAN> {
    var picked: array<f32, BATCH * SPAN>;
    // Drivers unroll short loops inside short loops, not long ones.
    for (var q = 0u; q < SPAN / 4u; q++) {
        for (var j = 0u; j < 4u; j++) {
            let i = 4u * q + j;
            let index = field(fields, block0, block, i);
            for (var b = 0u; b < BATCH; b++) {
                picked[b * SPAN + i] = choose(held, (b * WINDOWS + i / N) * 4u, i % N, index);
            }
        }
    }
    return picked;
}
