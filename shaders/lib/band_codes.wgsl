// Codes: Σ scale · (code − zero) · x = scale · (Σ code · x − zero · Σ x), group by group. Active
// columns ascend, so those of a group are neighbours in the list; a slice is an equal share of
// the groups, dealt to the teams in turns. Two columns are loaded before either is multiplied.
const PER_WORD: u32 = 32u / BITS;
const TURN: u32 = 2u;

fn sum_slice(place: Place) -> array<f32, ACC> {
    var acc: array<f32, ACC>;
    let groups = (params.cols + GROUP - 1u) / GROUP;
    let begin = slice_begin(place.slice, groups);
    let end = slice_begin(place.slice + 1u, groups);
    search_columns(place, begin * GROUP, min(end * GROUP, params.cols));
    for (var g = begin + place.team; g < end; g += TEAMS) {
        var dots: array<f32, ACC>;
        var sums: array<f32, BATCH>;
        let scales = params.scales + (place.band * groups + g) * params.scale_stride + place.first;
        let before = touch(scales + place.lane * (ROWS / LANES), ROWS / LANES / 16u);
        let stop = entries_before(min((g + 1u) * GROUP, params.cols));
        for (var first = entries_before(g * GROUP); first < stop; first += HELD) {
            let held = hold(place, first, stop, before);
            // For many vectors the turns are too long to be unrolled.
            let turns = select(min(HELD, stop - first), HELD, BATCH <= 2u);
            for (var turn = 0u; turn < turns; turn += TURN) {
                var packed: array<array<u32, WORDS>, TURN * LOADS>;
                for (var i = 0u; i < TURN; i++) {
                    let run = run_at(place, held_column(held, turn + i));
                    for (var l = 0u; l < LOADS; l++) {
                        packed[i * LOADS + l] = load(run, l * LANES + place.along);
                    }
                }
                for (var i = 0u; i < TURN; i++) {
                    var xs: array<f32, BATCH>;
                    for (var b = 0u; b < BATCH; b++) {
                        xs[b] = held_x(held, turn + i, b);
                        sums[b] += xs[b];
                    }
                    for (var l = 0u; l < LOADS; l++) {
                        // Drivers unroll short loops inside short loops, not long ones.
                        for (var word = 0u; word < WORDS; word++) {
                            for (var j = 0u; j < PER_WORD; j++) {
                                let at = word * PER_WORD + j;
                                let q = centred(packed[i * LOADS + l], at * BITS, 0.0);
                                for (var b = 0u; b < BATCH; b++) {
                                    dots[(l * SPAN + at) * BATCH + b] += q * xs[b];
                                }
                            }
                        }
                    }
                }
            }
        }
        // The scales of a packet are as many words as it has codes.
        for (var l = 0u; l < LOADS; l++) {
            for (var k = 0u; k < PER_WORD; k++) {
                let loaded = load(scales, (l * LANES + place.along) * PER_WORD + k);
                for (var j = 0u; j < WORDS; j++) {
                    let zero = zero_of(loaded[j]);
                    let scale = scale_of(loaded[j]);
                    for (var b = 0u; b < BATCH; b++) {
                        let i = (l * SPAN + k * WORDS + j) * BATCH + b;
                        acc[i] += scale * (dots[i] - zero * sums[b]);
                    }
                }
            }
        }
    }
    return acc;
}
