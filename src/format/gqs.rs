//! Group-pruned, group-quantised weights (GQSA, <https://arxiv.org/abs/2412.17560>).
//!
//! Groups of consecutive columns are dropped whole, row by row; what is kept is quantised.
//!
//! ```text
//! row_offsets  [rows + 1]     kept groups before row r
//! group_indices[kept]         which group of its row; ascending inside a row
//! codes        [kept][group]  a group that `cols` cuts short holds its zero in the rest
//! scales, zeros[kept]
//!
//! w4g8s50, 2 rows of 24 columns (3 groups, of which 2 are kept):
//!   row 0 keeps columns 0…7 and 16…23, row 1 keeps 0…7 and 8…15
//!   row_offsets 0 2 4     group_indices 0 2 | 0 1
//! ```
//! Balanced weights keep the same number of groups in every row; ragged ones any number, but
//! in all as many as their format says, so that the format gives the size.

use super::{Codes, checked_len};
use crate::error::{Error, Result};
use std::ops::Range;

/// Which groups a weight keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupPruning {
    percent: u32,
    ragged: bool,
}

impl GroupPruning {
    /// `percent` of the groups are dropped: of every row, or of the whole weight where `ragged`.
    ///
    /// # Errors
    /// [`Error::Sparsity`] unless `1 ≤ percent ≤ 99`.
    pub const fn new(percent: u32, ragged: bool) -> Result<Self> {
        if percent == 0 || percent > 99 {
            return Err(Error::Sparsity { percent });
        }
        Ok(Self { percent, ragged })
    }

    /// Per cent of the groups that are dropped.
    pub const fn percent(self) -> u32 {
        self.percent
    }

    /// Whether rows may keep different numbers of groups.
    pub const fn ragged(self) -> bool {
        self.ragged
    }

    /// How many of `groups` groups are kept; at least one, if there are any.
    pub const fn kept(self, groups: usize) -> usize {
        groups - groups / 100 * self.percent as usize - groups % 100 * self.percent as usize / 100
    }
}

/// A weight `[rows, cols]` of which some groups are kept, as codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Gqs {
    rows: usize,
    cols: usize,
    pruning: GroupPruning,
    row_offsets: Vec<u32>,
    group_indices: Vec<u32>,
    codes: Codes,
}

impl Gqs {
    /// Makes a weight of its sections, from elsewhere, and checks every offset and index.
    ///
    /// # Errors
    /// [`Error::Quant`] for a group of the whole row, which could only be dropped whole;
    /// [`Error::ZeroPoint`] for real zeros;
    /// [`Error::Shape`] for a section of the wrong length, or where a ragged weight keeps more
    /// or fewer groups than its format says; [`Error::Group`] for offsets that
    /// do not rise from 0 to the number of kept groups, rows of different length in a balanced
    /// weight, indices that do not ascend or lie past the row's last group.
    pub fn from_parts(
        rows: usize,
        cols: usize,
        pruning: GroupPruning,
        row_offsets: Vec<u32>,
        group_indices: Vec<u32>,
        codes: Codes,
    ) -> Result<Self> {
        checked_len("weight", rows, cols)?;
        let quant = codes.quant();
        let Some(group) = quant.group() else {
            return Err(Error::Quant {
                bits: quant.bits(),
                group: cols,
            });
        };
        if quant.real_zeros() {
            return Err(Error::ZeroPoint {
                got: quant.zero_point(),
                needed: "kept groups have codes or none",
            });
        }
        let kept = group_indices.len();
        for (what, got, expected) in [
            ("row offsets", row_offsets.len(), rows + 1),
            ("scales", codes.scales().len(), kept),
            ("codes", codes.codes().len(), kept.saturating_mul(group)),
        ] {
            Error::expect(what, got, expected)?;
        }
        let weight = Self {
            rows,
            cols,
            pruning,
            row_offsets,
            group_indices,
            codes,
        };
        weight.check_offsets()?;
        (0..rows).try_for_each(|row| weight.check_row(row))?;
        Ok(weight)
    }

