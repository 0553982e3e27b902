// g = act(gate), x = g ⊙ up, y = inner; gate and up lie as in `gated.wgsl`. Fragments: activate.
@group(0) @binding(4) var<storage, read> gate_up: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> inner: array<vec4<f32>>;

fn gate_at(row: u32, i: u32) -> vec4<f32> {
    let g = gate_up[row * GATE_STRIDE + i];
    return vec4(activate(g.x), activate(g.y), activate(g.z), activate(g.w));
}

fn keep(row: u32, i: u32, g: vec4<f32>, kept: vec4<bool>) {
    let up = gate_up[UP_FIRST + row * UP_STRIDE + i];
    inner[row * QUADS + i] = select(vec4(0.0), g * up, kept);
}
