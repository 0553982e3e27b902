// g = x, the input of a product. y is a copy, because other products may read x.
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

fn gate_at(row: u32, i: u32) -> vec4<f32> {
    return x[row * QUADS + i];
}

fn keep(row: u32, i: u32, g: vec4<f32>, kept: vec4<bool>) {
    y[row * QUADS + i] = select(vec4(0.0), g, kept);
}
