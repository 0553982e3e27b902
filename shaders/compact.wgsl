// kept[b, c] = v where |v| > thresholds[c], else 0, with v = activate(x[b, c]); and the list of
// channels that are kept for any vector, ascending, behind how many there are before each block:
//
// | before[blocks + 1] | tally | padding to 4 words | channels |
//
// The tally counts the channels that were listed since it was cleared, in 64 bits, low word first, and then the
// lists. Channels that are not active fill the list from its end: every channel has a place, so that no store
// depends on a condition that processors cannot predict.
//
// CHESS's channel-wise thresholds, https://arxiv.org/abs/2409.01366. A workgroup lists a part of the channels,
// four a lane at a time, and first counts itself what is active before its part: that costs a few loads a
// channel, and saves a launch or a wait for the others. For many vectors flags.wgsl writes `kept` first, and its
// flags take the place of the vectors here.
//
// Reads x and the thresholds once to list and, in later parts, once more to count; writes kept and
// the list: some 16 bytes a channel.
//
// Consts: WORKGROUP. Fragments: keep, activate, channels (quads, scalars or flags), limits (one,
// quads or scalars; flags have their own), ranks (ballot or shared).
struct Compact {
    channels: u32,
    batch: u32,
    rounds: u32,    // of four channels a lane, to list them all
    part: u32,      // of a workgroup
}

@group(0) @binding(0) var<uniform> params: Compact;
@group(0) @binding(4) var<storage, read_write> list: array<u32>;

fn threshold(quad: u32, own: bool) -> vec4<bool> {
    return keep(0u, params.batch, quad, own);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = group.x * params.part;
    let last = min(first + params.part, params.rounds);
    var count = 0u;
    for (var round = 0u; round < first; round++) {
        let any = threshold(round * WORKGROUP + lane, false);
        count += dot(select(vec4<u32>(), vec4(1u), any), vec4(1u));
    }
    var begin = total(lane, count);
    let channels = ((params.channels + 15u) / 16u + 7u) / 4u * 4u;
    for (var round = first; round < last; round++) {
        let quad = round * WORKGROUP + lane;
        let any = threshold(quad, true);
        let ranks = ranks_of(lane, any);
        // Active channels before channel c.
        var before = begin + ranks.before;
        if quad % 4u == 0u && 4u * quad < params.channels {
            list[quad / 4u] = before;
        }
        for (var j = 0u; j < 4u; j++) {
            let c = 4u * quad + j;
            if c < params.channels {
                let place = select(params.channels - 1u - (c - before), before, any[j]);
                list[channels + place] = c;
                before += select(0u, 1u, any[j]);
            }
        }
        begin += ranks.all;
    }
    if lane == 0u && last == params.rounds {
        let tally = (params.channels + 15u) / 16u + 1u;
        list[tally - 1u] = begin;
        let low = list[tally] + begin;
        list[tally] = low;
        list[tally + 1u] += select(0u, 1u, low < begin);
        list[tally + 2u] += 1u;
    }
}
