// Four channels at a time, where vectors are whole quads of them. Past the end the last quad is
// read again and nothing is written.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> kept: array<vec4<f32>>;

fn x_of(b: u32, quad: u32) -> vec4<f32> {
    let quads = params.channels / 4u;
    return x[b * quads + min(quad, quads - 1u)];
}

fn put_kept(b: u32, quad: u32, v: vec4<f32>) {
    let quads = params.channels / 4u;
    if quad < quads {
        kept[b * quads + quad] = v;
    }
}
