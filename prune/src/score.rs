//! The importance of each weight, by which pruning chooses.

use crate::{
    error::{Error, Result},
    inputs::Inputs,
};
use lacuna::format::Dense;

/// The score that decides which weights are kept.
///
/// Where one choice covers several weights (the rows that share it, the columns of a group),
/// their scores are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Score {
    /// `w²`.
    Magnitude,
    /// `w² · E[x²]`, the square of Wanda's score (<https://arxiv.org/abs/2306.11695>). The ranking
    /// is the same, and a sum of scores is the expected squared error of the output if the inputs
    /// are uncorrelated.
    Wanda,
    /// The loss by the Hessian `E[x xᵀ]` if the columns that follow make up for the dropped weight
    /// as well as they can (`SparseGPT`, <https://arxiv.org/abs/2301.00774>). Groups of columns are
    /// ranked by `w_Gᵀ H_GG w_G`.
    SparseGpt,
    /// `(|w| / Σ_row |w| + |w| / Σ_column |w|) · E[x²]^¼`: relative importance and activations
    /// (RIA, "Plug-and-Play", ICLR 2024).
    Ria,
}

/// Gives the score of the weight at (row, column).
pub(crate) type Scores<'a> = Box<dyn Fn(usize, usize) -> f64 + Sync + 'a>;

impl Score {
    /// The scores of single weights.
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
                    // If a sum is zero, all of its weights are zero.
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
