//! Scales of other programs as the engine's.

use half::f16;
use lacuna::format::Codes;

/// Scales as normal halves times a power of two, nothing rounded; 1 for a scale of 0. `None` where
/// there are none such.
#[allow(
    clippy::float_cmp,
    reason = "what is asked is whether nothing was rounded"
)]
pub(crate) fn exact_halves(scales: &[f32]) -> Option<(Vec<f16>, f32)> {
    halves(scales, |scaled, half| half.to_f32() == scaled)
}

/// As [`exact_halves`], each rounded to the nearest half.
pub(crate) fn nearest_halves(scales: &[f32]) -> Option<(Vec<f16>, f32)> {
    halves(scales, |_, _| true)
}

fn halves(scales: &[f32], good: impl Fn(f32, f16) -> bool) -> Option<(Vec<f16>, f32)> {
    let largest = scales.iter().fold(0f32, |m, v| m.max(v.abs()));
    // With the largest just below what a half can hold the smallest have the most room.
    let exponent = largest.log2().floor().clamp(-65.0, 94.0) - 14.0;
    let factors = [1.0, exponent.exp2()];
    factors.into_iter().find_map(|factor| {
        let half = |&value: &f32| {
            if value == 0.0 {
                return Some(f16::ONE);
            }
            let scaled = value / factor;
            let half = f16::from_f32(scaled);
            let normal = half.is_finite() && half.to_f32().abs() >= Codes::MIN_SCALE;
            (normal && good(scaled, half)).then_some(half)
        };
        let halves: Option<Vec<f16>> = scales.iter().map(half).collect();
        Some((halves?, factor))
    })
}
