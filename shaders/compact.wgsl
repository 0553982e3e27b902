// kept[b, c] = v where |v| > thresholds[c], else 0, with v = activate(x[b, c]); and the list of
// channels that are kept for any vector, ascending, behind how many there are before each block:
//
// | before[blocks + 1] | tally | padding to 4 words | channels |
//
// The tally is the number of channels that were listed since it was cleared, in 64 bits, low word
// first, then how often.
//
// CHESS's channel-wise thresholds, https://arxiv.org/abs/2409.01366. One workgroup: each lane
// takes neighbouring blocks of 16 channels, so that its part of the list is contiguous and only
// the lanes' counts need adding up. Magnitudes are compared as integers, whose order is the same:
// a NaN is above every threshold and kept, and no driver's idea of NaN matters.
//
// Reads x and the thresholds once and writes kept and the list: some 16 bytes a channel.
//
// Consts: WORKGROUP. Fragments: activate.
struct Compact {
    channels: u32,
    batch: u32,
    blocks: u32,
    lane_blocks: u32,   // of a lane
    stride: u32,        // 0 where one threshold serves all channels, else 1
}

@group(0) @binding(0) var<uniform> params: Compact;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> thresholds: array<u32>;
@group(0) @binding(3) var<storage, read_write> kept: array<f32>;
@group(0) @binding(4) var<storage, read_write> list: array<u32>;

var<workgroup> counts: array<u32, WORKGROUP>;

fn magnitude(v: f32) -> u32 {
    return bitcast<u32>(v) & 0x7fffffffu;
}

// Whether any vector keeps the channel.
fn threshold(channel: u32) -> bool {
    let limit = thresholds[channel * params.stride] & 0x7fffffffu;
    var any = false;
    for (var b = 0u; b < params.batch; b++) {
        let at = b * params.channels + channel;
        let v = activate(x[at]);
        let keeps = magnitude(v) > limit;
        kept[at] = select(0.0, v, keeps);
        any |= keeps;
    }
    return any;
}

fn is_active(channel: u32) -> bool {
    var any = 0u;
    for (var b = 0u; b < params.batch; b++) {
        any |= magnitude(kept[b * params.channels + channel]);
    }
    return any != 0u;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    let first = min(lane * params.lane_blocks, params.blocks);
    let last = min(first + params.lane_blocks, params.blocks);
    let end = min(last * 16u, params.channels);
    var count = 0u;
    for (var c = first * 16u; c < end; c++) {
        count += select(0u, 1u, threshold(c));
    }

    // Counts of this lane and all before it.
    counts[lane] = count;
    for (var step = 1u; step < WORKGROUP; step *= 2u) {
        workgroupBarrier();
        let before = select(0u, counts[max(lane, step) - step], lane >= step);
        workgroupBarrier();
        counts[lane] += before;
    }
    workgroupBarrier();

    var at = counts[lane] - count;
    let channels = (params.blocks + 7u) / 4u * 4u;
    for (var block = first; block < last; block++) {
        list[block] = at;
        for (var c = block * 16u; c < min(block * 16u + 16u, params.channels); c++) {
            if is_active(c) {
                list[channels + at] = c;
                at++;
            }
        }
    }
    if lane == WORKGROUP - 1u {
        let count = counts[lane];
        list[params.blocks] = count;
        let low = list[params.blocks + 1u] + count;
        list[params.blocks + 1u] = low;
        list[params.blocks + 2u] += select(0u, 1u, low < count);
        list[params.blocks + 3u] += 1u;
    }
}
