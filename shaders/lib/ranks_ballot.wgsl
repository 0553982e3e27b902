// Where a lane's channels stand among all of a round, by ballots: the workgroup is one subgroup of at most 32 lanes.
struct Ranks {
    before: u32,    // active channels of the lanes before
    all: u32,       // of all lanes
}

fn total(lane: u32, count: u32) -> u32 {
    return subgroupAdd(count);
}

fn ranks_of(lane: u32, any: vec4<bool>) -> Ranks {
    let ballots = vec4(
        subgroupBallot(any.x).x,
        subgroupBallot(any.y).x,
        subgroupBallot(any.z).x,
        subgroupBallot(any.w).x,
    );
    let lower = countOneBits(ballots & vec4((1u << lane) - 1u));
    return Ranks(dot(lower, vec4(1u)), dot(countOneBits(ballots), vec4(1u)));
}
