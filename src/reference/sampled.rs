//! The truth about products that are too large for a naive loop over all of them.

use super::{Comparison, Reference, linear_rows};
use crate::{
    error::{Error, Result},
    format::{Matrix, Precision},
};
use std::collections::BTreeSet;

/// Multiplications that the reference does in well under a second.
const MOST_PRODUCTS: usize = 1 << 26;
const ROWS: usize = 64;
const VECTORS: usize = 8;

/// The true result, whole where that is quick, else of some rows and vectors, the first and
/// last of both among them: kernels go wrong there first.
#[derive(Debug, Clone)]
pub struct Sampled {
    rows: Vec<usize>,
    vectors: Vec<usize>,
    shape: [usize; 2],
    reference: Reference,
}

impl Sampled {
    /// The truth about `weight [rows, cols]` times the `batch` vectors of `x [batch, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `x` has another length.
    pub fn new(weight: &Matrix, x: &[f32], batch: usize) -> Result<Self> {
        Self::new_in(Precision::F32, weight, x, batch)
    }

    /// [`Sampled::new`] with what is allowed to a kernel that takes x in `precision`.
    ///
    /// # Errors
    /// Those of [`linear_in`](super::linear_in).
    pub fn new_in(precision: Precision, weight: &Matrix, x: &[f32], batch: usize) -> Result<Self> {
        let (all_rows, cols) = (weight.rows(), weight.cols());
        let products = all_rows.saturating_mul(cols).saturating_mul(batch);
        if products <= MOST_PRODUCTS || batch.checked_mul(cols) != Some(x.len()) {
            let rows: Vec<usize> = (0..all_rows).collect();
            return Ok(Self {
                reference: linear_rows(precision, weight, &rows, x, batch, None)?,
                rows,
                vectors: (0..batch).collect(),
                shape: [batch, all_rows],
            });
        }
        let (rows, vectors) = (sample(all_rows, ROWS), sample(batch, VECTORS));
        let x: Vec<f32> = vectors
            .iter()
            .flat_map(|v| &x[v * cols..(v + 1) * cols])
            .copied()
            .collect();
        Ok(Self {
            reference: linear_rows(precision, weight, &rows, &x, vectors.len(), None)?,
            rows,
            vectors,
            shape: [batch, all_rows],
        })
    }

    /// What a masked product leaves of it, as [`Reference::masked`]; `kept` is `[batch, rows]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `kept` has another length.
    pub fn masked(self, kept: &[f32]) -> Result<Self> {
        let kept = self.pick(kept)?;
        Ok(Self {
            reference: self.reference.masked(&kept)?,
            ..self
        })
    }

    /// The sampled elements of `y [batch, rows]`.
    fn pick(&self, y: &[f32]) -> Result<Vec<f32>> {
        let [batch, rows] = self.shape;
        Error::expect("y elements", y.len(), batch * rows)?;
        let of_vector = |&v: &usize| self.rows.iter().map(move |&r| y[v * rows + r]);
        Ok(self.vectors.iter().flat_map(of_vector).collect())
    }

    /// Compares `y [batch, rows]`. What was not sampled must at least be finite.
    ///
    /// # Errors
    /// [`Error::Shape`] where `y` has another length.
    pub fn compare(&self, y: &[f32]) -> Result<Comparison> {
        let sampled = self.pick(y)?;
        let mut comparison = self.reference.compare(&sampled)?;
        if sampled.len() < y.len()
            && let Some(worst) = y.iter().position(|v| !v.is_finite())
        {
            comparison.error_over_bound = f64::INFINITY;
            comparison.worst = worst;
        }
        Ok(comparison)
    }
}

/// Up to `count` of `0..len`, ascending, the first and the last among them, the others spread
/// by the golden ratio: no period of a kernel's tiles escapes.
fn sample(len: usize, count: usize) -> Vec<usize> {
    if len <= count {
        return (0..len).collect();
    }
    let mut chosen = BTreeSet::from([0, len - 1]);
    let mut share = 0.0f64;
    while chosen.len() < count {
        share = (share + 0.618_033_988_749_895).fract();
        chosen.insert((share * len as f64) as usize);
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Dense;

    #[test]
    fn a_sample_holds_both_ends_and_nothing_twice() {
        for len in [1, 2, 63, 64, 65, 100, 4096, 1 << 20] {
            let chosen = sample(len, ROWS);
            assert_eq!(chosen.first(), Some(&0));
            assert_eq!(chosen.last(), Some(&(len - 1)));
            assert!(chosen.is_sorted_by(|a, b| a < b));
            assert_eq!(chosen.len(), len.min(ROWS));
        }
    }

    #[test]
    fn a_wrong_last_row_and_a_nan_outside_the_sample_are_noticed() -> Result<()> {
        let (rows, cols, batch) = (1 << 14, 8, 1 << 10);
        let weight = Dense::from_f32(rows, cols, vec![1.0; rows * cols])?.into();
        let truth = Sampled::new(&weight, &vec![0.5; batch * cols], batch)?;
        let mut y = vec![4.0; batch * rows];
        assert!(truth.compare(&y)?.passes());
        y[batch * rows - 1] = 4.5;
        assert!(!truth.compare(&y)?.passes());
        y[batch * rows - 1] = 4.0;
        let outside = (1..rows).find(|r| !truth.rows.contains(r)).unwrap_or(0);
        y[outside] = f32::NAN;
        assert_eq!(truth.compare(&y)?.worst, outside);
        assert!(!truth.compare(&y)?.passes());
        assert!(truth.compare(&y[..rows]).is_err());
        Ok(())
    }
}
