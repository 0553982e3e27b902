//! Weights on the host, one file a format. No wgpu here.

pub mod bits;
mod dense;
mod nm;
mod pattern;
mod values;

pub use dense::Dense;
pub use nm::Nm;
pub use pattern::Pattern;
pub use values::{Dtype, Values};

use crate::error::{Error, Result};
use std::{fmt, str::FromStr};

/// A weight `[rows, cols]` in any format of the engine.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Matrix {
    /// Every value stored.
    Dense(Dense),
    /// n kept of every m columns.
    Nm(Nm),
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

impl Matrix {
    /// Output features.
    pub const fn rows(&self) -> usize {
        match self {
            Self::Dense(w) => w.rows(),
            Self::Nm(w) => w.rows(),
        }
    }

    /// Input features, the dimension summed over.
    pub const fn cols(&self) -> usize {
        match self {
            Self::Dense(w) => w.cols(),
            Self::Nm(w) => w.cols(),
        }
    }

    /// The format, with its value type.
    pub const fn format(&self) -> Format {
        match self {
            Self::Dense(w) => Format::Dense(w.values().dtype()),
            Self::Nm(w) => Format::Nm {
                pattern: w.pattern(),
                dtype: Some(w.values().dtype()),
            },
        }
    }

    /// Bytes of every stored section: values and metadata.
    pub fn stored_bytes(&self) -> usize {
        match self {
            Self::Dense(w) => w.values().len() * w.values().dtype().size(),
            Self::Nm(w) => w.values().len() * w.values().dtype().size() + w.indices().len() * 4,
        }
    }

    /// The stored (column, value) pairs of `row`, columns ascending. A dense
    /// weight yields every column; spare slots of N:M yield nothing.
    pub fn entries(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let slots = match self {
            Self::Dense(w) => w.cols(),
            Self::Nm(w) => w.slots(),
        };
        let cols = self.cols();
        (0..slots)
            .map(move |slot| match self {
                Self::Dense(w) => (slot, w.get(row, slot)),
                Self::Nm(w) => (w.column(row, slot), w.values().get(row * slots + slot)),
            })
            .filter(move |&(col, _)| col < cols)
    }

    /// The weight as dense f32, zeros where nothing is stored.
    ///
    /// # Panics
    /// Never: `rows · cols` was checked when the weight was made.
    pub fn to_dense(&self) -> Dense {
        let (rows, cols) = (self.rows(), self.cols());
        let mut values = vec![0.0; rows * cols];
        for row in 0..rows {
            for (col, value) in self.entries(row) {
                values[row * cols + col] = value;
            }
        }
        Dense::from_f32(rows, cols, values).expect("rows · cols values were just made")
    }
}

/// The name of a weight format, read and written by one grammar everywhere:
/// `f32`, `f16`, `bf16`, `N:M[xV][@f32|@f16|@bf16]`.
///
/// ```
/// use lacuna::format::Format;
/// let format: Format = "2:4x8@f16".parse()?;
/// assert_eq!(format.to_string(), "2:4x8@f16");
/// # Ok::<(), lacuna::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Dense in this storage type.
    Dense(Dtype),
    /// N:M; `dtype` is the type of the values, `None` the input's own.
    Nm {
        /// The pattern.
        pattern: Pattern,
        /// Storage type of the kept values.
        dtype: Option<Dtype>,
    },
}

impl Format {
    /// The storage type of the values, where the format names one.
    pub const fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Dense(dtype) => Some(dtype),
            Self::Nm { dtype, .. } => dtype,
        }
    }

    /// The format with `dtype` filled in where it names none.
    #[must_use]
    pub const fn or_dtype(self, default: Dtype) -> Self {
        match self {
            Self::Nm {
                pattern,
                dtype: None,
            } => Self::Nm {
                pattern,
                dtype: Some(default),
            },
            named => named,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(dtype) => dtype.fmt(f),
            Self::Nm {
                pattern,
                dtype: None,
            } => pattern.fmt(f),
            Self::Nm {
                pattern,
                dtype: Some(dtype),
            } => write!(f, "{pattern}@{dtype}"),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((pattern, dtype)) = text.split_once('@') {
            return Ok(Self::Nm {
                pattern: pattern.parse()?,
                dtype: Some(dtype.parse()?),
            });
        }
        if text.contains(':') {
            return Ok(Self::Nm {
                pattern: text.parse()?,
                dtype: None,
            });
        }
        text.parse()
            .map(Self::Dense)
            .map_err(|_| Error::FormatSyntax {
                text: text.to_owned(),
                reason: "formats are f32, f16, bf16 and N:M[xV][@f32|@f16|@bf16]".into(),
            })
    }
}

/// `rows · cols`, refused where elements of four bytes could not be addressed, or where a
/// side does not fit the 32 bits that shaders count with.
fn checked_len(what: &'static str, rows: usize, cols: usize) -> Result<usize> {
    let sides = u32::try_from(rows).is_ok() && u32::try_from(cols).is_ok();
    rows.checked_mul(cols)
        .filter(|&n| sides && n <= isize::MAX as usize / 4)
        .ok_or(Error::TooLarge { what, rows, cols })
}
