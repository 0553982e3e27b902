// Plain values: the entries of a slice are dealt to the teams in turns.
fn sum_slice(place: Place) -> array<f32, ACC> {
    var acc: array<f32, ACC>;
    let entries = entries_of(place);
    for (var first = entries.x + place.team * HELD; first < entries.y; first += TEAMS * HELD) {
        let held = hold(place, first, entries.y, 0u);
        for (var i = 0u; i < HELD; i++) {
            let run = run_at(place, held_column(held, i));
            var xs: array<f32, BATCH>;
            for (var b = 0u; b < BATCH; b++) {
                xs[b] = held_x(held, i, b);
            }
            for (var l = 0u; l < LOADS; l++) {
                let packed = load(run, l * LANES + place.along);
                for (var word = 0u; word < WORDS; word++) {
                    let values = decode(packed[word]);
                    for (var j = 0u; j < PER_WORD; j++) {
                        for (var b = 0u; b < BATCH; b++) {
                            acc[(l * SPAN + word * PER_WORD + j) * BATCH + b] += values[j] * xs[b];
                        }
                    }
                }
            }
        }
    }
    return acc;
}
