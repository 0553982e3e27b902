//! N:M weights: n kept of every m columns, with one index set for v rows.
//!
//! ```text
//! values [rows][slots]         slots = ceil(cols / m) · n, row-major
//! indices[ceil(rows / v)][…]   see [`Columns`]
//!
//! 2:4, v = 1, one row of 6 columns:   0  5  0  7 | 9  0
//!   slots                  :   5   7   9   0
//!   columns                :   1   3   4   5
//! ```
//! A window with fewer non-zeros keeps its lowest free columns as explicit zeros
//! (the last slot above). A spare slot holds 0 and no column.

use super::{Columns, Dense, Values, checked_len, pattern::Pattern};
use crate::error::{Error, Result};
use std::ops::Range;

/// An N:M sparse weight of `[rows, cols]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Nm {
    columns: Columns,
    values: Values,
}

impl Nm {
    /// Makes a weight of its packed sections, from elsewhere, and checks every index.
    ///
    /// # Errors
    /// Those of [`Columns::from_parts`], [`Error::Shape`] for values of the wrong length,
    /// [`Error::NotFinite`].
    pub fn from_parts(
        pattern: Pattern,
        rows: usize,
        cols: usize,
        values: Values,
        indices: Vec<u32>,
    ) -> Result<Self> {
        checked_len("weight", rows, cols)?;
        let slots = pattern.slots(cols);
        let expected = checked_len("values", rows, slots)?;
        Error::expect("values", values.len(), expected)?;
        let columns = Columns::from_parts(pattern, rows, cols, indices)?;
        if let Some(i) = (0..values.len()).find(|&i| !values.get(i).is_finite()) {
            let (row, slot) = (i / slots, i % slots);
            return Err(Error::NotFinite {
                row,
                col: columns.column(row, slot),
                value: values.get(i),
            });
        }
        Ok(Self { columns, values })
    }

    /// Converts a dense matrix that already obeys `pattern`, losing nothing.
    ///
    /// A weight of −0.0 counts as zero; it comes back as +0.0.
    ///
    /// # Errors
    /// [`Error::Violation`] names the first window with more than n columns in
    /// use and the share of such windows; [`Error::NotFinite`].
    pub fn from_dense(dense: &Dense, pattern: Pattern) -> Result<Self> {
        let (windows, mut violating, mut first) = (pattern.windows(dense.cols()), 0, None);
        let weight = Self::select(dense, pattern, |rows, window, scores| {
            for row in rows.clone() {
                for (score, col) in scores.iter_mut().zip(window.clone()) {
                    *score += f64::from(u8::from(dense.get(row, col) != 0.0));
                }
            }
            let nonzeros = scores.iter().filter(|&&s| s > 0.0).count();
            if nonzeros > pattern.n() {
                violating += 1;
                first.get_or_insert((rows.start, window.start, nonzeros));
            }
        })?;
        match first {
            None => Ok(weight),
            Some((row, col, nonzeros)) => Err(Error::Violation {
                pattern,
                row,
                col,
                nonzeros,
                violating,
                windows: windows * pattern.sets(dense.rows()),
            }),
        }
    }

    /// The values of `dense` at the columns that [`Columns::select`] keeps.
    fn select(
        dense: &Dense,
        pattern: Pattern,
        score: impl FnMut(Range<usize>, Range<usize>, &mut [f64]),
    ) -> Result<Self> {
        Self::keep(
            dense,
            Columns::select(pattern, dense.rows(), dense.cols(), score)?,
        )
    }

    /// The values of `dense` at `columns`; the others are lost.
    ///
    /// # Errors
    /// [`Error::Shape`] where `columns` are those of another shape, [`Error::NotFinite`].
    pub fn keep(dense: &Dense, columns: Columns) -> Result<Self> {
        dense.check_finite()?;
        let (rows, cols) = (dense.rows(), dense.cols());
        columns.check_shape(rows, cols)?;
        let len = checked_len("values", rows, columns.slots())?;
        let mut values = Values::with_capacity(dense.values(), len);
        let mut kept = vec![None; columns.slots()];
        for row in 0..rows {
            for (slot, kept) in kept.iter_mut().enumerate() {
                let col = columns.column(row, slot);
                *kept = (col < cols).then(|| row * cols + col);
            }
            values.extend_from(dense.values(), &kept);
        }
        Ok(Self { columns, values })
    }

    /// Appends the rows of a weight of the same format and columns, after whole index sets.
    pub(super) fn append(&mut self, below: &Self) {
        self.values.append(&below.values);
        self.columns.append(&below.columns);
    }

    /// Which columns are kept.
    pub const fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The pattern.
    pub const fn pattern(&self) -> Pattern {
        self.columns.pattern()
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.columns.rows()
    }

    /// Input features, the dimension summed over.
    pub const fn cols(&self) -> usize {
        self.columns.cols()
    }

    /// Value slots of a row.
    pub const fn slots(&self) -> usize {
        self.columns.slots()
    }

    /// The kept values, `[rows][slots]`.
    pub const fn values(&self) -> &Values {
        &self.values
    }
}
