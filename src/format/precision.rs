//! How a product takes its activations: as they are, or as integers.
//!
//! ```text
//! x     | block 0: 32 columns | block 1 | …      a block lies in one group of codes
//! step  of 8 bits: largest |x| of the block / 127
//!       of 24: its largest power of two · 2⁻²¹
//! q     x / step, rounded: −127 … 127, −2²² … 2²²        x ≈ step · q
//!
//! y[r]  Σ over blocks of  scale · step · (Σ code · q − zero · Σ q)
//!                                        ^ integers, exact
//! ```
//! In each block `|x − step · q| ≤ step / 2`, so a row is off by at most `Σ |w| · step / 2`, beside what any
//! product in f32 is off by. In 24 bits `step / 2` is at most 2⁻²² of the largest `|x|` of the block.

use super::{Dtype, Format, Quant};
use half::f16;

/// How a product takes its activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As they are, in f32.
    #[default]
    F32,
    /// In f16, like the weight's values, for cooperative matrices. Sums are f32. For weights of f16, of bf16 or
    /// of codes, unless rows are ragged; what is beyond 65 504 becomes infinite.
    F16,
    /// As integers of eight bits that share a step in each block of up to 32 columns: faster
    /// where a device multiplies bytes, and less exact. For weights of codes whose bits divide
    /// a byte, of every column or of kept groups, where 32 bits of them do not reach into a second
    /// block.
    I8,
    /// As integers of three bytes that share a step in each block of up to 32 columns, where a device has such a
    /// product for weights that [`I8`](Self::I8) serves, else as they are. Faster on GPUs, and as exact as f32
    /// unless magnitudes in a block differ much: each is off by at most 2⁻²² of the largest.
    I24,
}

/// Columns of a block, unless groups need shorter ones; half as many for codes of eight bits, whose blocks then
/// hold 16 bytes of codes.
const BLOCK: usize = 32;

/// The largest quotient.
const MOST: f64 = 127.0;

/// No step is smaller: its inverse would be infinite. What is lost is below 2⁻¹⁰¹ a column.
const LEAST_STEP: f64 = 1.0 / (1u128 << 100) as f64;

/// How far, in steps, rounding may go astray: device and host divide and multiply in f32, each to
/// 2.5 units in the last place or better, and quotients are at most 127.
const ASTRAY: f64 = 1.0 / 4096.0;

impl Precision {
    /// Whether products of weights in `format` can take their activations so.
    pub const fn serves(self, format: Format) -> bool {
        match (self, format) {
            (Self::F32 | Self::I24, _) => true,
            (Self::F16, Format::Gqs { pruning, .. }) => !pruning.ragged(),
            (Self::F16, _) => !matches!(format.dtype(), Some(Dtype::F32)),
            (
                Self::I8,
                Format::Quantized {
                    pattern: None,
                    quant,
                }
                | Format::Gqs { quant, .. },
            ) => 8 % quant.bits() == 0 && block_cols(quant) * quant.bits() as usize % 32 == 0,
            (Self::I8, _) => false,
        }
    }

    /// Whether this allows products of weights in `format` to take their activations otherwise than as they are.
    pub const fn changes(self, format: Format) -> bool {
        match self {
            Self::F32 => false,
            Self::I24 => Self::I8.serves(format),
            Self::F16 | Self::I8 => self.serves(format),
        }
    }
}

/// Columns of a block of activations that meet weights of `quant`: a divisor of its group.
pub(crate) const fn block_cols(quant: Quant) -> usize {
    let mut block = if quant.bits() == 8 { BLOCK / 2 } else { BLOCK };
    let Some(group) = quant.group() else {
        return block;
    };
    // Groups are multiples of 8 columns.
    while group % block != 0 {
        block /= 2;
    }
    block
}

/// The most that each activation of a block may be off as an integer of 8 or 24 bits: what it is off by when
/// rounded exactly and, in eight bits, a little more for a device that rounds to the integer beside: at most
/// `step · (1/2 + 2⁻¹¹)`. NaN where the block is not finite.
pub(crate) fn lost(block: &[f32], precision: Precision) -> impl Iterator<Item = f64> + '_ {
    let finite = block.iter().all(|x| x.is_finite());
    let magnitudes = block.iter().map(|x| f64::from(x.abs()));
    let largest = magnitudes.fold(0.0, f64::max);
    let (least, astray) = match precision {
        Precision::I24 => (LEAST_STEP * MOST, 0.0),
        _ => (LEAST_STEP, ASTRAY),
    };
    let step = match (largest, precision) {
        _ if !finite => f64::NAN,
        (0.0, _) => 0.0,
        (_, Precision::I24) => f64::exp2(largest.max(least).log2().floor() - 21.0),
        _ => (largest / MOST).max(least),
    };
    block.iter().map(move |&x| match step {
        0.0 => 0.0,
        _ => (f64::from(x) - step * (f64::from(x) / step).round()).abs() + 2.0 * astray * step,
    })
}

