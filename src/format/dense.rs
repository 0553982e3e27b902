//! Dense weights.
//!
//! ```text
//! values[rows][cols], row-major: row 0 column 0, row 0 column 1, …
//!
//! 2 x 3:  | w00 w01 w02 | w10 w11 w12 |
//! ```

use super::{Values, checked_len};
use crate::error::{Error, Result};
use std::ops::Range;

/// A dense weight `[rows, cols]`, row-major, as checkpoints store it.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    rows: usize,
    cols: usize,
    values: Values,
}

impl Dense {
    /// Wraps row-major `values`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `values` does not hold `rows · cols` values.
    pub fn new(rows: usize, cols: usize, values: Values) -> Result<Self> {
        let expected = checked_len("weight", rows, cols)?;
        Error::expect("weight values", values.len(), expected)?;
        Ok(Self { rows, cols, values })
    }

    /// Wraps row-major f32 `values`. See [`Dense::new`].
    pub fn from_f32(rows: usize, cols: usize, values: Vec<f32>) -> Result<Self> {
        Self::new(rows, cols, Values::F32(values))
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features, the dimension summed over.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The values, row-major.
    pub const fn values(&self) -> &Values {
        &self.values
    }

    /// The weight at (`row`, `col`).
    pub fn get(&self, row: usize, col: usize) -> f32 {
        self.values.get(row * self.cols + col)
    }

    /// A copy of some rows.
    ///
    /// # Errors
    /// [`Error::Shape`] for rows past the last.
    pub fn slice_rows(&self, rows: Range<usize>) -> Result<Self> {
        if rows.end > self.rows || rows.start > rows.end {
            return Err(Error::Shape {
                what: "end of the rows taken",
                got: rows.end.max(rows.start),
                expected: self.rows,
            });
        }
        let values = rows.start * self.cols..rows.end * self.cols;
        Self::new(rows.len(), self.cols, self.values.slice(values))
    }

    /// Appends the rows of a weight of the same format and columns.
    pub(super) fn append(&mut self, below: &Self) {
        self.values.append(&below.values);
        self.rows += below.rows;
    }

    /// [`Error::NotFinite`] for the first NaN or infinity: pruning has no order for them.
    pub(crate) fn check_finite(&self) -> Result<()> {
        match (0..self.values.len()).find(|&i| !self.values.get(i).is_finite()) {
            None => Ok(()),
            Some(i) => Err(Error::NotFinite {
                row: i / self.cols,
                col: i % self.cols,
                value: self.values.get(i),
            }),
        }
    }

    /// The same weight in another storage type, rounded to nearest.
    ///
    /// # Errors
    /// [`Error::Overflow`] where a value does not fit.
    pub fn to_dtype(&self, dtype: super::Dtype) -> Result<Self> {
        if dtype == self.values.dtype() {
            return Ok(self.clone());
        }
        Self::new(
            self.rows,
            self.cols,
            Values::round(dtype, &self.values.to_f32())?,
        )
    }
}
