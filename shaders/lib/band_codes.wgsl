// Codes: Σ scale · (code − zero) · x = scale · (Σ code · x − zero · Σ x), group by group. Active
// columns ascend, so those of a group are neighbours in the list; a slice is an equal share of
// the groups, dealt to the teams in turns.
fn sum_slice(place: Place) -> array<f32, ACC> {
    var acc: array<f32, ACC>;
    let groups = (params.cols + GROUP - 1u) / GROUP;
    let begin = slice_begin(place.slice, groups);
    let end = slice_begin(place.slice + 1u, groups);
    for (var g = begin + place.team; g < end; g += TEAMS) {
        var dots: array<f32, ACC>;
        var sums: array<f32, BATCH>;
        let stop = entries_before((g + 1u) * GROUP);
        for (var first = entries_before(g * GROUP); first < stop; first += HELD) {
            let held = hold(place, first, stop);
            let here = held_here(first, stop);
            for (var i = 0u; i < here; i++) {
                let run = run_at(place, held_column(held, i));
                var xs: array<f32, BATCH>;
                for (var b = 0u; b < BATCH; b++) {
                    xs[b] = held_x(held, i, b);
                    sums[b] += xs[b];
                }
                for (var l = 0u; l < LOADS; l++) {
                    let packed = load(run, l * LANES + place.along);
                    for (var r = 0u; r < SPAN; r++) {
                        let q = centred(packed, r * BITS, 0.0);
                        for (var b = 0u; b < BATCH; b++) {
                            dots[(l * SPAN + r) * BATCH + b] += q * xs[b];
                        }
                    }
                }
            }
        }
        let scales = params.scales + (place.band * groups + g) * params.scale_stride + place.first;
        for (var i = 0u; i < LANE_ROWS; i++) {
            let word = words[scales + row_of(place, i)];
            let zero = f32(i32(word >> 16u));
            for (var b = 0u; b < BATCH; b++) {
                acc[i * BATCH + b] += scale_of(word) * (dots[i * BATCH + b] - zero * sums[b]);
            }
        }
    }
    return acc;
}
