// The same as `attention`, on CPU adapters: lanes lie along the queries that meet the same keys.
//
// These are the queries of GROUP heads and of all tokens: query r of a head of keys is of token r / GROUP. One
// subgroup takes as many as it has lanes. It loads a key or value once and broadcasts it, and each lane has the
// softmax and the sums of its query to itself.
//
// qkv: the queries [HEADS][head_dim] of token t at t · Q_STRIDE, in quads
// cache: [keys, values][KV_HEADS][CONTEXT][head_dim]
//
// Consts: WORKGROUP = lanes of a subgroup, QUADS = head_dim / 4, at most 64, Q_STRIDE, HEADS, KV_HEADS, CONTEXT,
// WINDOW (0 = all keys). Fragments: state, cache, keys.
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> cache: array<CacheQuad>;

const GROUP: u32 = HEADS / KV_HEADS;
// A head is taken in parts of at most 16 quads, as drivers unroll short loops only; elsewhere the arrays would lie in
// memory, for four to ten times the time. Of what the last part has too much, the query is 0.
const PARTS: u32 = (QUADS + 15u) / 16u;
const PART: u32 = (QUADS + PARTS - 1u) / PARTS;
const PADDED: u32 = PARTS * PART;
// Keys of a round: 3 are as fast, with 4 the loops are too long.
const KEYS: u32 = 2u;
// The quads of a key that a lane loads.
const OWN: u32 = (PADDED + WORKGROUP - 1u) / WORKGROUP;
const LOWEST: f32 = -3.0e38;

alias Head = array<vec4<f32>, PADDED>;
// Of each key or value of a round, every WORKGROUP-th quad.
alias Dealt = array<vec4<f32>, KEYS * OWN>;

fn last_key(token: u32) -> u32 {
    return min(state.position + token, CONTEXT - 1u);
}

fn first_key(token: u32) -> u32 {
    let last = last_key(token);
    if WINDOW > 0u && last >= WINDOW {
        return last + 1u - WINDOW;
    }
    return 0u;
}

// The keys or values of a round, of which those before `end` matter.
fn dealt(rows: u32, base: u32, end: u32, lane: u32) -> Dealt {
    var held: Dealt;
    for (var k = 0u; k < KEYS; k++) {
        let row = (rows + min(base + k, end - 1u)) * QUADS;
        for (var i = 0u; i < OWN; i++) {
            held[k * OWN + i] = from_cache(cache[row + min(i * WORKGROUP + lane, QUADS - 1u)]);
        }
    }
    return held;
}

fn broadcast(held: ptr<function, Dealt>, k: u32, quad: u32) -> vec4<f32> {
    return subgroupShuffle((*held)[k * OWN + quad / WORKGROUP], quad % WORKGROUP);
}

// A part of query · key k.
fn score_part(query: ptr<function, Head>, keys: ptr<function, Dealt>, k: u32, first: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < PART; i++) {
        sum += dot((*query)[first + i], broadcast(keys, k, first + i));
    }
    return sum;
}

// A part of sums = sums · shrink + Σ_k weights_k · value k.
fn add_part(
    sums: ptr<function, Head>,
    shrink: f32,
    weights: ptr<function, array<f32, KEYS>>,
    values: ptr<function, Dealt>,
    first: u32,
) {
    for (var i = 0u; i < PART; i++) {
        var sum = (*sums)[first + i] * shrink;
        for (var k = 0u; k < KEYS; k++) {
            sum += (*weights)[k] * broadcast(values, k, first + i);
        }
        (*sums)[first + i] = sum;
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let queries = GROUP * state.tokens;
    let start = group.y * WORKGROUP;
    if start >= queries {
        return;
    }
    // Lanes without a query repeat the last one.
    let number = min(start + lane, queries - 1u);
    let token = number / GROUP;
    let head = group.x * GROUP + number % GROUP;
    // The keys that any lane's query sees, and of them the workgroup's.
    let end = last_key((min(start + WORKGROUP, queries) - 1u) / GROUP) + 1u;
    let taken = share(vec2(first_key(start / GROUP), end), group.z);
    let first = max(first_key(token), taken.x);
    let last = min(last_key(token) + 1u, taken.y);

    var query: Head;
    for (var i = 0u; i < QUADS; i++) {
        query[i] = qkv[token * Q_STRIDE + head * QUADS + i];
    }
    var highest = LOWEST;
    var sum = 0.0;
    var sums: Head;
    for (var base = taken.x; base < taken.y; base += KEYS) {
        var keys = dealt(group.x * CONTEXT, base, taken.y, lane);
        var weights: array<f32, KEYS>;
        var raised = highest;
        for (var k = 0u; k < KEYS; k++) {
            var score = score_part(&query, &keys, k, 0u);
            if PARTS > 1u {
                score += score_part(&query, &keys, k, PART);
            }
            if PARTS > 2u {
                score += score_part(&query, &keys, k, 2u * PART);
            }
            if PARTS > 3u {
                score += score_part(&query, &keys, k, 3u * PART);
            }
            let seen = base + k >= first && base + k < last;
            weights[k] = select(LOWEST, score, seen);
            raised = max(raised, weights[k]);
        }
        let shrink = exp(highest - raised);
        highest = raised;
        sum *= shrink;
        for (var k = 0u; k < KEYS; k++) {
            let seen = base + k >= first && base + k < last;
            weights[k] = select(0.0, exp(weights[k] - raised), seen);
            sum += weights[k];
        }
        var values = dealt((KV_HEADS + group.x) * CONTEXT, base, taken.y, lane);
        add_part(&sums, shrink, &weights, &values, 0u);
        if PARTS > 1u {
            add_part(&sums, shrink, &weights, &values, PART);
        }
        if PARTS > 2u {
            add_part(&sums, shrink, &weights, &values, 2u * PART);
        }
        if PARTS > 3u {
            add_part(&sums, shrink, &weights, &values, 3u * PART);
        }
    }

    if start + lane < queries {
        store_sum(token, head, group.z, highest, sum);
        for (var i = 0u; i < QUADS; i++) {
            store(token, head, group.z, i, sums[i], sum);
        }
    }
}
