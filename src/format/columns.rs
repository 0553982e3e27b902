//! Which columns an N:M weight keeps.
//!
//! ```text
//! indices[ceil(rows / v)][…]   ceil(log2 m) bits a slot, packed little-end first,
//!                              every index set starts on a word of its own
//!
//! slot s belongs to window s / n and holds column (s / n) · m + index(s)
//!
//! 2:4, v = 1, one row of 6 columns that keeps   . 1 . 3 | 4 5
//!   indices (2 bits each)  :   1   3   0   1      word 0 = 0b01_00_11_01
//! ```
//! Indices ascend inside a window. A last window narrower than n has spare slots: their index
//! is at or past the edge, so that their column is ≥ `cols` and nobody may load it.

use super::{bits, checked_len, pattern::Pattern};
use crate::error::{Error, Result};
use std::ops::Range;

/// The columns that an N:M weight of `[rows, cols]` keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    pattern: Pattern,
    rows: usize,
    cols: usize,
    indices: Vec<u32>,
}

impl Columns {
    /// Takes packed indices from elsewhere and checks each of them.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of words, [`Error::Index`] for
    /// indices that do not ascend, exceed `m`, waste slots of a window that has
    /// columns left, or set bits beyond the last slot.
    pub fn from_parts(
        pattern: Pattern,
        rows: usize,
        cols: usize,
        indices: Vec<u32>,
    ) -> Result<Self> {
        checked_len("weight", rows, cols)?;
        let words = bits::words_for(pattern.slots(cols), pattern.index_bits());
        let expected = checked_len("index words", pattern.sets(rows), words)?;
        Error::expect("index words", indices.len(), expected)?;
        let columns = Self {
            pattern,
            rows,
            cols,
            indices,
        };
        // Sets without words hold nothing to check, and a file may claim any number of them.
        let told = if words == 0 { 0 } else { pattern.sets(rows) };
        (0..told).try_for_each(|set| columns.check_set(set))?;
        Ok(columns)
    }

    fn check_set(&self, set: usize) -> Result<()> {
        let (n, m) = (self.pattern.n(), self.pattern.m());
        let slots = self.slots();
        let set_words = self.set_words(set);
        for window in 0..self.pattern.windows(self.cols) {
            let width = m.min(self.cols - window * m);
            let mut floor = 0;
            for k in 0..n {
                let index = self.index(set, window * n + k) as usize;
                let reason = if index >= m {
                    "it is not below m"
                } else if index < floor {
                    "indices of a window must ascend"
                } else if k < width && index >= width {
                    "the window has columns left"
                } else {
                    floor = index + 1;
                    continue;
                };
                return Err(Error::Index {
                    row: set * self.pattern.v(),
                    window,
                    index,
                    reason,
                });
            }
        }
        let used = slots * self.pattern.index_bits() as usize;
        let spare = set_words
            .last()
            .map_or(0, |&w| if used % 32 == 0 { 0 } else { w >> (used % 32) });
        if spare != 0 {
            return Err(Error::Index {
                row: set * self.pattern.v(),
                window: self.pattern.windows(self.cols),
                index: spare as usize,
                reason: "bits are set after the last slot",
            });
        }
        Ok(())
    }

    /// Keeps in each window the columns with the largest scores, ties to the
    /// lower column. `score` adds the score of every column of a window over
    /// the rows that share it: `(rows, columns, scores)`.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn select(
        pattern: Pattern,
        rows: usize,
        cols: usize,
        mut score: impl FnMut(Range<usize>, Range<usize>, &mut [f64]),
    ) -> Result<Self> {
        checked_len("weight", rows, cols)?;
        let (n, m, v) = (pattern.n(), pattern.m(), pattern.v());
        let width = pattern.index_bits();
        let words = bits::words_for(pattern.slots(cols), width);
        let mut indices = vec![0; checked_len("index words", pattern.sets(rows), words)?];
        let mut scores = [0.0; Pattern::MAX_M];
        let mut order = [0; Pattern::MAX_M];

        for set in 0..pattern.sets(rows) {
            let sharing = set * v..rows.min((set + 1) * v);
            let set_words = &mut indices[set * words..(set + 1) * words];
            for window in 0..pattern.windows(cols) {
                let columns = window * m..cols.min((window + 1) * m);
                let width_here = columns.len();
                let scores = &mut scores[..width_here];
                scores.fill(0.0);
                score(sharing.clone(), columns, scores);

                let order = &mut order[..width_here];
                order.iter_mut().enumerate().for_each(|(i, o)| *o = i);
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let chosen = &mut order[..n.min(width_here)];
                chosen.sort_unstable();
                for k in 0..n {
                    // Past the chosen ones k itself is ≥ the window's width: no column.
                    let index = chosen.get(k).copied().unwrap_or(k);
                    bits::set(set_words, width, window * n + k, index as u32);
                }
            }
        }
        Ok(Self {
            pattern,
            rows,
            cols,
            indices,
        })
    }

    /// Appends the rows of columns of the same pattern and number, after whole index sets.
    pub(super) fn append(&mut self, below: &Self) {
        self.indices.extend(&below.indices);
        self.rows += below.rows;
    }

    /// [`Error::Shape`] unless these are the columns of a weight of `[rows, cols]`.
    pub(crate) fn check_shape(&self, rows: usize, cols: usize) -> Result<()> {
        for (what, got, expected) in [
            ("rows of the kept columns", self.rows, rows),
            ("columns of the kept columns", self.cols, cols),
        ] {
            Error::expect(what, got, expected)?;
        }
        Ok(())
    }

    /// The pattern.
    pub const fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Value slots of a row.
    pub const fn slots(&self) -> usize {
        self.pattern.slots(self.cols)
    }

    /// The packed indices, `[sets][words]`.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    fn set_words(&self, set: usize) -> &[u32] {
        let words = bits::words_for(self.slots(), self.pattern.index_bits());
        &self.indices[set * words..(set + 1) * words]
    }

    /// Position inside its window of `slot` in index set `set`.
    pub(crate) fn index(&self, set: usize, slot: usize) -> u32 {
        bits::get(self.set_words(set), self.pattern.index_bits(), slot)
    }

    /// Column of `slot` in `row`; for a spare slot it is ≥ `cols`.
    pub fn column(&self, row: usize, slot: usize) -> usize {
        let window = slot / self.pattern.n();
        window * self.pattern.m() + self.index(row / self.pattern.v(), slot) as usize
    }
}
