// Draws a token from logits in the steps that `sampling.rs` describes: top-k and top-p by radix select
// over keys that order as the logits do, masses and their sums in integers.
//
// One workgroup. Reads the logits once if the temperature is 0, else about 14 times. It then advances the
// sequence by one token, so that the next run needs nothing from the host.
//
// Consts: WORKGROUP, VOCAB. Fragments: state.
struct Draw {
    temperature: f32,
    top_k: u32,      // 0: all
    share: u32,      // top-p in 2^-32; 0: all
    seed_low: u32,
    seed_high: u32,
}

@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> draw: Draw;
@group(0) @binding(3) var<storage, read_write> state: State;
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
@group(0) @binding(5) var<storage, read_write> sampled: array<u32>;

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> best_key: atomic<u32>;
var<workgroup> best_id: atomic<u32>;
var<workgroup> tally: atomic<u32>;
var<workgroup> digit: u32;
var<workgroup> left: u32;
var<workgroup> sums: array<u32, WORKGROUP>;
var<workgroup> finder: u32;
var<private> highest: f32;

// Both zeros have the same key; NaN has key 0, below all numbers.
fn key(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return 0u;
    }
    if bits == 0x80000000u || (bits & 0x80000000u) == 0u {
        return bits | 0x80000000u;
    }
    return ~bits;
}

fn mul_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let carry = a0 * b1 + (middle & 0xffffu);
    return a1 * b1 + (middle >> 16u) + (carry >> 16u);
}

// One round of PCG's permutation RXS-M-XS (https://jcgt.org/published/0009/03/02/).
fn mix(value: u32) -> u32 {
    let stepped = value * 747796405u + 2891336453u;
    let word = ((stepped >> ((stepped >> 28u) + 4u)) ^ stepped) * 277803737u;
    return (word >> 22u) ^ word;
}

fn mass(logit: f32, top: u32, unit: u32) -> u32 {
    if key(logit) == top {
        return unit - 1u;
    }
    let p = exp((logit - highest) / draw.temperature);
    return min(u32(p * f32(unit)), unit - 1u);
}

// The sum over all tokens with a key of at least `least`: their number if `unit` is 0, else their mass.
fn amount(lane: u32, least: u32, top: u32, unit: u32) -> u32 {
    if lane == 0u {
        atomicStore(&tally, 0u);
    }
    workgroupBarrier();
    var own = 0u;
    for (var i = lane; i < VOCAB; i += WORKGROUP) {
        let logit = logits[i];
        if key(logit) >= least {
            if unit == 0u {
                own += 1u;
            } else {
                own += mass(logit, top, unit);
            }
        }
    }
    atomicAdd(&tally, own);
    workgroupBarrier();
    let found = atomicLoad(&tally);
    workgroupBarrier();
    return found;
}

// The largest key such that the tokens with it or a larger one amount to `wanted`; found eight bits at a time.
fn select_key(lane: u32, wanted: u32, least: u32, top: u32, unit: u32) -> u32 {
    var prefix = 0u;
    var missing = wanted;
    for (var round = 0u; round < 4u; round++) {
        let shift = 24u - 8u * round;
        for (var i = lane; i < 256u; i += WORKGROUP) {
            atomicStore(&bins[i], 0u);
        }
        workgroupBarrier();
        for (var i = lane; i < VOCAB; i += WORKGROUP) {
            let logit = logits[i];
            let k = key(logit);
            if k >= least && (round == 0u || (k >> ((shift + 8u) & 31u)) == prefix) {
                var counts = 1u;
                if unit != 0u {
                    counts = mass(logit, top, unit);
                }
                atomicAdd(&bins[(k >> shift) & 255u], counts);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var rest = missing;
            var found = 0u;
            for (var i = 0u; i < 256u; i++) {
                let bin = atomicLoad(&bins[255u - i]);
                if bin >= rest {
                    found = 255u - i;
                    break;
                }
                rest -= bin;
            }
            digit = found;
            left = rest;
        }
        workgroupBarrier();
        prefix = (prefix << 8u) | digit;
        missing = left;
        workgroupBarrier();
    }
    return prefix;
}

fn drawn(lane: u32, top: u32) -> u32 {
    var least = 1u;
    if draw.top_k > 0u {
        least = max(select_key(lane, draw.top_k, least, top, 0u), 1u);
    }
    let count = amount(lane, least, top, 0u);
    let shift = max(32u - countLeadingZeros(max(count, 1u) - 1u), 8u);
    let unit = 1u << (32u - shift);
    var whole = amount(lane, least, top, unit);
    if draw.share > 0u {
        let product = draw.share * whole;
        let wanted = max(mul_high(draw.share, whole) + select(0u, 1u, product != 0u), 1u);
        least = max(select_key(lane, wanted, least, top, unit), least);
        whole = amount(lane, least, top, unit);
    }

    let high = mix(draw.seed_high);
    let low = mix(high + draw.seed_low);
    let point = mul_high(mix(mix(low + state.step)), whole);

    // Ids ascend: each lane sums a range of them, then lane 0 finds the range that holds the point.
    const RANGE = (VOCAB + WORKGROUP - 1u) / WORKGROUP;
    let from_id = lane * RANGE;
    let to_id = min(from_id + RANGE, VOCAB);
    var own = 0u;
    for (var i = from_id; i < to_id; i++) {
        if key(logits[i]) >= least {
            own += mass(logits[i], top, unit);
        }
    }
    sums[lane] = own;
    workgroupBarrier();
    if lane == 0u {
        var before = 0u;
        finder = 0u;
        left = point;
        for (var i = 0u; i < WORKGROUP; i++) {
            if point >= before && point - before < sums[i] {
                finder = i;
                left = point - before;
            }
            before += sums[i];
        }
        digit = 0u;
    }
    workgroupBarrier();
    if lane == finder {
        var rest = left;
        for (var i = from_id; i < to_id; i++) {
            if key(logits[i]) >= least {
                let held = mass(logits[i], top, unit);
                if rest < held {
                    digit = i;
                    break;
                }
                rest -= held;
            }
        }
    }
    workgroupBarrier();
    return digit;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u {
        atomicStore(&best_key, 0u);
        atomicStore(&best_id, 0xffffffffu);
    }
    workgroupBarrier();
    var own_key = 0u;
    var own_id = 0u;
    for (var i = lane; i < VOCAB; i += WORKGROUP) {
        let k = key(logits[i]);
        if k > own_key {
            own_key = k;
            own_id = i;
        }
    }
    atomicMax(&best_key, own_key);
    workgroupBarrier();
    let top = atomicLoad(&best_key);
    if own_key == top && top > 0u {
        atomicMin(&best_id, own_id);
    }
    workgroupBarrier();

    // 0xffffffff if no logit is a number.
    var token = atomicLoad(&best_id);
    if draw.temperature > 0.0 {
        highest = logits[min(token, VOCAB - 1u)];
        let found = drawn(lane, top);
        if top > 0u {
            token = found;
        }
    }
    if lane == 0u {
        sampled[0] = token;
        ids[0] = min(token, VOCAB - 1u);
        state.position += state.tokens;
        state.tokens = 1u;
        state.step += 1u;
    }
}
