// A workgroup takes all keys that its queries see. Consts: QUADS, HEADS.
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>;

// The keys that a workgroup takes of those from x to before y.
fn share(seen: vec2<u32>, part: u32) -> vec2<u32> {
    return seen;
}

// Stores quad i of Σ p_j v_j, where Σ p_j = sum.
fn store(token: u32, head: u32, part: u32, i: u32, quad: vec4<f32>, sum: f32) {
    o[(token * HEADS + head) * QUADS + i] = quad / sum;
}

fn store_sum(token: u32, head: u32, part: u32, highest: f32, sum: f32) {}
