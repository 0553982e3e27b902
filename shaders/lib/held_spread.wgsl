// A team is a subgroup: each of its lanes looks up a column, then hands it round. What a look-up
// costs is shared by all.
const HELD: u32 = LANES;

struct Held {
    column: u32,
    xs: array<f32, BATCH>,
}

fn hold(place: Place, first: u32, end: u32) -> Held {
    var held: Held;
    held.column = column_of(min(first + place.lane, end - 1u));
    for (var b = 0u; b < BATCH; b++) {
        held.xs[b] = x_at(vector_of(place, b), held.column);
    }
    return held;
}

fn held_here(first: u32, end: u32) -> u32 {
    return min(HELD, end - first);
}

fn held_column(held: Held, i: u32) -> u32 {
    return subgroupShuffle(held.column, i);
}

fn held_x(held: Held, i: u32, b: u32) -> f32 {
    return subgroupShuffle(held.xs[b], i);
}
