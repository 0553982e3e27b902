// A threshold for each channel, of which there are whole quads.
@group(0) @binding(2) var<storage, read> thresholds: array<vec4<f32>>;

fn limits_of(quad: u32) -> vec4<f32> {
    return thresholds[min(quad, params.channels / 4u - 1u)];
}
