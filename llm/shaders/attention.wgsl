// o[t, h] = Σ_j p_j v_j,   p = softmax_j(q[t, h] · k_j)   over the keys j that token t sees
//
// One workgroup for each head and token goes over the keys, WORKGROUP at a time: each lane scores one
// key, then lanes take quads of the values. Maximum and sum are carried along (online softmax,
// https://arxiv.org/abs/1805.02867), so scores never reach memory. q comes scaled from `heads`.
//
// qkv: the queries [HEADS][head_dim] of token t at t · Q_STRIDE, in quads
// cache: [keys, values][KV_HEADS][CONTEXT][head_dim]
//
// Consts: WORKGROUP, QUADS = head_dim / 4, Q_STRIDE, HEADS, KV_HEADS, CONTEXT, WINDOW (0 = all keys).
// Fragments: state, total, cache, keys.
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> cache: array<CacheQuad>;

// OWN: the quads of o that a lane holds. SHARES: where there are more lanes than quads, the lanes that
// share one.
const OWN: u32 = (QUADS + WORKGROUP - 1u) / WORKGROUP;
const SHARES: u32 = max(WORKGROUP / QUADS, 1u);
const LOWEST: f32 = -3.0e38;

var<workgroup> query: array<vec4<f32>, QUADS>;
var<workgroup> weights: array<f32, WORKGROUP>;
var<workgroup> shares: array<vec4<f32>, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let head = group.x;
    let token = group.y;
    if token >= state.tokens {
        return;
    }
    let last = min(state.position + token, CONTEXT - 1u);
    var first = 0u;
    if WINDOW > 0u && last >= WINDOW {
        first = last + 1u - WINDOW;
    }
    let start = token * Q_STRIDE + head * QUADS;
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        query[i] = qkv[start + i];
    }
    workgroupBarrier();

    let kv_head = head / (HEADS / KV_HEADS);
    let keys = kv_head * CONTEXT;
    let values = (KV_HEADS + kv_head) * CONTEXT;
    var highest = LOWEST;
    var sum = 0.0;
    var held: array<vec4<f32>, OWN>;
    let taken = share(vec2(first, last + 1u), group.z);
    for (var base = taken.x; base < taken.y; base += WORKGROUP) {
        let count = min(WORKGROUP, taken.y - base);
        var score = LOWEST;
        if lane < count {
            score = 0.0;
            for (var i = 0u; i < QUADS; i++) {
                score += dot(query[i], from_cache(cache[(keys + base + lane) * QUADS + i]));
            }
        }
        let raised = max(highest, largest(lane, score));
        var weight = 0.0;
        if lane < count {
            weight = exp(score - raised);
        }
        weights[lane] = weight;
        let shrink = exp(highest - raised);
        sum = sum * shrink + total(lane, weight);
        highest = raised;
        workgroupBarrier();
        for (var own = 0u; own < OWN; own++) {
            let quad = lane % (QUADS * SHARES) / SHARES + own * WORKGROUP;
            if quad < QUADS && lane < QUADS * SHARES {
                var o_quad = held[own] * shrink;
                for (var j = lane % SHARES; j < count; j += SHARES) {
                    o_quad += weights[j] * from_cache(cache[(values + base + j) * QUADS + quad]);
                }
                held[own] = o_quad;
            }
        }
        workgroupBarrier();
    }

    if lane == 0u {
        store_sum(token, head, group.z, highest, sum);
    }
    if SHARES > 1u {
        shares[lane] = held[0];
        workgroupBarrier();
        if lane < QUADS {
            var quad = vec4(0.0);
            for (var i = 0u; i < SHARES; i++) {
                quad += shares[lane * SHARES + i];
            }
            store(token, head, group.z, lane, quad, sum);
        }
    } else {
        for (var own = 0u; own < OWN; own++) {
            let quad = lane + own * WORKGROUP;
            if quad < QUADS {
                store(token, head, group.z, quad, held[own], sum);
            }
        }
    }
}
