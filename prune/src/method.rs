//! Score, mask, compensation and recovery together.

use crate::{
    error::Result,
    inputs::Inputs,
    kept::Kept,
    score::Score,
    store::{Row, Storage},
};
use lacuna::format::{Dense, Format, Matrix};
use rayon::prelude::*;

/// How a weight is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method {
    /// What decides which weights are kept.
    pub score: Score,
    /// Whether the kept values make up for the lost ones by least squares.
    pub recover: bool,
}

/// A compressed weight and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Compressed {
    /// The weight.
    pub matrix: Matrix,
    /// `‖X(W − W')ᵀ‖ / ‖XWᵀ‖`, where the Hessian is known.
    pub output_error: Option<f64>,
}

/// Values of the kept weights as they are, rounded to what the format stores.
fn round(dense: &Dense, kept: &Kept, storage: &Storage) -> Vec<Row> {
    let row = |row| {
        let columns = kept.of_row(row);
        let value = |&col: &u32| dense.get(row, col as usize);
        let values = columns.iter().map(value).collect();
        storage.row(columns, values)
    };
    (0..dense.rows()).into_par_iter().map(row).collect()
}

/// `format` with the score summed over the columns of a group.
fn select(method: Method, dense: &Dense, format: Format, inputs: Option<&Inputs>) -> Result<Kept> {
    let (rows, cols) = (dense.rows(), dense.cols());
    let score = method.score.of(dense, inputs)?;
    Kept::select(format, rows, cols, |row, columns| {
        columns.map(|col| score(row, col)).sum()
    })
}

impl Method {
    /// Compresses `dense` to `format`.
    pub fn compress(
        &self,
        dense: &Dense,
        format: Format,
        inputs: Option<&Inputs>,
    ) -> Result<Compressed> {
        let dense = dense.to_dtype(format.dtype().unwrap_or_else(|| dense.values().dtype()))?;
        let kept = select(*self, &dense, format, inputs)?;
        let storage = Storage::new(format, &dense, inputs);
        let rows = round(&dense, &kept, &storage);
        let matrix = storage.pack(dense.cols(), &rows)?;
        Ok(Compressed {
            matrix,
            output_error: None,
        })
    }
}
