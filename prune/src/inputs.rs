//! Moments of the inputs that a weight multiplies.

use crate::error::{Error, Result};

/// Moments of the inputs `x` of one weight, taken over samples; `x` has `cols` elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    samples: u64,
    mean: Vec<f32>,
    mean_square: Vec<f32>,
    hessian: Option<Vec<f32>>,
}

impl Inputs {
    /// From `E[x]` and `E[x²]`, each `[cols]`, and, if known, `E[x xᵀ]`, `[cols, cols]` row-major.
    ///
    /// # Errors
    /// [`Error::Inputs`] if there are no samples, if lengths differ, if a number is not finite, or
    /// if a mean square or a diagonal element is negative.
    pub fn new(
        samples: u64,
        mean: Vec<f32>,
        mean_square: Vec<f32>,
        hessian: Option<Vec<f32>>,
    ) -> Result<Self> {
        let cols = mean.len();
        let refuse = |what, got: String, expected: String| {
            Err(Error::Inputs {
                what,
                got,
                expected,
            })
        };
        if samples == 0 {
            return refuse("samples", "0".into(), "at least 1".into());
        }
        for (what, len, expected) in [
            ("mean squares", mean_square.len(), cols),
            (
                "elements of the Hessian",
                hessian.as_ref().map_or(cols * cols, Vec::len),
                cols * cols,
            ),
        ] {
            if len != expected {
                return refuse(what, len.to_string(), expected.to_string());
            }
        }
        let of_hessian = hessian.as_deref().unwrap_or_default();
        let diagonal = of_hessian.iter().step_by(cols + 1);
        let finite = |v: &&f32| !v.is_finite();
        let negative = |v: &&f32| !(v.is_finite() && **v >= 0.0);
        for (what, bad) in [
            ("mean of an input", mean.iter().find(finite)),
            ("mean square of an input", mean_square.iter().find(negative)),
            ("element of the Hessian", of_hessian.iter().find(finite)),
            ("diagonal of the Hessian", { diagonal }.find(negative)),
        ] {
            if let Some(bad) = bad {
                return refuse(what, bad.to_string(), "a finite number in range".into());
            }
        }
        Ok(Self {
            samples,
            mean,
            mean_square,
            hessian,
        })
    }

    /// Number of input vectors that the moments were taken over.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Elements of an input vector.
    pub const fn cols(&self) -> usize {
        self.mean.len()
    }

    /// `E[x]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// `E[x²]`.
    pub fn mean_square(&self) -> &[f32] {
        &self.mean_square
    }

    /// `E[x xᵀ]`, `[cols, cols]` row-major, if it was collected.
    pub fn hessian(&self) -> Option<&[f32]> {
        self.hessian.as_deref()
    }
}
