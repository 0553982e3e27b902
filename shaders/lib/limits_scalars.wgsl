// A threshold for each channel, of any number of them.
@group(0) @binding(2) var<storage, read> thresholds: array<f32>;

fn limits_of(quad: u32) -> vec4<f32> {
    let at = min(vec4(4u * quad) + vec4(0u, 1u, 2u, 3u), vec4(params.channels - 1u));
    return vec4(thresholds[at.x], thresholds[at.y], thresholds[at.z], thresholds[at.w]);
}
