// Where a lane's channels stand among all of a round, by sums in workgroup memory: of chunks of
// lanes, then of those before. Two steps of many loads, not many steps: each waits at a barrier.
struct Ranks {
    before: u32,    // active channels of the lanes before
    all: u32,       // of all lanes
}

const CHUNK: u32 = 16u;   // a divisor of WORKGROUP
const CHUNKS: u32 = WORKGROUP / CHUNK;

var<workgroup> counts: array<u32, WORKGROUP>;
var<workgroup> chunks: array<u32, CHUNKS>;

// Counts of this lane and all before it, and of all lanes.
fn summed(lane: u32, count: u32) -> vec2<u32> {
    counts[lane] = count;
    workgroupBarrier();
    if lane < CHUNKS {
        var sum = 0u;
        for (var i = 0u; i < CHUNK; i++) {
            sum += counts[lane * CHUNK + i];
        }
        chunks[lane] = sum;
    }
    workgroupBarrier();
    var sums = vec2<u32>();
    for (var i = 0u; i < CHUNKS; i++) {
        sums += chunks[i] * vec2(select(0u, 1u, i < lane / CHUNK), 1u);
    }
    for (var i = 0u; i < CHUNK; i++) {
        sums.x += select(0u, counts[lane / CHUNK * CHUNK + i], i <= lane % CHUNK);
    }
    // The next sums lie where these were.
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
