// Multiplies slot g of a load of group-pruned weights by x in f32. Needs code and x.

// The x of a piece, zero beyond `cols`.
fn fetch_x(col: u32) -> array<f32, BATCH * PIECE> {
    var xs: array<f32, BATCH * PIECE>;
    for (var b = 0u; b < BATCH; b++) {
        if EDGE {
            for (var i = 0u; i < PIECE; i++) {
                let at = min(col + i, params.cols - 1u);
                xs[b * PIECE + i] = select(0.0, x_at(b, at), col + i < params.cols);
            }
        } else {
            for (var q = 0u; q < PIECE / 4u; q++) {
                let quad = x_quad(b, col / 4u + q);
                xs[b * PIECE + 4u * q] = quad.x;
                xs[b * PIECE + 4u * q + 1u] = quad.y;
                xs[b * PIECE + 4u * q + 2u] = quad.z;
                xs[b * PIECE + 4u * q + 3u] = quad.w;
            }
        }
    }
    return xs;
}

// Σ (code − zero) · x over the piece of slot g, whose x begins at `col`; `word` holds its zero.
fn dot_slot(packed: array<u32, WORDS>, g: u32, word: u32, col: u32) -> array<f32, BATCH> {
    let xs = fetch_x(col);
    var zero = MIDDLE;
    if ZERO_BITS != 0u {
        zero = whole((word >> 16u) & ((1u << ZERO_BITS) - 1u));
    }
    var dots: array<f32, BATCH>;
    // Drivers unroll short loops inside short loops, not long ones.
    for (var c = 0u; c < PIECE / 8u; c++) {
        var parts: array<f32, BATCH>;
        for (var i = 0u; i < 8u; i++) {
            let bit = g * SLOT_WORDS * 32u + (c * 8u + i) * BITS;
            let q = centred(packed, bit, zero);
            for (var b = 0u; b < BATCH; b++) {
                parts[b] += q * xs[b * PIECE + c * 8u + i];
            }
        }
        for (var b = 0u; b < BATCH; b++) {
            dots[b] += parts[b];
        }
    }
    return dots;
}
