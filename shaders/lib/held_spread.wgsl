// A team is a subgroup: each of its lanes looks up LOOKS columns, then hands them round. What a
// look-up costs is shared by all. Entries past the end repeat the last one against zeros.
//
// Where columns are left out, processors do not prefetch the runs that remain. So a lane touches the first AHEAD
// lines of its runs, one word each, before all lanes load them whole: these lines come side by side, and the rest
// of a long run follows. llvmpipe turns loads of 64-bit integers into masked ones, which on Zen 5 wait for
// missing lines one after the other; loads of words are plain.
const HELD: u32 = LOOKS * LANES;

struct Held {
    columns: array<u32, LOOKS>,
    xs: array<f32, LOOKS * BATCH>,
}

fn hold(place: Place, first: u32, end: u32, before: u32) -> Held {
    var held: Held;
    for (var k = 0u; k < LOOKS; k++) {
        let entry = first + k * LANES + place.lane;
        let column = column_of(min(entry, end - 1u));
        held.columns[k] = after(column, before & touch(run_at(place, column), AHEAD));
        for (var b = 0u; b < BATCH; b++) {
            let found = x_at(vector_of(place, b), column);
            held.xs[k * BATCH + b] = select(0.0, found, entry < end);
        }
    }
    return held;
}

// Touches `lines` cache lines from word `at` on; the result depends on all of them.
fn touch(at: u32, lines: u32) -> u32 {
    var touched = 0xffffffffu;
    for (var line = 0u; line < lines; line++) {
        touched &= words[at + 16u * line];
    }
    return touched;
}

// The column, but only once what was touched is there. Its number never exceeds the last one's, but no compiler
// knows that.
fn after(column: u32, touched: u32) -> u32 {
    return min(column, params.cols - 1u + (touched >> 31u));
}

fn held_column(held: Held, i: u32) -> u32 {
    return subgroupShuffle(held.columns[i / LANES], i % LANES);
}

fn held_x(held: Held, i: u32, b: u32) -> f32 {
    return subgroupShuffle(held.xs[i / LANES * BATCH + b], i % LANES);
}
