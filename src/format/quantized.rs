//! Group-quantised weights, dense or N:M.
//!
//! ```text
//! codes [rows][slots]    slots = cols for a dense weight, those of the pattern for N:M
//! scales[rows][groups]   groups = ceil(cols / group)
//! zeros [rows][groups]   absent where symmetric
//!
//! 2:4+w4g8, 12 columns:  columns 0…7 are group 0: slots 0…3;  8…11 group 1: slots 4, 5
//! ```

use super::{Codes, Columns, Pattern, Quant, checked_len};
use crate::error::{Error, Result};
use std::ops::Range;

/// A weight `[rows, cols]` of codes, for every column or for n of every m.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    rows: usize,
    cols: usize,
    columns: Option<Columns>,
    codes: Codes,
}

impl Quantized {
    /// Joins codes with the shape they are of; `columns` says which are kept, `None` all.
    ///
    /// # Errors
    /// [`Error::Shape`] for sections of the wrong length or columns of another shape;
    /// [`Error::GroupWindow`].
    pub fn new(rows: usize, cols: usize, columns: Option<Columns>, codes: Codes) -> Result<Self> {
        checked_len("weight", rows, cols)?;
        let slots = columns.as_ref().map_or(cols, Columns::slots);
        if let Some(columns) = &columns {
            columns.check_shape(rows, cols)?;
            check_windows(columns.pattern(), codes.quant())?;
        }
        let groups = codes.quant().groups(cols);
        for (what, got, of_row) in [
            ("codes", codes.codes().len(), slots),
            ("scales", codes.scales().len(), groups),
        ] {
            let expected = checked_len(what, rows, of_row)?;
            Error::expect(what, got, expected)?;
        }
        Ok(Self {
            rows,
            cols,
            columns,
            codes,
        })
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features, the dimension summed over.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Codes of a row.
    pub fn slots(&self) -> usize {
        self.columns.as_ref().map_or(self.cols, Columns::slots)
    }

    /// Which columns are kept, `None` where all are.
    pub const fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    /// The N:M pattern, `None` where every column is kept.
    pub fn pattern(&self) -> Option<Pattern> {
        self.columns.as_ref().map(Columns::pattern)
    }

    /// Codes, scales and zeros.
    pub const fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Groups of a row.
    pub const fn groups(&self) -> usize {
        self.codes.quant().groups(self.cols)
    }

    /// Slots of a group that is not cut short.
    pub fn group_slots(&self) -> usize {
        group_slots(self.pattern(), self.codes.quant(), self.cols)
    }

    /// Column of `slot` in `row`; for a spare slot it is ≥ `cols`.
    pub fn column(&self, row: usize, slot: usize) -> usize {
        self.columns.as_ref().map_or(slot, |c| c.column(row, slot))
    }

    /// Some of the rows of a weight that keeps every column.
    ///
    /// # Errors
    /// [`Error::Shape`] where `rows` ends past the last, [`Error::Unfit`] for a weight with a pattern,
    /// whose rows may share their columns.
    pub fn rows_of(&self, rows: Range<usize>) -> Result<Self> {
        if self.columns.is_some() {
            return Err(Error::Unfit {
                what: "rows that share columns",
                value: self.pattern().map_or(1, Pattern::v),
                needed: "a weight that keeps every column",
            });
        }
        if rows.start > rows.end || rows.end > self.rows {
            return Err(Error::Shape {
                what: "last of some rows",
                got: rows.end,
                expected: self.rows,
            });
        }
        let codes = self.codes.cut(
            rows.start * self.cols..rows.end * self.cols,
            rows.start * self.groups()..rows.end * self.groups(),
        );
        Ok(Self {
            rows: rows.len(),
            cols: self.cols,
            columns: None,
            codes,
        })
    }

    /// Appends the rows of a weight of the same format, columns and factor, after whole index sets.
    pub(super) fn append(&mut self, below: &Self) {
        if let (Some(columns), Some(below)) = (&mut self.columns, &below.columns) {
            columns.append(below);
        }
        self.codes.append(&below.codes);
        self.rows += below.rows;
    }

    /// Number of the group that `slot` of `row` belongs to.
    pub(crate) fn group(&self, row: usize, slot: usize) -> usize {
        row * self.groups() + slot / self.group_slots()
    }
}

/// Slots of a whole group: what `pattern` keeps of its columns.
pub(crate) fn group_slots(pattern: Option<Pattern>, quant: Quant, cols: usize) -> usize {
    let group = quant.group_cols(cols);
    pattern.map_or(group, |p| p.slots(group))
}

/// [`Error::GroupWindow`] where a group would end inside a window.
pub(crate) fn check_windows(pattern: Pattern, quant: Quant) -> Result<()> {
    match quant.group() {
        Some(group) if group % pattern.m() != 0 => Err(Error::GroupWindow {
            group,
            m: pattern.m(),
        }),
        _ => Ok(()),
    }
}
