// No step is smaller than 2^-100: its inverse would be infinite.
const LEAST: u32 = 0x10fe0000u;   // 127 · 2^-100

// The largest magnitude of TAKEN values, as its bits, whose order is the same: a NaN is above all.
fn peak_of(values: array<f32, TAKEN>) -> u32 {
    var peak = LEAST;
    for (var i = 0u; i < TAKEN; i++) {
        peak = max(peak, bitcast<u32>(values[i]) & 0x7fffffffu);
    }
    return peak;
}
