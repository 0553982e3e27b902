//! Compression of one weight: score, mask, compensation and recovery together.

use crate::{
    compensate::{Mask, compensate},
    error::{Error, Result},
    hessian::{Hessian, output_error},
    inputs::Inputs,
    kept::Kept,
    recover::recover,
    score::Score,
    store::{Row, Storage, columns},
};
use lacuna::format::{Dense, Dtype, Format, Matrix, Pattern};
use rayon::prelude::*;

/// Damping of the Hessian when columns compensate, as a share of the mean of its diagonal.
const DAMP: f64 = 0.01;
/// The least and the most damping, as the same share, for least squares over the kept columns.
const RIDGE: (f64, f64) = (0.01, 0.1);

/// How a weight is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method {
    /// What decides which weights are kept.
    pub score: Score,
    /// Whether the kept weights, and then the scales of their codes, are refitted by least squares
    /// on the outputs.
    pub recover: bool,
}

/// A compressed weight and the error that compression caused.
#[derive(Debug, Clone, PartialEq)]
pub struct Compressed {
    /// The weight.
    pub matrix: Matrix,
    /// `‖X(W − W')ᵀ‖ / ‖XWᵀ‖` over the inputs, if their Hessian is known.
    pub output_error: Option<f64>,
}

impl Method {
    /// Whether `format` needs the Hessian of the inputs.
    pub fn needs_hessian(&self, format: Format) -> bool {
        !matches!(format, Format::Dense(_)) && (self.score == Score::SparseGpt || self.recover)
    }

    /// Compresses `dense` to `format`, using what is known of its inputs.
    ///
    /// With [`Score::SparseGpt`] or `recover`, each column makes up for the error of those before it,
    /// in N:M formats as in quantised ones. Otherwise the kept values are only rounded; if there are
    /// inputs, the scales of codes are those that cost least by `E[x²]`. Without inputs,
    /// [`Score::Magnitude`] gives what [`lacuna::compress::compress`] gives.
    ///
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::NoInputs`] and [`Error::NoHessian`] if the method needs moments that are missing;
    /// [`Error::NotPositive`] if the Hessian is not positive definite; [`Error::Engine`] for weights
    /// that are not finite, inputs of another length, and values that overflow their type.
    pub fn compress(
        &self,
        dense: &Dense,
        format: Format,
        inputs: Option<&Inputs>,
    ) -> Result<Compressed> {
        if let Some(inputs) = inputs
            && inputs.cols() != dense.cols()
        {
            return Err(Error::Engine(lacuna::Error::Shape {
                what: "columns of the inputs",
                got: inputs.cols(),
                expected: dense.cols(),
            }));
        }
        let matrix = if matches!(format, Format::Dense(_)) {
            lacuna::compress::compress(dense, format)?
        } else {
            check_finite(dense)?;
            if self.needs_hessian(format) {
                self.by_hessian(dense, format, inputs)?
            } else {
                self.by_moments(dense, format, inputs)?
            }
        };
        let error = inputs.map(|inputs| output_error(dense, &matrix, inputs));
        Ok(Compressed {
            output_error: error.transpose()?.flatten(),
            matrix,
        })
    }

    /// Keeps values as they are, rounded to what is stored.
    fn by_moments(self, dense: &Dense, format: Format, inputs: Option<&Inputs>) -> Result<Matrix> {
        let dtype = format.dtype().unwrap_or_else(|| dense.values().dtype());
        let dense = dense.to_dtype(dtype)?;
        let kept = self.select(&dense, format, inputs)?;
        let storage = Storage::new(format, &dense);
        let mean_square = inputs.map(Inputs::mean_square);
        let row = |row| {
            let columns = kept.of_row(row);
            let value = |&col: &u32| dense.get(row, col as usize);
            let values = columns.iter().map(value).collect();
            storage.row(columns, values, mean_square)
        };
        let rows: Vec<Row> = (0..dense.rows()).into_par_iter().map(row).collect();
        storage.pack(dense.cols(), &rows)
    }

    /// Lets columns make up for each other's errors.
    fn by_hessian(self, dense: &Dense, format: Format, inputs: Option<&Inputs>) -> Result<Matrix> {
        let what = if self.recover {
            "recovery"
        } else {
            "the score sparsegpt"
        };
        let inputs = inputs.ok_or(Error::NoHessian { what })?;
        let mut hessian = Hessian::new(inputs).ok_or(Error::NoHessian { what })?;
        let storage = Storage::new(format, dense);
        let rows = if self.recover {
            let kept = match (self.score, format.pattern()) {
                (Score::SparseGpt, Some(pattern)) => {
                    hessian.damp(DAMP);
                    by_walk(dense, &hessian, pattern)?
                }
                (Score::SparseGpt, None) => hessian.select(dense, format)?,
                _ => self.select(dense, format, Some(inputs))?,
            };
            let pruned = !matches!(format, Format::Quantized { pattern: None, .. });
            hessian.damp(if pruned { ridge(inputs) } else { DAMP });
            recover(dense, &hessian, &storage, &kept)?
        } else if let Some(pattern) = format.pattern() {
            hessian.damp(DAMP);
            compensate(dense, &hessian, &storage, Mask::Choose(pattern))?
        } else {
            let kept = hessian.select(dense, format)?;
            hessian.damp(DAMP);
            compensate(dense, &hessian, &storage, Mask::Fixed(&kept))?
        };
        storage.pack(dense.cols(), &rows)
    }

    /// Chooses what `format` keeps by scores of single weights.
    fn select(self, dense: &Dense, format: Format, inputs: Option<&Inputs>) -> Result<Kept> {
        let score = self.score.of(dense, inputs)?;
        Kept::select(format, dense.rows(), dense.cols(), |row, columns| {
            columns.map(|col| score(row, col)).sum()
        })
    }
}

/// The columns that compensation would keep if values were stored as f32.
fn by_walk(dense: &Dense, hessian: &Hessian, pattern: Pattern) -> Result<Kept> {
    let values = Format::Nm {
        pattern,
        dtype: Some(Dtype::F32),
    };
    let values = Storage::new(values, dense);
    let rows = compensate(dense, hessian, &values, Mask::Choose(pattern))?;
    Ok(Kept::Columns(columns(pattern, dense.cols(), &rows)?))
}

/// The damping for least squares, as a share of the mean diagonal. The fewer samples there are per
/// column, the more of the Hessian is noise that other inputs do not share.
///
/// A rule of thumb, not an optimum: of 0.5, 2, 7 and 15 %, tried on the layers of one small model,
/// on held-out text 15 % did best at 5 samples a column and about 2 % at 64, but 0.5 % at 16 too.
fn ridge(inputs: &Inputs) -> f64 {
    let (least, most) = RIDGE;
    (inputs.cols() as f64 / inputs.samples() as f64).clamp(least, most)
}

/// Refuses weights that are not finite, with [`lacuna::Error::NotFinite`] for the first.
fn check_finite(dense: &Dense) -> Result<()> {
    let cols = dense.cols();
    let bad = (0..dense.values().len()).find(|&i| !dense.values().get(i).is_finite());
    bad.map_or(Ok(()), |i| {
        let (row, col) = (i / cols, i % cols);
        let value = dense.get(row, col);
        Err(Error::Engine(lacuna::Error::NotFinite { row, col, value }))
    })
}
