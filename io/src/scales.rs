//! Conversion of other programs' scales to the engine's.

use half::f16;
use lacuna::format::Codes;

/// Scales as normal halves times one factor, a power of two, with nothing rounded. A scale of 0
/// becomes the smallest of the others, or 1. `None` if no factor allows it.
#[allow(
    clippy::float_cmp,
    reason = "what is asked is whether nothing was rounded"
)]
pub(crate) fn exact_halves(scales: &[f32]) -> Option<(Vec<f16>, f32)> {
    halves(scales, |scaled, half| half.to_f32() == scaled)
}

/// Like [`exact_halves`], but each scale is rounded to the nearest half.
pub(crate) fn nearest_halves(scales: &[f32]) -> Option<(Vec<f16>, f32)> {
    halves(scales, |_, _| true)
}

fn halves(scales: &[f32], good: impl Fn(f32, f16) -> bool) -> Option<(Vec<f16>, f32)> {
    let largest = scales.iter().fold(0f32, |m, v| m.max(v.abs()));
    // The smallest scales have the most room if the largest is just below the limit of halves.
    let exponent = largest.log2().floor().clamp(-65.0, 94.0) - 14.0;
    let factors = [1.0, exponent.exp2()];
    // Kernels multiply the difference of two sums by the scale, which is 0 but for rounding where all codes stand
    // for 0: a scale larger than the others' would make that visible.
    let sizes = scales.iter().map(|v| v.abs()).filter(|&v| v > 0.0);
    let least = sizes.reduce(f32::min).unwrap_or(1.0);
    factors.into_iter().find_map(|factor| {
        let half = |&value: &f32| {
            let scaled = if value == 0.0 { least } else { value } / factor;
            let half = f16::from_f32(scaled);
            let normal = half.is_finite() && half.to_f32().abs() >= Codes::MIN_SCALE;
            (normal && good(scaled, half)).then_some(half)
        };
        let halves: Option<Vec<f16>> = scales.iter().map(half).collect();
        Some((halves?, factor))
    })
}
