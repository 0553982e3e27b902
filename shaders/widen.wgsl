// wide[i] = x[i]: elements of 16 bits, two a word, as f32. A lane takes four; past the end the last
// word is read again.
//
// 6 bytes moved an element. Consts: WORKGROUP. Fragments: decode (f16 or bf16).
struct Convert {
    words: u32,     // of x
}

@group(0) @binding(0) var<uniform> params: Convert;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> wide: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quad = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if 2u * quad >= params.words {
        return;
    }
    let low = decode(x[2u * quad]);
    let high = decode(x[min(2u * quad + 1u, params.words - 1u)]);
    wide[quad] = vec4(low[0], low[1], high[0], high[1]);
}
