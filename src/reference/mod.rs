//! The truth: naive loops with f64 sums, and how far an honest f32 kernel may stray from them.
//!
//! For each output element the bound is
//! `(16 + cols/32) · 2⁻²⁴ · A + cols · 2⁻¹²⁶` with `A = |bias| + Σ |w·x|`, where a weight that
//! is a code counts as `|scale| · (code + zero)`: kernels subtract the zeros of a group at once.
//! Honest f32 kernels keep well inside it: 32 partial sums err by at most about
//! 5 · 2⁻²⁴·A, one serial sum of 4096 positive terms by 59, while a dropped tail
//! element costs 1400 and f16 accumulation 1900.
//!
//! A product that takes x in eight bits ([`Precision::I8`]) is compared with the same truth, that of the x it was
//! given. Its bound is larger by `Σ |w| · lost`, where `lost` is what an x loses by being rounded to a whole
//! number of steps: at most `step / 2`, where `step` is 1/127 of the largest magnitude in its block of up to 32
//! columns; and `A` counts `|x| + lost` for `|x|`. Sums of quotients are integers, and exact. An x on the grid of
//! its steps loses 2⁻¹¹ of a step: then the bound is as sharp as any. The same goes for 24 bits
//! ([`Precision::I24`]), whose step is the block's largest power of two times 2⁻²¹ and whose grid is exact.
//!
//! Where x and the weight are taken in f16 ([`Precision::F16`]) each loses up to a unit in its last place,
//! 2⁻¹⁰ of it, since WGSL rounds either way; nothing where it is a half already; all of it below 2⁻¹⁴, where
//! devices may flush. `cols/8` stands for `cols/32`: matrix units may cut sums off instead of rounding them.

use crate::{
    error::{Error, Result},
    format::{self, Entry, Matrix, Precision},
};

mod sampled;

pub use sampled::Sampled;

/// The exact product and the error allowed to a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// `y [batch, rows]`, summed in f64.
    pub y: Vec<f64>,
    /// Allowed absolute error of each element of `y`; NaN where any result that is not finite
    /// is right: kernels that subtract zeros after the sum make NaN of an infinite x.
    pub bound: Vec<f64>,
    /// How x is taken.
    pub precision: Precision,
}

/// How a result compares with its [`Reference`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Worst `|got − y| / bound`; at most 1 passes. Infinite where a class
    /// (NaN, infinity) differs or an element with a zero bound is not exact.
    pub error_over_bound: f64,
    /// Element of `y` with the worst ratio.
    pub worst: usize,
    /// `Σ(got − y)² / Σy²` over the finite elements; 0 where `Σy²` is 0.
    pub nmse: f64,
    /// How x was taken.
    pub precision: Precision,
}

impl Comparison {
    /// Largest normalised mean square error of a kernel that works in f32.
    pub const MAX_NMSE: f64 = 1e-9;

    /// Whether every element is inside its bound and, where x is taken in f32, the whole inside
    /// [`MAX_NMSE`](Self::MAX_NMSE).
    pub fn passes(&self) -> bool {
        let whole = self.precision != Precision::F32 || self.nmse <= Self::MAX_NMSE;
        self.error_over_bound <= 1.0 && whole
    }
}

/// `y[b, r] = bias[r] + Σ_c W[r, c] · x[b, c]` over the stored weights.
///
/// `x` is `[batch, cols]`, `bias` has `rows` elements.
///
/// # Errors
/// [`Error::Shape`] where `x` or `bias` has another length.
pub fn linear(weight: &Matrix, x: &[f32], batch: usize, bias: Option<&[f32]>) -> Result<Reference> {
    linear_in(Precision::F32, weight, x, batch, bias)
}

/// [`linear`] with what is allowed to a kernel that takes x in `precision`.
///
/// # Errors
/// Those of [`linear`], and [`Error::NoKernel`] where no product of such weights takes x so.
pub fn linear_in(
    precision: Precision,
    weight: &Matrix,
    x: &[f32],
    batch: usize,
    bias: Option<&[f32]>,
) -> Result<Reference> {
    let rows: Vec<usize> = (0..weight.rows()).collect();
    linear_rows(precision, weight, &rows, x, batch, bias)
}

/// [`linear_in`] for some rows of a weight that is too large for all of them:
/// `y [batch, rows.len()]`. `bias` has an element for every row of the weight.
///
/// # Errors
/// Those of [`linear_in`], and [`Error::Shape`] where a row is not there.
pub fn linear_rows(
    precision: Precision,
    weight: &Matrix,
    rows: &[usize],
    x: &[f32],
    batch: usize,
    bias: Option<&[f32]>,
) -> Result<Reference> {
    let cols = weight.cols();
    Error::expect("x elements", x.len(), batch.saturating_mul(cols))?;
    if let Some(bias) = bias {
        Error::expect("bias elements", bias.len(), weight.rows())?;
    }
    if let Some(&row) = rows.iter().find(|&&row| row >= weight.rows()) {
        Error::expect("row", row, weight.rows().saturating_sub(1))?;
    }
    let lost = lost(precision, weight, x)?;
    let coded = weight.format().quant().is_some();
    let halves = precision == Precision::F16;
    let factor = weight
        .codes()
        .map_or(1.0, |codes| f64::from(codes.factor()));
    let lost_weight = |value: f32| {
        if halves {
            factor * format::lost_f16(f64::from(value) / factor)
        } else {
            0.0
        }
    };
    // Matrix units may cut sums off instead of rounding them, sixteen products at a time.
    let adds = if halves { 8.0 } else { 32.0 };
    let unit = (16.0 + cols as f64 / adds) * f64::exp2(-24.0);
    let tiny = cols as f64 * f64::exp2(-126.0);
    let mut y = vec![0.0; batch * rows.len()];
    let mut bound = vec![0.0; batch * rows.len()];
    for (i, &row) in rows.iter().enumerate() {
        let bias = bias.map_or(0.0, |b| f64::from(b[row]));
        let entries: Vec<(Entry, f64)> = weight
            .entries(row)
            .map(|entry| (entry, lost_weight(entry.value)))
            .collect();
        for b in 0..batch {
            let (mut sum, mut magnitude, mut off) = (bias, bias.abs(), 0.0);
            for (entry, lost_weight) in &entries {
                let at = b * cols + entry.col;
                let (x, lost) = (f64::from(x[at]), lost.get(at).copied().unwrap_or(0.0));
                sum += f64::from(entry.value) * x;
                magnitude += f64::from(entry.magnitude) * (x.abs() + lost);
                off += f64::from(entry.value).abs() * lost + lost_weight * (x.abs() + lost);
            }
            y[b * rows.len() + i] = sum;
            bound[b * rows.len() + i] = if magnitude == 0.0 {
                0.0
            } else if (coded || off.is_nan()) && !magnitude.is_finite() {
                f64::NAN
            } else {
                unit * magnitude + tiny + off
            };
        }
    }
    Ok(Reference {
        y,
        bound,
        precision,
    })
}