    /// Appends the rows of a balanced weight of the same format, columns and factor.
    pub(super) fn append(&mut self, below: &Self) {
        let kept = self.group_indices.len() as u32;
        let offsets = below.row_offsets[1..].iter();
        self.row_offsets.extend(offsets.map(|offset| kept + offset));
        self.group_indices.extend(&below.group_indices);
        self.codes.append(&below.codes);
        self.rows += below.rows;
    }

    fn check_offsets(&self) -> Result<()> {
        let refuse = |row, value: u32, reason| {
            Err(Error::Group {
                what: "row offset",
                row,
                value: value as usize,
                reason,
            })
        };
        if self.row_offsets[0] != 0 {
            return refuse(0, self.row_offsets[0], "the first is 0");
        }
        let all = self.pruning.kept(self.rows * self.row_groups());
        if self.pruning.ragged() {
            Error::expect("kept groups", self.group_indices.len(), all)?;
        }
        let last = self.row_offsets[self.rows];
        if last as usize != self.group_indices.len() {
            return refuse(self.rows, last, "the last is the number of kept groups");
        }
        let of_row = self.pruning.kept(self.row_groups());
        for (row, pair) in self.row_offsets.windows(2).enumerate() {
            if pair[1] < pair[0] {
                return refuse(row + 1, pair[1], "offsets never fall");
            }
            let kept = (pair[1] - pair[0]) as usize;
            if kept > self.row_groups() {
                return refuse(row + 1, pair[1], "a row keeps no more groups than it has");
            }
            if !self.pruning.ragged() && kept != of_row {
                let reason = "every row of a balanced weight keeps as many as its format says";
                return refuse(row + 1, pair[1], reason);
            }
        }
        Ok(())
    }

    fn check_row(&self, row: usize) -> Result<()> {
        let mut floor = 0;
        for &index in &self.group_indices[self.kept(row)] {
            let reason = if index as usize >= self.row_groups() {
                "it lies past the last column"
            } else if index < floor {
                "indices of a row must ascend"
            } else {
                floor = index + 1;
                continue;
            };
            return Err(Error::Group {
                what: "group index",
                row,
                value: index as usize,
                reason,
            });
        }
        Ok(())
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features, the dimension summed over.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// How groups were dropped.
    pub const fn pruning(&self) -> GroupPruning {
        self.pruning
    }

    /// Columns of a group.
    pub const fn group(&self) -> usize {
        self.codes.quant().group_cols(self.cols)
    }

    /// Groups that a row would have if none were dropped.
    pub const fn row_groups(&self) -> usize {
        self.codes.quant().groups(self.cols)
    }

    /// Kept groups before each row, and all of them.
    pub fn row_offsets(&self) -> &[u32] {
        &self.row_offsets
    }

    /// Number of each kept group in its row.
    pub fn group_indices(&self) -> &[u32] {
        &self.group_indices
    }

    /// Codes, scales and zeros.
    pub const fn codes(&self) -> &Codes {
        &self.codes
    }

    /// The kept groups of `row`, as positions in [`group_indices`](Self::group_indices).
    pub fn kept(&self, row: usize) -> Range<usize> {
        self.row_offsets[row] as usize..self.row_offsets[row + 1] as usize
    }

    /// The largest number of kept groups of a row over the mean; 1 is balanced.
    pub fn imbalance(&self) -> f64 {
        let most = (0..self.rows).map(|r| self.kept(r).len()).max();
        match (most, self.group_indices.len()) {
            (Some(most), all @ 1..) => most as f64 * self.rows as f64 / all as f64,
            _ => 1.0,
        }
    }

    /// Bytes of one stored index: the narrowest of 1, 2 and 4 that number a row's groups.
    pub const fn index_bytes(groups: usize) -> usize {
        match groups {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        }
    }
}
