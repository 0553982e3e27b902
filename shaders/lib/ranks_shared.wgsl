// Where a lane's channels stand among all of a round, by a sum over the lanes in workgroup memory.
struct Ranks {
    before: u32,    // active channels of the lanes before
    all: u32,       // of all lanes
}

var<workgroup> counts: array<u32, WORKGROUP>;

// Counts of this lane and all before it, and of all lanes.
fn summed(lane: u32, count: u32) -> vec2<u32> {
    counts[lane] = count;
    for (var step = 1u; step < WORKGROUP; step *= 2u) {
        workgroupBarrier();
        let before = select(0u, counts[max(lane, step) - step], lane >= step);
        workgroupBarrier();
        counts[lane] += before;
    }
    workgroupBarrier();
    let sums = vec2(counts[lane], counts[WORKGROUP - 1u]);
    workgroupBarrier();
    return sums;
}

fn total(lane: u32, count: u32) -> u32 {
    return summed(lane, count).y;
}

fn ranks_of(lane: u32, any: vec4<bool>) -> Ranks {
    let count = dot(select(vec4<u32>(), vec4(1u), any), vec4(1u));
    let sums = summed(lane, count);
    return Ranks(sums.x - count, sums.y);
}
