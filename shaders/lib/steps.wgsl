// The steps of blocks of activations, and what both ways to make integers of them bind.
struct Quantize {
    cols: u32,
    batch: u32,
    blocks: u32,   // of a vector
}

@group(0) @binding(0) var<uniform> params: Quantize;

// No step is smaller than 2^-100: its inverse would be infinite.
const LEAST: u32 = 0x10fe0000u;   // 127 · 2^-100

// The largest magnitude, as an integer, whose order is the same: a NaN is above all.
fn peak_of(values: array<f32, TAKEN>) -> u32 {
    var peak = LEAST;
    for (var i = 0u; i < TAKEN; i++) {
        peak = max(peak, bitcast<u32>(values[i]) & 0x7fffffffu);
    }
    return peak;
}

fn step_of(peak: u32) -> f32 {
    return bitcast<f32>(peak) / 127.0;
}

fn quotient(ratio: f32) -> i32 {
    return i32(clamp(round(ratio), -127.0, 127.0));
}
