//! The f64 reference: whole where that is quick, else on a sample of rows and vectors.

use lacuna::{
    Result,
    format::Matrix,
    reference::{self, Comparison, Reference},
    verify::Random,
};
use std::collections::BTreeSet;

/// Multiplications that the reference does in well under a second.
const MOST_PRODUCTS: usize = 1 << 25;
const SAMPLED_ROWS: usize = 256;
const SAMPLED_VECTORS: usize = 16;

pub struct Truth {
    rows: Vec<usize>,
    vectors: Vec<usize>,
    all_rows: usize,
    reference: Reference,
}

impl Truth {
    pub fn new(weight: &Matrix, x: &[f32], batch: usize) -> Result<Self> {
        let (all_rows, cols) = (weight.rows(), weight.cols());
        let whole = all_rows * cols * batch <= MOST_PRODUCTS;
        let chosen = |len, count| sample(len, if whole { len } else { count });
        let (rows, vectors) = (
            chosen(all_rows, SAMPLED_ROWS),
            chosen(batch, SAMPLED_VECTORS),
        );
        let pick = |&v: &usize| x[v * cols..][..cols].iter().copied();
        let x: Vec<f32> = vectors.iter().flat_map(pick).collect();
        Ok(Self {
            reference: reference::linear_rows(weight, &rows, &x, vectors.len(), None)?,
            rows,
            vectors,
            all_rows,
        })
    }

    /// Compares the sampled elements of `y [batch, rows]`, all of which must be finite.
    pub fn compare(&self, y: &[f32]) -> Result<Comparison> {
        let row = |&v: &usize| self.rows.iter().map(move |r| y[v * self.all_rows + r]);
        let sampled: Vec<f32> = self.vectors.iter().flat_map(row).collect();
        let mut comparison = self.reference.compare(&sampled)?;
        if !y.iter().all(|v| v.is_finite()) {
            comparison.error_over_bound = f64::INFINITY;
        }
        Ok(comparison)
    }
}

/// `count` of `0..len`, ascending, with the first and the last, where kernels go wrong first.
fn sample(len: usize, count: usize) -> Vec<usize> {
    if count >= len {
        return (0..len).collect();
    }
    let mut random = Random(len as u64);
    let mut chosen = BTreeSet::from([0, len - 1]);
    while chosen.len() < count {
        chosen.insert((random.bits() % len as u64) as usize);
    }
    chosen.into_iter().collect()
}
