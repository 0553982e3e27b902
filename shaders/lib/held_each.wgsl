// Each lane looks up the columns that its team takes: loads of HELD columns are in flight side
// by side. Entries past the end repeat the last one against zeros.
const HELD: u32 = 4u;

struct Held {
    columns: array<u32, HELD>,
    xs: array<f32, HELD * BATCH>,
}

fn hold(place: Place, first: u32, end: u32, before: u32) -> Held {
    var held: Held;
    for (var i = 0u; i < HELD; i++) {
        held.columns[i] = column_of(min(first + i, end - 1u));
        for (var b = 0u; b < BATCH; b++) {
            let found = x_at(vector_of(place, b), held.columns[i]);
            held.xs[i * BATCH + b] = select(0.0, found, first + i < end);
        }
    }
    return held;
}

// Nothing is touched ahead.
fn touch(at: u32, lines: u32) -> u32 {
    return 0u;
}

fn held_column(held: Held, i: u32) -> u32 {
    return held.columns[i];
}

fn held_x(held: Held, i: u32, b: u32) -> f32 {
    return held.xs[i * BATCH + b];
}
