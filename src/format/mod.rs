//! Weights on the host, one file a format. No wgpu here.

mod append;
pub mod bits;
mod columns;
mod dense;
mod gqs;
mod name;
mod nm;
mod pattern;
mod precision;
mod quant;
mod quantized;
mod thresholds;
mod values;

pub use columns::Columns;
pub use dense::Dense;
pub use gqs::{Gqs, GroupPruning};
pub use name::Format;
pub use nm::Nm;
pub use pattern::Pattern;
pub use precision::Precision;
pub use quant::{Codes, Quant, ZeroPoint, Zeros};
pub use quantized::Quantized;
pub use thresholds::Thresholds;
pub use values::{Dtype, Values};

pub(crate) use precision::{block_cols, lost, lost_f16};
pub(crate) use quantized::group_slots;

use crate::error::{Error, Result};

/// A weight `[rows, cols]` in any format of the engine.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Matrix {
    /// Every value stored.
    Dense(Dense),
    /// n kept of every m columns.
    Nm(Nm),
    /// Codes, for every column or for n of every m.
    Quantized(Quantized),
    /// Codes for some groups of columns.
    Gqs(Gqs),
}

impl From<Dense> for Matrix {
    fn from(dense: Dense) -> Self {
        Self::Dense(dense)
    }
}

impl From<Nm> for Matrix {
    fn from(nm: Nm) -> Self {
        Self::Nm(nm)
    }
}

impl From<Quantized> for Matrix {
    fn from(quantized: Quantized) -> Self {
        Self::Quantized(quantized)
    }
}

impl From<Gqs> for Matrix {
    fn from(gqs: Gqs) -> Self {
        Self::Gqs(gqs)
    }
}

/// A stored weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Its column.
    pub col: usize,
    /// Its value.
    pub value: f32,
    /// What a kernel really adds up for it: `|value|`, or for a code, whose zero may be
    /// subtracted only after the sum, `|scale| · (code + zero)`.
    pub magnitude: f32,
}

impl Matrix {
    /// Output features.
    pub const fn rows(&self) -> usize {
        match self {
            Self::Dense(w) => w.rows(),
            Self::Nm(w) => w.rows(),
            Self::Quantized(w) => w.rows(),
            Self::Gqs(w) => w.rows(),
        }
    }

    /// Input features, the dimension summed over.
    pub const fn cols(&self) -> usize {
        match self {
            Self::Dense(w) => w.cols(),
            Self::Nm(w) => w.cols(),
            Self::Quantized(w) => w.cols(),
            Self::Gqs(w) => w.cols(),
        }
    }

    /// The format, with its value type.
    pub fn format(&self) -> Format {
        match self {
            Self::Dense(w) => Format::Dense(w.values().dtype()),
            Self::Nm(w) => Format::Nm {
                pattern: w.pattern(),
                dtype: Some(w.values().dtype()),
            },
            Self::Quantized(w) => Format::Quantized {
                pattern: w.pattern(),
                quant: w.codes().quant(),
            },
            Self::Gqs(w) => Format::Gqs {
                quant: w.codes().quant(),
                pruning: w.pruning(),
            },
        }
    }

    /// Codes, scales and zeros of a quantised weight.
    pub const fn codes(&self) -> Option<&Codes> {
        match self {
            Self::Dense(_) | Self::Nm(_) => None,
            Self::Quantized(w) => Some(w.codes()),
            Self::Gqs(w) => Some(w.codes()),
        }
    }

    /// Bytes of every stored section: values or codes, and metadata.
    pub fn stored_bytes(&self) -> usize {
        // Rows of packed fields begin on a byte of their own.
        let coded = |quant: Quant, rows: usize, codes: usize, groups: usize| {
            rows * (bits::bytes_for(codes, quant.bits())
                + 2 * groups
                + Codes::zero_bytes(quant, groups))
        };
        match self {
            Self::Dense(w) => w.values().len() * w.values().dtype().size(),
            Self::Nm(w) => {
                w.values().len() * w.values().dtype().size() + w.columns().indices().len() * 4
            }
            Self::Quantized(w) => {
                coded(w.codes().quant(), w.rows(), w.slots(), w.groups())
                    + w.columns().map_or(0, |c| c.indices().len() * 4)
            }
            Self::Gqs(w) => {
                let kept = w.group_indices().len();
                coded(w.codes().quant(), 1, kept * w.group(), kept)
                    + kept * Gqs::index_bytes(w.row_groups())
                    + w.row_offsets().len() * 4
            }
        }
    }

    /// The stored weights of `row`, columns ascending. A dense weight yields every column;
    /// spare slots and what a last group has beyond `cols` yield nothing.
    pub fn entries(&self, row: usize) -> impl Iterator<Item = Entry> + '_ {
        let slots = match self {
            Self::Dense(w) => w.cols(),
            Self::Nm(w) => w.slots(),
            Self::Quantized(w) => w.slots(),
            Self::Gqs(w) => w.kept(row).len() * w.group(),
        };
        let plain = |col, value: f32| Entry {
            col,
            value,
            magnitude: value.abs(),
        };
        let coded = |col, codes: &Codes, index, group| Entry {
            col,
            value: codes.value(index, group),
            magnitude: codes.magnitude(index, group),
        };
        let cols = self.cols();
        (0..slots)
            .map(move |slot| match self {
                Self::Dense(w) => plain(slot, w.get(row, slot)),
                Self::Nm(w) => plain(
                    w.columns().column(row, slot),
                    w.values().get(row * slots + slot),
                ),
                Self::Quantized(w) => coded(
                    w.column(row, slot),
                    w.codes(),
                    row * slots + slot,
                    w.group(row, slot),
                ),
                Self::Gqs(w) => {
                    let kept = w.kept(row).start + slot / w.group();
                    let first = w.group_indices()[kept] as usize * w.group();
                    let within = slot % w.group();
                    coded(first + within, w.codes(), kept * w.group() + within, kept)
                }
            })
            .filter(move |entry| entry.col < cols)
    }

    /// The weight as dense f32, zeros where nothing is stored.
    ///
    /// # Panics
    /// Never: `rows · cols` was checked when the weight was made.
    pub fn to_dense(&self) -> Dense {
        let (rows, cols) = (self.rows(), self.cols());
        let mut values = vec![0.0; rows * cols];
        for row in 0..rows {
            for entry in self.entries(row) {
                values[row * cols + entry.col] = entry.value;
            }
        }
        Dense::from_f32(rows, cols, values).expect("rows · cols values were just made")
    }
}

/// `rows · cols`, refused where elements of four bytes could not be addressed, or where a
/// side does not fit the 32 bits that shaders count with.
pub(crate) fn checked_len(what: &'static str, rows: usize, cols: usize) -> Result<usize> {
    let sides = u32::try_from(rows).is_ok() && u32::try_from(cols).is_ok();
    rows.checked_mul(cols)
        .filter(|&n| sides && n <= isize::MAX as usize / 4)
        .ok_or(Error::TooLarge { what, rows, cols })
}
