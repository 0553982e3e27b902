//! Checking a product before it is timed.

use crate::error::Result;
use lacuna::{
    format::Matrix,
    reference::{self, Comparison, Reference},
    verify::Random,
};

/// Multiplications that the f64 reference does in well under a second.
const MOST_PRODUCTS: usize = 1 << 26;
const SAMPLED_ROWS: usize = 64;
const SAMPLED_VECTORS: usize = 8;

/// The true result: whole where that is quick, else a sample of rows and vectors that
/// holds the first and last of both, where kernels go wrong first.
pub struct Truth {
    rows: Vec<usize>,
    vectors: Vec<usize>,
    all_rows: usize,
    reference: Reference,
}

impl Truth {
    /// Computes the truth about `weight` times the vectors of `x`.
    pub fn new(weight: &Matrix, x: &[f32], batch: usize) -> Result<Self> {
        let (all_rows, cols) = (weight.rows(), weight.cols());
        let products = all_rows.saturating_mul(cols).saturating_mul(batch);
        let (rows, vectors) = if products <= MOST_PRODUCTS {
            ((0..all_rows).collect(), (0..batch).collect())
        } else {
            (
                sample(all_rows, SAMPLED_ROWS),
                sample(batch, SAMPLED_VECTORS),
            )
        };
        let x: Vec<f32> = vectors
            .iter()
            .flat_map(|v| &x[v * cols..(v + 1) * cols])
            .copied()
            .collect();
        let reference = reference::linear_rows(weight, &rows, &x, vectors.len(), None)?;
        Ok(Self {
            rows,
            vectors,
            all_rows,
            reference,
        })
    }

    /// Compares `y [batch, rows]`, all of which must be finite.
    pub fn compare(&self, y: &[f32]) -> Result<Comparison> {
        let pick = |(v, r): (usize, usize)| y[v * self.all_rows + r];
        let sampled = self
            .vectors
            .iter()
            .flat_map(|&v| self.rows.iter().map(move |&r| (v, r)));
        let sampled: Vec<f32> = sampled.map(pick).collect();
        let mut comparison = self.reference.compare(&sampled)?;
        if let Some(worst) = y.iter().position(|v| !v.is_finite()) {
            comparison.error_over_bound = f64::INFINITY;
            comparison.worst = worst;
        }
        Ok(comparison)
    }
}

/// Up to `count` of `0..len`, ascending, the first and the last among them.
fn sample(len: usize, count: usize) -> Vec<usize> {
    let mut random = Random(len as u64);
    let mut chosen: std::collections::BTreeSet<usize> = [0, len - 1].into();
    while chosen.len() < count.min(len) {
        chosen.insert((random.bits() % len as u64) as usize);
    }
    chosen.into_iter().collect()
}
