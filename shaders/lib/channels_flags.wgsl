// Reads the flags that flags.wgsl has left for blocks of vectors as if they were vectors: 1 where a channel is
// kept, above a threshold of 0. `kept` has been written before.
@group(0) @binding(1) var<storage, read> flags: array<u32>;

fn x_of(b: u32, quad: u32) -> vec4<f32> {
    let quads = (params.channels + 3u) / 4u;
    let bits = vec4(flags[b * quads + min(quad, quads - 1u)]) & vec4(1u, 2u, 4u, 8u);
    return select(vec4<f32>(), vec4(1.0), bits != vec4<u32>());
}

fn put_kept(b: u32, quad: u32, v: vec4<f32>) {}

fn limits_of(quad: u32) -> vec4<f32> {
    return vec4<f32>();
}
