// gate = act(gate) ⊙ up
//
// Each invocation takes four elements. Consts: WORKGROUP. Fragments: activate.
struct Gated {
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Gated;
@group(0) @binding(1) var<storage, read_write> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * WORKGROUP + lane;
    if i >= params.quads {
        return;
    }
    let g = gate[i];
    gate[i] = vec4(activate(g.x), activate(g.y), activate(g.z), activate(g.w)) * up[i];
}
