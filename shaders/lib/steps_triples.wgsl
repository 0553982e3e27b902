// Integers of three bytes: a step is 2^-21 of the largest power of two in its block, so that dividing by it is
// exact and all devices find the same integers, of at most 2^22.
const BYTES: u32 = 3u;

fn step_of(peak: u32) -> f32 {
    let step = bitcast<f32>((peak & 0x7f800000u) - (21u << 23u));
    // A block with NaN or infinity has it as its step.
    return select(step, bitcast<f32>(peak), peak >= 0x7f800000u);
}

fn inverse_of(step: f32) -> f32 {
    return bitcast<f32>((254u << 23u) - (bitcast<u32>(step) & 0x7f800000u));
}

fn quotient(ratio: f32) -> i32 {
    return i32(round(clamp(ratio, -4194304.0, 4194304.0)));
}

// Joins the sums of the digits, the highest first, to one number, which alone is rounded.
fn joined(dots: array<vec4<i32>, BYTES>) -> vec4<f32> {
    return 65536.0 * vec4<f32>(dots[0]) + vec4<f32>(256 * dots[1] + dots[2]);
}
