//! Score, mask, compensation and recovery together.

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

/// Share of the mean of a Hessian's diagonal that is added to it where columns compensate.
const DAMP: f64 = 0.01;
/// The least and the most of the same for least squares over the kept columns.
const RIDGE: (f64, f64) = (0.01, 0.1);

/// How a weight is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method {
    /// What decides which weights are kept.
    pub score: Score,
    /// Whether the kept weights are set anew, by least squares on the outputs, and the scales of
    /// codes after them.
    pub recover: bool,
}

/// A compressed weight and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Compressed {
    /// The weight.
    pub matrix: Matrix,
    /// `‖X(W − W')ᵀ‖ / ‖XWᵀ‖` over the inputs, where their Hessian is known.
    pub output_error: Option<f64>,
}

impl Method {
    /// Whether `format` needs the Hessian of the inputs.
    pub fn needs_hessian(&self, format: Format) -> bool {
        !matches!(format, Format::Dense(_)) && (self.score == Score::SparseGpt || self.recover)
    }

    /// Compresses `dense` to `format` by what is known of its inputs.
    ///
    /// With [`Score::SparseGpt`] or where it recovers, columns make up for what those before
    /// them lose, in N:M formats and in quantised ones. Otherwise the kept values are rounded, with
    /// the scales that cost least by `E[x²]` where there are inputs. Without inputs
    /// [`Score::Magnitude`] is [`lacuna::compress::compress`].
    ///
    /// The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::NoInputs`] and [`Error::NoHessian`] for a method that needs what is not there;
    /// [`Error::NotPositive`] for a Hessian that is none; [`Error::Engine`] for weights that are
    /// not finite, inputs of another length, and values that overflow their type.
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

    /// Kept values as they are, rounded to what is stored.
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

    /// Values that make up for each other.
    fn by_hessian(self, dense: &Dense, format: Format, inputs: Option<&Inputs>) -> Result<Matrix> {
        let what = if self.recover {
            "recovery"
        } else {
            "the score sparsegpt"
        };
        let pruned = !matches!(format, Format::Quantized { pattern: None, .. });
        let damp = |inputs| {
            if self.recover && pruned {
                ridge(inputs)
            } else {
                DAMP
            }
        };
        let hessian = inputs.and_then(|inputs| Hessian::new(inputs, damp(inputs)));
        let hessian = hessian.ok_or(Error::NoHessian { what })?;
        let storage = Storage::new(format, dense);
        let rows = if self.recover {
            let kept = match (self.score, format.pattern()) {
                (Score::SparseGpt, Some(pattern)) => by_walk(dense, &hessian, pattern)?,
                (Score::SparseGpt, None) => hessian.select(dense, format)?,
                _ => self.select(dense, format, inputs)?,
            };
            recover(dense, &hessian, &storage, &kept)?
        } else if let Some(pattern) = format.pattern() {
            compensate(dense, &hessian, &storage, Mask::Choose(pattern))?
        } else {
            let kept = hessian.select(dense, format)?;
            compensate(dense, &hessian, &storage, Mask::Fixed(&kept))?
        };
        storage.pack(dense.cols(), &rows)
    }

    /// What `format` keeps by scores that look at each weight alone.
    fn select(self, dense: &Dense, format: Format, inputs: Option<&Inputs>) -> Result<Kept> {
        let score = self.score.of(dense, inputs)?;
        Kept::select(format, dense.rows(), dense.cols(), |row, columns| {
            columns.map(|col| score(row, col)).sum()
        })
    }
}

/// The columns that compensation keeps where values are stored as they are.
fn by_walk(dense: &Dense, hessian: &Hessian, pattern: Pattern) -> Result<Kept> {
    let values = Format::Nm {
        pattern,
        dtype: Some(Dtype::F32),
    };
    let values = Storage::new(values, dense);
    let rows = compensate(dense, hessian, &values, Mask::Choose(pattern))?;
    Ok(Kept::Columns(columns(pattern, dense.cols(), &rows)?))
}

/// What is added to the Hessian for least squares. The fewer samples there are for each column,
/// the more of what they say is noise that other inputs do not have.
///
/// A rule of thumb, not an optimum: of 0.5, 2, 7 and 15 %, on the layers of one small model,
/// 5 samples a column did best on held-out text with 15, 64 with about 2, but 16 with 0.5 too.
fn ridge(inputs: &Inputs) -> f64 {
    let (least, most) = RIDGE;
    (inputs.cols() as f64 / inputs.samples() as f64).clamp(least, most)
}

/// [`lacuna::Error::NotFinite`] for the first weight that is none.
fn check_finite(dense: &Dense) -> Result<()> {
    let cols = dense.cols();
    let bad = (0..dense.values().len()).find(|&i| !dense.values().get(i).is_finite());
    bad.map_or(Ok(()), |i| {
        let (row, col) = (i / cols, i % cols);
        let value = dense.get(row, col);
        Err(Error::Engine(lacuna::Error::NotFinite { row, col, value }))
    })
}
