//! Dense weights → sparse and quantised formats. No wgpu here.

use crate::{
    error::{Error, Result},
    format::{Columns, Dense, Format, Matrix, Nm, Pattern},
};

mod quantize;

pub use quantize::{Grid, Quantizer, prune_groups, quantize, select_groups};

/// Keeps in each window the columns with the largest `Σ w²` over the rows that
/// share it, ties to the lower column. The values keep their storage type.
///
/// # Errors
/// [`Error::NotFinite`] for a NaN or infinite weight.
pub fn prune_by_magnitude(dense: &Dense, pattern: Pattern) -> Result<Nm> {
    Nm::keep(dense, heaviest(dense, pattern)?)
}

/// The columns with the largest `Σ w²`.
fn heaviest(dense: &Dense, pattern: Pattern) -> Result<Columns> {
    Columns::select(
        pattern,
        dense.rows(),
        dense.cols(),
        |rows, columns, scores| {
            for row in rows {
                for (score, col) in scores.iter_mut().zip(columns.clone()) {
                    *score += f64::from(dense.get(row, col)).powi(2);
                }
            }
        },
    )
}

/// Compresses `dense` to `format`: prunes by magnitude where the format is sparse, rounds to
/// the nearest code where it is quantised. Values of N:M are rounded to the format's type
/// before the choice is made.
///
/// # Errors
/// [`Error::NotFinite`], and [`Error::Overflow`] where a value does not fit the type.
pub fn compress(dense: &Dense, format: Format) -> Result<Matrix> {
    match format {
        Format::Dense(dtype) => Ok(dense.to_dtype(dtype)?.into()),
        Format::Nm { pattern, dtype } => {
            let dtype = dtype.unwrap_or_else(|| dense.values().dtype());
            Ok(prune_by_magnitude(&dense.to_dtype(dtype)?, pattern)?.into())
        }
        Format::Quantized { pattern, quant } => {
            dense.check_finite()?;
            let columns = pattern.map(|p| heaviest(dense, p)).transpose()?;
            Ok(quantize(dense, columns, quant)?.into())
        }
        Format::Gqs { quant, pruning } => {
            let weight = |row, col| f64::from(dense.get(row, col));
            let score = |row, columns: std::ops::Range<usize>| {
                columns.map(|col| weight(row, col).powi(2)).sum()
            };
            Ok(prune_groups(dense, quant, pruning, score)?.into())
        }
    }
}

/// `‖W − W'‖ / ‖W‖` in the Frobenius norm; 0 for a zero `dense`.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn relative_error(dense: &Dense, compressed: &Matrix) -> Result<f64> {
    for (what, got, expected) in [
        ("compressed rows", compressed.rows(), dense.rows()),
        ("compressed columns", compressed.cols(), dense.cols()),
    ] {
        Error::expect(what, got, expected)?;
    }
    let back = compressed.to_dense();
    let (mut difference, mut norm) = (0.0, 0.0);
    for i in 0..dense.values().len() {
        let w = f64::from(dense.values().get(i));
        difference += (w - f64::from(back.values().get(i))).powi(2);
        norm += w.powi(2);
    }
    Ok(if norm == 0.0 {
        0.0
    } else {
        (difference / norm).sqrt()
    })
}
