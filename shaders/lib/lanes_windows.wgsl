// The sums of a tile of a 2:4 weight, as if it were dense: values are put at their columns in their windows,
// among zeros, and every x is loaded once for all rows. Half of the products are by zero, but where rows hardly
// share columns, these cost less than more loads of x.
//
// NaN and infinity must not reach y through a column that is not kept. Where a sum shows them, it is made again
// of what is kept alone.
const WINDOWS: u32 = SPAN / N;
const WIDTH: u32 = 4u * WINDOWS;

// What a lane holds of a row: the windows of a packet.
fn expanded(row0: u32, packet: u32) -> array<array<f32, WIDTH>, ROWS> {
    let fields = fetch_fields(row0 / V, packet);
    let held = tile(row0, packet);
    var windows: array<array<f32, WIDTH>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        for (var w = 0u; w < WINDOWS; w++) {
            let first = field(fields, row0 / V, r / SHARE, w * N) & INDEX_MASK;
            let second = field(fields, row0 / V, r / SHARE, w * N + 1u) & INDEX_MASK;
            for (var c = 0u; c < 4u; c++) {
                windows[r][4u * w + c] =
                    select(select(0.0, held[r][w * N + 1u], second == c), held[r][w * N], first == c);
            }
        }
    }
    return windows;
}

// Adds window w of the packet that lane `i` holds. A loop over windows would not be unrolled.
fn add_window(
    acc: ptr<function, array<f32, ROWS * STRIPS>>,
    held: array<array<f32, WIDTH>, ROWS>,
    w: u32,
    packet: u32,
    i: u32,
    x0: u32,
) {
    for (var c = 0u; c < 4u; c++) {
        let col = packet * WIDTH + 4u * w + c;
        if !EDGE || col < params.cols {
            let xs = xt_at(col, x0);
            for (var r = 0u; r < ROWS; r++) {
                let value = hand_round(held[r][4u * w + c], i);
                for (var t = 0u; t < STRIPS; t++) {
                    (*acc)[r * STRIPS + t] += value * xs[t];
                }
            }
        }
    }
}

fn sum_tile(row0: u32, x0: u32, lane: u32) -> array<f32, ROWS * STRIPS> {
    var acc: array<f32, ROWS * STRIPS>;
    let packets = (params.slots + SPAN - 1u) / SPAN;
    for (var first = 0u; first < packets; first += HELD) {
        let held = expanded(row0, min(first + lane % HELD, packets - 1u));
        let here = min(HELD, packets - first);
        for (var i = 0u; i < here; i++) {
            add_window(&acc, held, 0u, first + i, i, x0);
            add_window(&acc, held, 1u, first + i, i, x0);
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        var odd = false;
        for (var t = 0u; t < STRIPS; t++) {
            odd = odd || (bitcast<u32>(acc[r * STRIPS + t]) & 0x7f800000u) == 0x7f800000u;
        }
        if odd {
            let sums = sum_kept(min(row0 + r, params.rows - 1u), x0);
            for (var t = 0u; t < STRIPS; t++) {
                acc[r * STRIPS + t] = sums[t];
            }
        }
    }
    return acc;
}

// The sums of a row over what is kept of it.
fn sum_kept(row: u32, x0: u32) -> array<f32, STRIPS> {
    var sums: array<f32, STRIPS>;
    for (var slot = 0u; slot < params.slots; slot++) {
        let col = column(row / V, slot);
        if col < params.cols {
            let values = decoded(row, slot / SPAN);
            let xs = xt_at(col, x0);
            for (var t = 0u; t < STRIPS; t++) {
                sums[t] += values[slot % SPAN] * xs[t];
            }
        }
    }
    return sums;
}
