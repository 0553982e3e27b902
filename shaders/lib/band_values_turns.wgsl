// Plain values, for CPU adapters: HELD columns are taken together, packet by packet of their rows, so that loads
// of as many runs are in flight, and the sums of a packet are fetched and put back once for all of them, four at
// a time. A slice is an equal share of the entries.
const QUADS: u32 = SPAN * BATCH / 4u;   // of sums, of a packet
var<workgroup> held_sums: array<vec4<f32>, LOADS * QUADS * LANES>;

fn sum_slice(place: Place) -> array<f32, ACC> {
    for (var i = 0u; i < LOADS * QUADS; i++) {
        held_sums[i * LANES + place.lane] = vec4<f32>();
    }
    let entries = entries_of(place);
    for (var first = entries.x; first < entries.y; first += HELD) {
        let held = hold(place, first, entries.y, 0xffffffffu);
        var runs: array<u32, HELD>;
        var xs: array<f32, HELD * BATCH>;
        for (var i = 0u; i < HELD; i++) {
            runs[i] = run_at(place, held_column(held, i));
            for (var b = 0u; b < BATCH; b++) {
                xs[i * BATCH + b] = held_x(held, i, b);
            }
        }
        for (var l = 0u; l < LOADS; l++) {
            var acc: array<f32, SPAN * BATCH>;
            let at = l * QUADS * LANES + place.lane;
            for (var k = 0u; k < QUADS; k++) {
                let four = held_sums[at + k * LANES];
                for (var j = 0u; j < 4u; j++) {
                    acc[4u * k + j] = four[j];
                }
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
            for (var k = 0u; k < QUADS; k++) {
                held_sums[at + k * LANES] =
                    vec4(acc[4u * k], acc[4u * k + 1u], acc[4u * k + 2u], acc[4u * k + 3u]);
            }
        }
    }
    var all: array<f32, ACC>;
    for (var i = 0u; i < LOADS * QUADS; i++) {
        let four = held_sums[i * LANES + place.lane];
        for (var j = 0u; j < 4u; j++) {
            all[4u * i + j] = four[j];
        }
    }
    return all;
}