/// The most that a number may be off as an f16: nothing where it is one, else the distance between its neighbours
/// there, since WGSL may round either way; all of it where a device may flush it to zero.
pub(crate) fn lost_f16(value: f64) -> f64 {
    let least = f64::from(f16::MIN_POSITIVE);
    let magnitude = value.abs();
    let rounded = f64::from(f16::from_f64(value));
    let off = (rounded - value).abs();
    if !rounded.is_finite() {
        f64::NAN
    } else if magnitude < least {
        magnitude
    } else if off > 0.0 {
        magnitude * f64::exp2(-10.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_divide_groups() {
        for (format, expected) in [
            ("w4g128", 32),
            ("w2g16", 16),
            ("w8row", 16),
            ("w8g40", 8),
            ("w4row", 32),
        ] {
            let format: Format = format.parse().unwrap();
            assert_eq!(block_cols(format.quant().unwrap()), expected, "{format}");
        }
    }

    #[test]
    fn bytes_serve_codes_that_divide_them() {
        for (format, serves) in [
            ("w4g128", true),
            ("w8row", true),
            ("w2g64", true),
            ("w2g8", false),
            ("w3g32", false),
            ("f16", false),
            ("2:4+w4g64", false),
            ("w4g16s50", true),
            ("w2g8s50", false),
            ("w3g64s50", false),
        ] {
            let format: Format = format.parse().unwrap();
            assert_eq!(Precision::I8.serves(format), serves, "{format}");
            assert!(Precision::F32.serves(format) && !Precision::F32.changes(format));
            assert!(Precision::I24.serves(format));
            assert_eq!(Precision::I24.changes(format), serves, "{format}");
        }
    }

    #[test]
    fn halves_lose_nothing_and_others_a_unit_in_the_last_place() {
        for exact in [0.0, 1.0, -0.333_251_953_125, 65_504.0, 0.000_061_035_156_25] {
            assert!(lost_f16(exact) == 0.0, "{exact}");
        }
        assert!((lost_f16(-1.0001) - 1.0001 / 1024.0).abs() < 1e-12);
        assert!((lost_f16(3e-5) - 3e-5).abs() < 1e-12, "subnormal");
        assert!(lost_f16(70_000.0).is_nan() && lost_f16(f64::NAN).is_nan());
    }

    #[test]
    fn in_24_bits_the_largest_of_a_block_loses_two_units_in_its_last_place_at_most() {
        let block = [1.999_999_9f32, 0.1, -1.0 / 2_097_152.0, 1e-30];
        let lost: Vec<f64> = lost(&block, Precision::I24).collect();
        // A step is 2^-21 here.
        assert!(lost.iter().all(|&l| l <= f64::exp2(-22.0)), "{lost:?}");
        let tiny = f64::from(1e-30f32);
        assert!(lost[1] > 0.0 && lost[2].abs() <= 0.0 && (lost[3] - tiny).abs() <= 0.0);
        let below_all_steps = super::lost(&[f32::MIN_POSITIVE], Precision::I24);
        assert_eq!(
            below_all_steps.collect::<Vec<_>>(),
            [f64::from(f32::MIN_POSITIVE)]
        );
    }

    #[test]
    fn half_a_step_is_lost_at_most_and_almost_nothing_on_the_grid() {
        let on_grid = [127.0, -3.0, 0.0, 64.0].map(|q: f32| q * 0.25);
        assert!(lost(&on_grid, Precision::I8).all(|l| l <= 0.25 / 2000.0));
        let between = [127.0f32, 2.5, -7.25];
        let lost: Vec<f64> = lost(&between, Precision::I8).collect();
        assert!(lost[1] > 0.5 && lost[1] < 0.501 && lost[2] > 0.25 && lost[2] < 0.251);
        assert!(super::lost(&[0.0; 4], Precision::I24).all(|l| l == 0.0));
        assert!(super::lost(&[1.0, f32::NAN], Precision::I24).all(f64::is_nan));
    }
}
