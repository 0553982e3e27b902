//! Scales of other programs as the engine's.

use half::f16;
use lacuna::format::Codes;

/// Scales as normal halves times a power of two, exactly; 1 for a scale of 0.
#[allow(
    clippy::float_cmp,
    reason = "what is asked is whether nothing was rounded"
)]
pub(crate) fn halves(scales: &[f32]) -> Option<(Vec<f16>, f32)> {
    let largest = scales.iter().fold(0f32, |m, v| m.max(v.abs()));
    // With the largest just below what a half can hold the smallest have the most room.
    let exponent = largest.log2().floor().clamp(-65.0, 94.0) - 14.0;
    let factors = [1.0, exponent.exp2()];
    factors.into_iter().find_map(|factor| {
        let exact = |&value: &f32| {
            if value == 0.0 {
                return Some(f16::ONE);
            }
            let half = f16::from_f32(value / factor);
            let same = half.to_f32() * factor == value && half.to_f32().abs() >= Codes::MIN_SCALE;
            (same && half.is_finite()).then_some(half)
        };
        let halves: Option<Vec<f16>> = scales.iter().map(exact).collect();
        Some((halves?, factor))
    })
}
