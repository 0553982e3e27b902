// Integers of eight bits: a step is the largest magnitude of its block over 127.
const BYTES: u32 = 1u;

fn step_of(peak: u32) -> f32 {
    return bitcast<f32>(peak) / 127.0;
}

fn inverse_of(step: f32) -> f32 {
    return 1.0 / step;
}

fn quotient(ratio: f32) -> i32 {
    return i32(clamp(round(ratio), -127.0, 127.0));
}

fn joined(dots: array<vec4<i32>, BYTES>) -> vec4<f32> {
    return vec4<f32>(dots[0]);
}
