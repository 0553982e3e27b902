//! What an error of the weights costs in the output.

use crate::{
    blocks::in_blocks,
    error::{Error, Result},
    inputs::Inputs,
    kept::Kept,
    linear::{Factor, dot},
};
use lacuna::format::{Dense, Format, Matrix};
use ndarray::{Array2, ArrayView2, Axis, s};
use std::ops::Range;

/// `E[x xᵀ]`, as it is or damped by an addition to its diagonal so that it can be inverted.
#[derive(Debug)]
pub(crate) struct Hessian {
    matrix: Array2<f64>,
    /// Its diagonal without damping.
    diagonal: Vec<f64>,
    /// The mean of that over live columns.
    mean: f64,
    dead: Vec<bool>,
}

impl Hessian {
    /// The matrix without damping. An input that was always 0 is dead: no output depends on its column. `None` if
    /// `inputs` has no Hessian.
    pub(crate) fn new(inputs: &Inputs) -> Option<Self> {
        let mut matrix = symmetric(inputs)?;
        let dead: Vec<bool> = matrix.diag().iter().map(|&h| h == 0.0).collect();
        let living = dead.iter().filter(|&&d| !d).count();
        let mean = matrix.diag().sum() / living.max(1) as f64;
        for (col, _) in dead.iter().enumerate().filter(|(_, dead)| **dead) {
            matrix.row_mut(col).fill(0.0);
            matrix.column_mut(col).fill(0.0);
            matrix[(col, col)] = if living == 0 { 1.0 } else { mean };
        }
        Some(Self {
            diagonal: matrix.diag().to_vec(),
            matrix,
            mean,
            dead,
        })
    }

    /// Makes `share` times the mean of the diagonal the addition to the diagonal, in place of the present one.
    pub(crate) fn damp(&mut self, share: f64) {
        for (h, undamped) in self.matrix.diag_mut().iter_mut().zip(&self.diagonal) {
            *h = undamped + share * self.mean;
        }
    }

    /// The matrix.
    pub(crate) fn matrix(&self) -> ArrayView2<'_, f64> {
        self.matrix.view()
    }

    /// Rows of `dense`, with dead columns set to zero.
    pub(crate) fn living(&self, dense: &Dense, rows: Range<usize>) -> Array2<f64> {
        Array2::from_shape_fn((rows.len(), dense.cols()), |(row, col)| {
            if self.dead[col] {
                0.0
            } else {
                f64::from(dense.get(rows.start + row, col))
            }
        })
    }

    /// The groups of columns that `format` keeps: those with the largest `w_Gᵀ H_GG w_G`. As that inverts nothing,
    /// damping would only make all columns alike: a few inputs much larger than the others carry the mean.
    pub(crate) fn select(&self, dense: &Dense, format: Format) -> Result<Kept> {
        let loss = |row, group: Range<usize>| -> f64 {
            let weight = |col: usize| {
                if self.dead[col] {
                    0.0
                } else {
                    f64::from(dense.get(row, col))
                }
            };
            let w: Vec<f64> = group.clone().map(weight).collect();
            let part = self.matrix.slice(s![group.clone(), group]);
            let terms = part.rows().into_iter().zip(&w);
            terms
                .map(|(h, &w_i)| w_i * dot(h.to_slice().expect("matrices are row-major"), &w))
                .sum()
        };
        Kept::select(format, dense.rows(), dense.cols(), loss)
    }

    /// The factor of the whole matrix.
    pub(crate) fn factor(&self) -> Result<Factor> {
        let refuse = |(column, pivot)| Error::NotPositive { column, pivot };
        Factor::new(self.matrix.clone()).map_err(refuse)
    }

    /// The factor of the submatrix of these `columns`.
    pub(crate) fn factor_of(&self, columns: &[u32]) -> Result<Factor> {
        let n = columns.len();
        let mut part = Array2::zeros((n, n));
        for (i, (&row, mut to)) in columns.iter().zip(part.rows_mut()).enumerate() {
            let from = self.matrix.row(row as usize);
            for (to, &col) in to.iter_mut().zip(&columns[..=i]) {
                *to = from[col as usize];
            }
        }
        Factor::new(part).map_err(|(column, pivot)| Error::NotPositive {
            column: columns[column] as usize,
            pivot,
        })
    }
}

/// `E[x xᵀ]`, made symmetric from its lower triangle.
fn symmetric(inputs: &Inputs) -> Option<Array2<f64>> {
    let (all, n) = (inputs.hessian()?, inputs.cols());
    Some(Array2::from_shape_fn((n, n), |(i, j)| {
        f64::from(all[i.max(j) * n + i.min(j)])
    }))
}

/// `‖X(W − W')ᵀ‖ / ‖XWᵀ‖` by the Hessian of the inputs, or `None` without one; 0 if `XWᵀ` is 0.
///
/// # Errors
/// [`lacuna::Error::Shape`] if the shapes differ.
pub fn output_error(dense: &Dense, packed: &Matrix, inputs: &Inputs) -> Result<Option<f64>> {
    let (rows, cols) = (dense.rows(), dense.cols());
    for (what, got, expected) in [
        ("compressed rows", packed.rows(), rows),
        ("compressed columns", packed.cols(), cols),
        ("columns of the inputs", inputs.cols(), cols),
    ] {
        if got != expected {
            return Err(lacuna::Error::Shape {
                what,
                got,
                expected,
            }
            .into());
        }
    }
    let Some(hessian) = symmetric(inputs) else {
        return Ok(None);
    };
    let quadratic = |w: &Array2<f64>| -> f64 { (w.dot(&hessian) * w).sum() };
    let sums = in_blocks(rows, 1, |rows| {
        let mut w = Array2::from_shape_fn((rows.len(), cols), |(row, col)| {
            f64::from(dense.get(rows.start + row, col))
        });
        let norm = quadratic(&w);
        for (row, mut w) in rows.zip(w.axis_iter_mut(Axis(0))) {
            let entries = packed.entries(row);
            entries.for_each(|e| w[e.col] -= f64::from(e.value));
        }
        Ok(vec![(quadratic(&w), norm)])
    })?;
    let (loss, norm) = sums.iter().fold((0.0, 0.0), |(l, n), s| (l + s.0, n + s.1));
    // Rounding can turn a loss of zero into a negative number.
    Ok(Some(if norm > 0.0 {
        (loss / norm).max(0.0).sqrt()
    } else {
        0.0
    }))
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these are exact")]
mod tests {
    use super::*;

    #[test]
    fn damping_is_a_share_of_the_mean_over_living_columns() {
        let squares = vec![4.0, 0.0, 8.0];
        let all = vec![4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 8.0];
        let inputs = Inputs::new(1, vec![0.0; 3], squares, Some(all)).unwrap();
        let mut hessian = Hessian::new(&inputs).unwrap();
        assert_eq!(hessian.matrix().diag().to_vec(), [4.0, 6.0, 8.0]);
        hessian.damp(0.5);
        assert_eq!(hessian.matrix().diag().to_vec(), [7.0, 9.0, 11.0]);
        // In place of the damping before it.
        hessian.damp(1.0);
        assert_eq!(hessian.matrix().diag().to_vec(), [10.0, 12.0, 14.0]);
        assert_eq!(hessian.matrix()[(0, 2)], 1.0);
    }
}
