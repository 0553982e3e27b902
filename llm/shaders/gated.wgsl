// inner = act(gate) ⊙ up
//
// gate_up: gate of token t at t · GATE_STRIDE, up at UP_FIRST + t · UP_STRIDE, in quads
// inner: [tokens][QUADS]
//
// Each invocation takes four elements. Consts: WORKGROUP, QUADS, places of gate and up. Fragments: activate.
struct Gated {
    quads: u32,   // of all tokens
}

@group(0) @binding(0) var<uniform> params: Gated;
@group(0) @binding(1) var<storage, read> gate_up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> inner: array<vec4<f32>>;

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
    let token = i / QUADS;
    let quad = i % QUADS;
    let g = gate_up[token * GATE_STRIDE + quad];
    let up = gate_up[UP_FIRST + token * UP_STRIDE + quad];
    inner[i] = vec4(activate(g.x), activate(g.y), activate(g.z), activate(g.w)) * up;
}
