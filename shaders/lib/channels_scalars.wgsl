// Four channels one by one, for any number of them. Past the end the last one is read again and
// nothing is written.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> kept: array<f32>;

fn x_of(b: u32, quad: u32) -> vec4<f32> {
    let at = vec4(b * params.channels)
        + min(vec4(4u * quad) + vec4(0u, 1u, 2u, 3u), vec4(params.channels - 1u));
    return vec4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn put_kept(b: u32, quad: u32, v: vec4<f32>) {
    for (var j = 0u; j < 4u; j++) {
        let c = 4u * quad + j;
        if c < params.channels {
            kept[b * params.channels + c] = v[j];
        }
    }
}
