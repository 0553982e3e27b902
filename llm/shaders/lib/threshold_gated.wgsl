// g = act(gate), x = g ⊙ up, y = gate. Fragments: activate.
@group(0) @binding(4) var<storage, read_write> gate: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> up: array<vec4<f32>>;

fn gate_at(i: u32) -> vec4<f32> {
    let g = gate[i];
    return vec4(activate(g.x), activate(g.y), activate(g.z), activate(g.w));
}

fn keep(i: u32, g: vec4<f32>, kept: vec4<bool>) {
    gate[i] = select(vec4(0.0), g * up[i], kept);
}
