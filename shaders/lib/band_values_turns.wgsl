// Plain values, for CPU adapters: HELD columns are taken packet by packet of their rows, so that
// the loads of as many runs are in flight, and sums are fetched and put back once for all of
// them. A slice is an equal share of the entries.
var<workgroup> held_sums: array<f32, ACC * LANES>;

fn sum_slice(place: Place) -> array<f32, ACC> {
    for (var i = 0u; i < ACC; i++) {
        held_sums[i * LANES + place.lane] = 0.0;
    }
    let entries = entries_before(params.cols);
    let begin = slice_begin(place.slice, entries);
    let end = slice_begin(place.slice + 1u, entries);
    for (var first = begin; first < end; first += HELD) {
        let held = hold(place, first, end);
        var runs: array<u32, HELD>;
        var xs: array<f32, HELD * BATCH>;
        for (var i = 0u; i < HELD; i++) {
            runs[i] = run_at(place, held_column(held, i));
            for (var b = 0u; b < BATCH; b++) {
                // Entries past the end repeat the last one against zeros.
                xs[i * BATCH + b] = select(0.0, held_x(held, i, b), first + i < end);
            }
        }
        for (var l = 0u; l < LOADS; l++) {
            var acc: array<f32, SPAN * BATCH>;
            let at = l * SPAN * BATCH * LANES + place.lane;
            for (var k = 0u; k < SPAN * BATCH; k++) {
                acc[k] = held_sums[at + k * LANES];
            }
            for (var i = 0u; i < HELD; i++) {
                let packed = load(runs[i], l * LANES + place.along);
                for (var word = 0u; word < WORDS; word++) {
                    let values = decode(packed[word]);
                    for (var j = 0u; j < PER_WORD; j++) {
                        for (var b = 0u; b < BATCH; b++) {
                            acc[(word * PER_WORD + j) * BATCH + b] += values[j] * xs[i * BATCH + b];
                        }
                    }
                }
            }
            for (var k = 0u; k < SPAN * BATCH; k++) {
                held_sums[at + k * LANES] = acc[k];
            }
        }
    }
    var all: array<f32, ACC>;
    for (var i = 0u; i < ACC; i++) {
        all[i] = held_sums[i * LANES + place.lane];
    }
    return all;
}
