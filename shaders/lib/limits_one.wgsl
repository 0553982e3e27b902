// One threshold serves all channels.
@group(0) @binding(2) var<storage, read> thresholds: array<f32>;

fn limits_of(quad: u32) -> vec4<f32> {
    return vec4(thresholds[0]);
}
