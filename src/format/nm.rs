//! N:M weights: n kept of every m columns, with one index set for v rows.
//!
//! ```text
//! values [rows][slots]         slots = ceil(cols / m) · n, row-major
//! indices[ceil(rows / v)][…]   ceil(log2 m) bits a slot, packed little-end first,
//!                              every index set starts on a word of its own
//!
//! slot s belongs to window s / n and holds column (s / n) · m + index(s)
//!
//! 2:4, v = 1, one row of 6 columns:   0  5  0  7 | 9  0
//!   slots                  :   5   7   9   0
//!   indices (2 bits each)  :   1   3   0   1      word 0 = 0b01_00_11_01
//! ```
//! Indices ascend inside a window. A window with fewer non-zeros keeps its
//! lowest free columns as explicit zeros (slot 3 above: column 5). A last
//! window narrower than n has spare slots: value 0, index at or past the edge,
//! so that their column is ≥ `cols` and nobody may load it.

use super::{Dense, Values, bits, checked_len, pattern::Pattern};
use crate::error::{Error, Result};

/// An N:M sparse weight of `[rows, cols]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Nm {
    pattern: Pattern,
    rows: usize,
    cols: usize,
    values: Values,
    indices: Vec<u32>,
}

impl Nm {
    /// Takes a packed weight apart from elsewhere and checks every index.
    ///
    /// # Errors
    /// [`Error::Shape`] for a section of the wrong length, [`Error::Index`] for
    /// indices that do not ascend, exceed `m`, waste slots of a window that has
    /// columns left, or set bits beyond the last slot; [`Error::NotFinite`].
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
        if values.len() != expected {
            return Err(Error::Shape {
                what: "values",
                got: values.len(),
                expected,
            });
        }
        let words = bits::words_for(slots, pattern.index_bits());
        let expected = checked_len("index words", pattern.sets(rows), words)?;
        if indices.len() != expected {
            return Err(Error::Shape {
                what: "index words",
                got: indices.len(),
                expected,
            });
        }
        let weight = Self {
            pattern,
            rows,
            cols,
            values,
            indices,
        };
        for set in 0..pattern.sets(rows) {
            weight.check_set(set)?;
        }
        for i in 0..weight.values.len() {
            let value = weight.values.get(i);
            if !value.is_finite() {
                let (row, slot) = (i / slots, i % slots);
                return Err(Error::NotFinite {
                    row,
                    col: weight.column(row, slot),
                    value,
                });
            }
        }
        Ok(weight)
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

    /// Keeps in each window the columns with the largest scores, ties to the
    /// lower column. `score` adds the score of every column of a window over
    /// the rows that share it: `(rows, columns, scores)`.
    pub(crate) fn select(
        dense: &Dense,
        pattern: Pattern,
        mut score: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>, &mut [f64]),
    ) -> Result<Self> {
        dense.check_finite()?;
        let (rows, cols) = (dense.rows(), dense.cols());
        let (n, m, v) = (pattern.n(), pattern.m(), pattern.v());
        let (slots, width) = (pattern.slots(cols), pattern.index_bits());
        let words = bits::words_for(slots, width);
        let mut values = Values::with_capacity(dense.values(), checked_len("values", rows, slots)?);
        // Which element of `dense` each slot of the set's rows holds; a spare slot holds none.
        let mut kept = vec![None; v.min(rows) * slots];
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
                score(sharing.clone(), columns.clone(), scores);

                let order = &mut order[..width_here];
                order.iter_mut().enumerate().for_each(|(i, o)| *o = i);
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let chosen = &mut order[..n.min(width_here)];
                chosen.sort_unstable();
                for k in 0..n {
                    // Past the chosen ones k itself is ≥ the window's width: no column.
                    let index = chosen.get(k).copied().unwrap_or(k);
                    bits::set(set_words, width, window * n + k, index as u32);
                    if index < width_here {
                        for (i, row) in sharing.clone().enumerate() {
                            kept[i * slots + window * n + k] =
                                Some(row * cols + columns.start + index);
                        }
                    }
                }
            }
            values.extend_from(dense.values(), &kept[..sharing.len() * slots]);
        }
        Ok(Self {
            pattern,
            rows,
            cols,
            values,
            indices,
        })
    }

    /// The pattern.
    pub const fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features, the dimension summed over.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Value slots of a row.
    pub const fn slots(&self) -> usize {
        self.pattern.slots(self.cols)
    }

    /// The kept values, `[rows][slots]`.
    pub const fn values(&self) -> &Values {
        &self.values
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

    /// Column of `slot` in `row`; a spare slot answers with one that is ≥ `cols`.
    pub fn column(&self, row: usize, slot: usize) -> usize {
        let window = slot / self.pattern.n();
        window * self.pattern.m() + self.index(row / self.pattern.v(), slot) as usize
    }
}
