// Where a lane's channels stand among all of a round, by sums over subgroups, all of one size, and then
// over their sums. Lanes are counted by subgroups: nothing says that those of one lie side by side.
struct Lane {
    @builtin(subgroup_invocation_id) within: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
}

struct Ranks {
    before: u32,    // active channels of the lanes before
    all: u32,       // of all lanes
}

var<workgroup> counts: array<u32, SUBGROUPS>;

fn index_of(lane: Lane) -> u32 {
    return lane.subgroup * lane.size + lane.within;
}

fn ranks(lane: Lane, count: u32) -> Ranks {
    let sum = subgroupAdd(count);
    if lane.within == 0u {
        counts[lane.subgroup] = sum;
    }
    workgroupBarrier();
    var ranks = Ranks(subgroupExclusiveAdd(count), 0u);
    for (var s = 0u; s < SUBGROUPS; s++) {
        ranks.before += select(0u, counts[s], s < lane.subgroup);
        ranks.all += counts[s];
    }
    workgroupBarrier();
    return ranks;
}

fn total(lane: Lane, count: u32) -> u32 {
    return ranks(lane, count).all;
}

fn ranks_of(lane: Lane, any: vec4<bool>) -> Ranks {
    return ranks(lane, dot(select(vec4<u32>(), vec4(1u), any), vec4(1u)));
}
