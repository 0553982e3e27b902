// y[i] = wide[i]: f32 as elements of 16 bits, two a word, the nearest, ties to even. A lane takes four.
//
// 6 bytes moved an element. Consts: WORKGROUP. Fragments: encode (f16 or bf16).
struct Convert {
    words: u32,     // of y
}

@group(0) @binding(0) var<uniform> params: Convert;
@group(0) @binding(1) var<storage, read> wide: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

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
    let four = wide[quad];
    y[2u * quad] = encode(four.x) | (encode(four.y) << 16u);
    if 2u * quad + 1u < params.words {
        y[2u * quad + 1u] = encode(four.z) | (encode(four.w) << 16u);
    }
}
