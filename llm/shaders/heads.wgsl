// q = QUERY_SCALE · rope(norm(q));   cache k = rope(norm(k));   cache v = v
//
// One workgroup for each head and token. The rotary embedding (https://arxiv.org/abs/2104.09864) rotates
// each pair of elements i and i + head_dim / 2; the table of (cos, sin), [positions][head_dim / 2], is the host's.
//
// qkv: the queries [HEADS][head_dim] of token t at t · Q_STRIDE, the keys at K_FIRST + t · K_STRIDE, the values
//      likewise, in quads
// cache: [keys, values][KV_HEADS][CONTEXT][head_dim]
//
// Consts: WORKGROUP, HALF = head_dim / 8, HEADS, KV_HEADS, CONTEXT, QUERY_SCALE, EPS, places of q, k and v.
// Fragments: state, total, cache, head_norm.
@group(0) @binding(1) var<storage, read> state: State;
@group(0) @binding(2) var<storage, read_write> qkv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> cache: array<CacheQuad>;
@group(0) @binding(4) var<storage, read> turns: array<vec4<f32>>;

const QUADS: u32 = 2u * HALF;

struct Turned {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Quads i and i + HALF of a head, already scaled by its norm, rotated.
fn turned(low: vec4<f32>, high: vec4<f32>, i: u32, position: u32) -> Turned {
    let first = turns[position * QUADS + 2u * i];
    let second = turns[position * QUADS + 2u * i + 1u];
    let cosine = vec4(first.xz, second.xz);
    let sine = vec4(first.yw, second.yw);
    return Turned(low * cosine - high * sine, high * cosine + low * sine);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let token = group.y;
    let position = state.position + token;
    if token >= state.tokens || position >= CONTEXT {
        return;
    }
    if group.x >= HEADS + KV_HEADS {
        let head = group.x - HEADS - KV_HEADS;
        let start = V_FIRST + token * V_STRIDE + head * QUADS;
        let to_quad = ((KV_HEADS + head) * CONTEXT + position) * QUADS;
        for (var i = lane; i < QUADS; i += WORKGROUP) {
            cache[to_quad + i] = to_cache(qkv[start + i]);
        }
        return;
    }

    let key = group.x >= HEADS;
    var start = token * Q_STRIDE + group.x * QUADS;
    if key {
        start = K_FIRST + token * K_STRIDE + (group.x - HEADS) * QUADS;
    }
    var squares = 0.0;
    for (var i = lane; i < QUADS; i += WORKGROUP) {
        let quad = qkv[start + i];
        squares += dot(quad, quad);
    }
    let scale = head_scale(lane, squares);
    for (var i = lane; i < HALF; i += WORKGROUP) {
        let low = scale * head_weight(key, i) * qkv[start + i];
        let high = scale * head_weight(key, i + HALF) * qkv[start + i + HALF];
        let pair = turned(low, high, i, position);
        if key {
            let to_quad = ((group.x - HEADS) * CONTEXT + position) * QUADS;
            cache[to_quad + i] = to_cache(pair.low);
            cache[to_quad + i + HALF] = to_cache(pair.high);
        } else {
            qkv[start + i] = QUERY_SCALE * pair.low;
            qkv[start + i + HALF] = QUERY_SCALE * pair.high;
        }
    }
}
