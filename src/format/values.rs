//! Storage types of weights: f32, f16 and bf16, as typed vectors.

use crate::error::{Error, Result};
use half::{bf16, f16};
use std::{fmt, ops::Range};

/// How a weight value is stored. Arithmetic is in f32 unless a [`Precision`](super::Precision) says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Dtype {
    /// Every storage type.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bytes of one value.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Largest finite value.
    pub fn max(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
        }
    }

    /// The name used in formats and file metadata: `f32`, `f16`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|d| d.name() == text)
            .ok_or_else(|| Error::FormatSyntax {
                text: text.to_owned(),
                reason: "the value types are f32, f16 and bf16".into(),
            })
    }
}

/// A vector of weight values in one storage type.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// binary32 values.
    F32(Vec<f32>),
    /// binary16 values.
    F16(Vec<f16>),
    /// bfloat16 values.
    Bf16(Vec<bf16>),
}

impl Values {
    /// Rounds `values` to `dtype`, to nearest, ties to even.
    ///
    /// # Errors
    /// [`Error::Overflow`] where a finite value rounds to infinity. NaN and
    /// infinities pass; formats that cannot hold them refuse them themselves.
    pub fn round(dtype: Dtype, values: &[f32]) -> Result<Self> {
        let overflow = |rounded: &dyn Fn(f32) -> f32| {
            values
                .iter()
                .position(|&v| v.is_finite() && !rounded(v).is_finite())
        };
        let (rounded, overflow) = match dtype {
            Dtype::F32 => return Ok(Self::F32(values.to_vec())),
            Dtype::F16 => (
                Self::F16(values.iter().map(|&v| f16::from_f32(v)).collect()),
                overflow(&|v| f16::from_f32(v).to_f32()),
            ),
            Dtype::Bf16 => (
                Self::Bf16(values.iter().map(|&v| bf16::from_f32(v)).collect()),
                overflow(&|v| bf16::from_f32(v).to_f32()),
            ),
        };
        match overflow {
            None => Ok(rounded),
            Some(index) => Err(Error::Overflow {
                index,
                value: values[index],
                dtype,
                limit: dtype.max(),
            }),
        }
    }

    /// A copy of the values in `range`, which must lie within.
    pub(super) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(values[range].to_vec()),
            Self::F16(values) => Self::F16(values[range].to_vec()),
            Self::Bf16(values) => Self::Bf16(values[range].to_vec()),
        }
    }

    /// Reads little-endian values; `bytes` may be unaligned.
    ///
    /// # Errors
    /// [`Error::Shape`] where the length is no multiple of the value size.
    pub fn from_le_bytes(dtype: Dtype, bytes: &[u8]) -> Result<Self> {
        Error::expect(
            "bytes after the last whole value",
            bytes.len() % dtype.size(),
            0,
        )?;
        let pairs = || {
            bytes
                .chunks_exact(2)
                .map(|b| u16::from_le_bytes([b[0], b[1]]))
        };
        Ok(match dtype {
            Dtype::F32 => Self::F32(
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect(),
            ),
            Dtype::F16 => Self::F16(pairs().map(f16::from_bits).collect()),
            Dtype::Bf16 => Self::Bf16(pairs().map(bf16::from_bits).collect()),
        })
    }

    /// The values as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// The storage type.
    pub const fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value `index`, exactly, as f32.
    ///
    /// # Panics
    /// Where `index` is not below [`len`](Self::len), as a slice does.
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(v) => v[index],
            Self::F16(v) => v[index].to_f32(),
            Self::Bf16(v) => v[index].to_f32(),
        }
    }

    /// The bits of value `index` as they are stored.
    pub(crate) fn bits(&self, index: usize) -> u32 {
        match self {
            Self::F32(v) => v[index].to_bits(),
            Self::F16(v) => v[index].to_bits().into(),
            Self::Bf16(v) => v[index].to_bits().into(),
        }
    }

    /// All values, exactly, as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        (0..self.len()).map(|i| self.get(i)).collect()
    }

    /// Appends values of the same type.
    pub(super) fn append(&mut self, more: &Self) {
        match (self, more) {
            (Self::F32(to), Self::F32(more)) => to.extend(more),
            (Self::F16(to), Self::F16(more)) => to.extend(more),
            (Self::Bf16(to), Self::Bf16(more)) => to.extend(more),
            _ => unreachable!("weights of one format have values of one type"),
        }
    }

    /// No values yet, in the type of `like`, with room for `count`.
    pub(crate) fn with_capacity(like: &Self, count: usize) -> Self {
        match like {
            Self::F32(_) => Self::F32(Vec::with_capacity(count)),
            Self::F16(_) => Self::F16(Vec::with_capacity(count)),
            Self::Bf16(_) => Self::Bf16(Vec::with_capacity(count)),
        }
    }

    /// Appends the values of `from`, which has the same type, at `positions`; zero where a
    /// position is `None`.
    pub(crate) fn extend_from(&mut self, from: &Self, positions: &[Option<usize>]) {
        fn pick<T: Copy + Default>(to: &mut Vec<T>, from: &[T], positions: &[Option<usize>]) {
            to.extend(
                positions
                    .iter()
                    .map(|p| p.map_or_else(T::default, |i| from[i])),
            );
        }
        match (self, from) {
            (Self::F32(to), Self::F32(from)) => pick(to, from, positions),
            (Self::F16(to), Self::F16(from)) => pick(to, from, positions),
            (Self::Bf16(to), Self::Bf16(from)) => pick(to, from, positions),
            _ => unreachable!("both sides are made from one weight"),
        }
    }

    /// Writes the values of `range` into `words`, packed little-end first;
    /// what is left of the last word is zero.
    pub(crate) fn pack_into(&self, range: Range<usize>, words: &mut [u32]) {
        fn pairs(bits: impl ExactSizeIterator<Item = u16>, words: &mut [u32]) {
            for (i, b) in bits.enumerate() {
                words[i / 2] |= u32::from(b) << (16 * (i % 2));
            }
        }
        match self {
            Self::F32(v) => {
                for (word, value) in words.iter_mut().zip(&v[range]) {
                    *word = value.to_bits();
                }
            }
            Self::F16(v) => pairs(v[range].iter().map(|x| x.to_bits()), words),
            Self::Bf16(v) => pairs(v[range].iter().map(|x| x.to_bits()), words),
        }
    }
}
