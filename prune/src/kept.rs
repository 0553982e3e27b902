//! Which columns each row keeps.

use crate::{blocks::ROWS, error::Result};
use lacuna::{
    compress::select_groups,
    format::{Columns, Format},
};
use std::ops::Range;

/// Which columns each row of a weight keeps.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Every column.
    All {
        /// Columns of the weight.
        cols: usize,
    },
    /// n of every m.
    Columns(Columns),
    /// Some of the groups of columns.
    Groups {
        /// The columns of each kept group, for each row.
        of_rows: Vec<Vec<Range<usize>>>,
    },
}

impl Kept {
    /// Chooses what `format` keeps of a weight: the columns or groups with the largest sums of
    /// `score`. `score` is called with a row and a range of columns that are kept or dropped together.
    pub(crate) fn select(
        format: Format,
        rows: usize,
        cols: usize,
        mut score: impl FnMut(usize, Range<usize>) -> f64,
    ) -> Result<Self> {
        if let Format::Gqs { quant, pruning } = format {
            let (offsets, indices) = select_groups(rows, cols, quant, pruning, score)?;
            let group = quant.group_cols(cols);
            let columns = |&index: &u32| {
                let first = index as usize * group;
                first..cols.min(first + group)
            };
            let kept = |pair: &[u32]| &indices[pair[0] as usize..pair[1] as usize];
            let of_row = |pair: &[u32]| kept(pair).iter().map(columns).collect();
            return Ok(Self::Groups {
                of_rows: offsets.windows(2).map(of_row).collect(),
            });
        }
        let Some(pattern) = format.pattern() else {
            return Ok(Self::All { cols });
        };
        let add = |rows: Range<usize>, columns: Range<usize>, scores: &mut [f64]| {
            for row in rows {
                for (sum, col) in scores.iter_mut().zip(columns.clone()) {
                    *sum += score(row, col..col + 1);
                }
            }
        };
        Ok(Self::Columns(Columns::select(pattern, rows, cols, add)?))
    }

    /// The columns that `row` keeps, in ascending order.
    pub(crate) fn of_row(&self, row: usize) -> Vec<u32> {
        match self {
            Self::All { cols } => (0..*cols as u32).collect(),
            Self::Columns(columns) => {
                let slots = (0..columns.slots()).map(|slot| columns.column(row, slot) as u32);
                slots.filter(|&c| (c as usize) < columns.cols()).collect()
            }
            Self::Groups { of_rows } => {
                let columns = of_rows[row].iter().cloned().flatten();
                columns.map(|c| c as u32).collect()
            }
        }
    }

    /// How many consecutive rows share a choice of columns. If all rows do, the height of a block.
    pub(crate) fn sharing(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.pattern().v(),
            Self::All { .. } => ROWS,
            Self::Groups { .. } => 1,
        }
    }
}