/// What each element of x may lose in `precision`; empty where nothing is lost.
fn lost(precision: Precision, weight: &Matrix, x: &[f32]) -> Result<Vec<f64>> {
    let (format, cols) = (weight.format(), weight.cols());
    let integers = |quant| {
        let vectors = x.chunks(cols.max(1));
        let blocks = vectors.flat_map(|x| x.chunks(format::block_cols(quant)));
        blocks.flat_map(|b| format::lost(b, precision)).collect()
    };
    let blocks = format.quant().filter(|_| precision.changes(format));
    let refused = |x: &str, reasons: &str| {
        Err(Error::NoKernel {
            problem: format!("{format} with x in {x}"),
            reasons: reasons.into(),
        })
    };
    match (precision, blocks) {
        (Precision::I8 | Precision::I24, Some(quant)) => Ok(integers(quant)),
        (Precision::F32 | Precision::I24, _) => Ok(vec![]),
        (Precision::F16, _) if precision.serves(format) => {
            Ok(x.iter().map(|&x| format::lost_f16(f64::from(x))).collect())
        }
        (Precision::F16, _) => refused(
            "f16",
            "weights have to be f16, bf16 or codes, and rows not ragged",
        ),
        (Precision::I8, None) => refused(
            "8 bits",
            "its codes do not divide a byte, or keep single columns",
        ),
    }
}

/// What is left of `x` behind thresholds, one for each of `thresholds.len()` channels or one for
/// all: `x` where not `|x| ≤ t`, else zero. NaN is kept.
pub fn threshold(x: &[f32], thresholds: &[f32]) -> Vec<f32> {
    let limits = thresholds.iter().cycle();
    let drops = |x: f32, t: f32| x.abs() <= t;
    let kept = x.iter().zip(limits);
    kept.map(|(&x, &t)| if drops(x, t) { 0.0 } else { x })
        .collect()
}

impl Reference {
    /// What a masked product leaves: `kept · y` where `kept` is not zero, else exactly zero.
    /// `kept` is as long as `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] where it is not.
    pub fn masked(mut self, kept: &[f32]) -> Result<Self> {
        Error::expect("kept elements", kept.len(), self.y.len())?;
        for (i, &kept) in kept.iter().enumerate() {
            let kept = f64::from(kept);
            if kept == 0.0 {
                (self.y[i], self.bound[i]) = (0.0, 0.0);
            } else {
                // The product is rounded once more.
                let rounding = self.y[i].abs() * f64::exp2(-24.0) + f64::exp2(-126.0);
                self.bound[i] = kept.abs() * (self.bound[i] + rounding);
                self.y[i] *= kept;
            }
        }
        Ok(self)
    }

    /// Compares `got` with the truth.
    ///
    /// # Errors
    /// [`Error::Shape`] where the lengths differ.
    pub fn compare(&self, got: &[f32]) -> Result<Comparison> {
        Error::expect("y elements", got.len(), self.y.len())?;
        let mut result = Comparison {
            error_over_bound: 0.0,
            worst: 0,
            nmse: 0.0,
            precision: self.precision,
        };
        let (mut difference, mut norm) = (0.0, 0.0);
        for (i, (&got, (&y, &bound))) in got.iter().zip(self.y.iter().zip(&self.bound)).enumerate()
        {
            let got = f64::from(got);
            // Overflow of f32 is the honest answer where the truth is beyond it.
            let y = if y.abs() > f64::from(f32::MAX) {
                y.signum() * f64::INFINITY
            } else {
                y
            };
            let ratio = if bound.is_nan() {
                if got.is_finite() { f64::INFINITY } else { 0.0 }
            } else if y.is_nan() {
                if got.is_nan() { 0.0 } else { f64::INFINITY }
            } else if y.is_infinite() {
                if got.is_infinite() && got.signum() == y.signum() {
                    0.0
                } else {
                    f64::INFINITY
                }
            } else {
                let error = (got - y).abs();
                difference += error * error;
                norm += y * y;
                match (error, bound) {
                    (0.0, _) => 0.0,
                    (error, bound) if error.is_finite() && bound > 0.0 => error / bound,
                    _ => f64::INFINITY,
                }
            };
            if ratio > result.error_over_bound {
                (result.error_over_bound, result.worst) = (ratio, i);
            }
        }
        if norm > 0.0 {
            result.nmse = difference / norm;
        }
        Ok(result)
    }
}
