//! How much each weight counts, when some of them must go.

use crate::{
    error::{Error, Result},
    inputs::Inputs,
};
use lacuna::format::Dense;

/// What decides which weights are kept.
///
/// Where one choice is made for several weights (rows of a vector, columns of a group), their
/// scores are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Score {
    /// `w²`.
    Magnitude,
    /// `w² · E[x²]`, the square of what Wanda ranks by (<https://arxiv.org/abs/2306.11695>):
    /// the same order, and a sum of it is the expected square of the output's error where
    /// inputs are uncorrelated.
    Wanda,
    /// The loss by the Hessian `E[x xᵀ]`, given that the weights that follow make up for it
    /// (`SparseGPT`, <https://arxiv.org/abs/2301.00774>). Groups of columns are ranked by
    /// `w_Gᵀ H_GG w_G`.
    SparseGpt,
    /// `(|w| / Σ_row |w| + |w| / Σ_column |w|) · E[x²]^¼`: relative importance and activations
    /// (RIA, "Plug-and-Play", ICLR 2024).
    Ria,
}

/// The score of the weight at (row, column).
pub(crate) type Scores<'a> = Box<dyn Fn(usize, usize) -> f64 + Sync + 'a>;

impl Score {
    /// The scores of weights that are looked at one by one.
    pub(crate) fn of<'a>(self, dense: &'a Dense, inputs: Option<&'a Inputs>) -> Result<Scores<'a>> {
        let needs = |score| inputs.ok_or(Error::NoInputs { score });
        let square = |row, col| f64::from(dense.get(row, col)).powi(2);
        Ok(match self {
            Self::Magnitude => Box::new(square),
            Self::Wanda => {
                let mean_square = needs("wanda")?.mean_square();
                Box::new(move |row, col| square(row, col) * f64::from(mean_square[col]))
            }
            Self::SparseGpt => return Err(Error::NoHessian { what: "sparsegpt" }),
            Self::Ria => {
                let mean_square = needs("ria")?.mean_square().iter();
                let norms: Vec<f64> = mean_square.map(|&s| f64::from(s).powf(0.25)).collect();
                let (of_row, of_col) = absolute_sums(dense);
                Box::new(move |row, col| {
                    let w = f64::from(dense.get(row, col).abs());
                    // A sum of zero has no weight but zeros.
                    let share = |sum: f64| if sum > 0.0 { w / sum } else { 0.0 };
                    (share(of_row[row]) + share(of_col[col])) * norms[col]
                })
            }
        })
    }
}

/// `Σ |w|` of every row and of every column.
fn absolute_sums(dense: &Dense) -> (Vec<f64>, Vec<f64>) {
    let (mut of_row, mut of_col) = (vec![0.0; dense.rows()], vec![0.0; dense.cols()]);
    for (row, of_row) in of_row.iter_mut().enumerate() {
        for (col, of_col) in of_col.iter_mut().enumerate() {
            let w = f64::from(dense.get(row, col).abs());
            *of_row += w;
            *of_col += w;
        }
    }
    (of_row, of_col)
}
