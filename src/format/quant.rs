//! Group quantisation: values as small integers that share a scale and a zero.
//!
//! ```text
//! value = factor · scale · (code − zero)
//!
//! code   0 … 2^bits − 1       one for each stored value
//! zero   0 … 2^bits − 1       one for each group; 2^(bits − 1) for all where symmetric,
//!                             0 or an f16 of at least 2⁻¹⁴ where real
//! scale  f16, |scale| ≥ 2⁻¹⁴  one for each group; shaders may flush smaller halves to zero
//! factor f32, a power of two  one for the whole weight, 1 unless scales need it
//!
//! w4g4, one row of 6 columns: 0.5 1.0 −0.25 0.75 | 2.0 0.0
//!   scales 0.0833 0.1333   zeros 3 0   codes 9 15 0 12 | 15 0
//! ```
//! A group is `group` consecutive *columns* of one row, or the whole row; the last group of
//! a row may be short. A pruned weight has a code only for what it keeps of them.

use super::bits;
use crate::error::{Error, Result};
use half::f16;
use std::{fmt, ops::Range};

/// How values are quantised: bits of a code, columns of a group, what the value 0 is among codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quant {
    bits: u32,
    group: Option<usize>,
    zero_point: ZeroPoint,
}

/// Where the value 0 lies among the codes of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZeroPoint {
    /// In the middle, `2^(bits − 1)`, and none is stored.
    Middle,
    /// At a code, which is stored for each group: 0 is always among the values.
    Code,
    /// Anywhere, as an f16 that is stored for each group. So it is in the blocks of GGUF that have a minimum, and
    /// in HQQ (<https://mobiusml.github.io/hqq_blog/>).
    Real,
}

impl Quant {
    /// Fewest bits of a code.
    pub const MIN_BITS: u32 = 2;
    /// Most bits of a code.
    pub const MAX_BITS: u32 = 8;
    /// Largest group that is not the whole row.
    pub const MAX_GROUP: usize = 128;
    /// Groups are multiples of this many columns, so that their codes fill whole bytes.
    pub const GROUP_STEP: usize = 8;

    /// Codes of `bits` bits, `group` columns sharing a scale; `None` is the whole row.
    ///
    /// # Errors
    /// [`Error::Quant`] unless `2 ≤ bits ≤ 8` and `group` is a multiple of 8 from 8 to 128.
    pub const fn new(bits: u32, group: Option<usize>, zero_point: ZeroPoint) -> Result<Self> {
        let columns = match group {
            Some(g) => g,
            None => Self::GROUP_STEP,
        };
        if bits < Self::MIN_BITS
            || bits > Self::MAX_BITS
            || columns == 0
            || columns > Self::MAX_GROUP
            || columns % Self::GROUP_STEP != 0
        {
            return Err(Error::Quant {
                bits,
                group: columns,
            });
        }
        Ok(Self {
            bits,
            group,
            zero_point,
        })
    }

    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// Columns of a group, `None` where it is the whole row.
    pub const fn group(self) -> Option<usize> {
        self.group
    }

    /// What the value 0 is among codes.
    pub const fn zero_point(self) -> ZeroPoint {
        self.zero_point
    }

    /// Whether every zero is `2^(bits − 1)` and none is stored.
    pub const fn symmetric(self) -> bool {
        matches!(self.zero_point, ZeroPoint::Middle)
    }

    /// Whether zeros are any numbers, not codes.
    pub const fn real_zeros(self) -> bool {
        matches!(self.zero_point, ZeroPoint::Real)
    }

    /// The largest code: `2^bits − 1`.
    pub const fn max_code(self) -> u8 {
        ((1u32 << self.bits) - 1) as u8
    }

    /// The zero of every group of a symmetric weight.
    pub const fn middle(self) -> u8 {
        1 << (self.bits - 1)
    }

    /// Columns of a group in a row of `cols`; at least 1.
    pub const fn group_cols(self, cols: usize) -> usize {
        match self.group {
            Some(group) => group,
            None if cols == 0 => 1,
            None => cols,
        }
    }

    /// Groups of a row of `cols` columns.
    pub const fn groups(self, cols: usize) -> usize {
        cols.div_ceil(self.group_cols(cols))
    }
}

impl fmt::Display for Quant {
    /// `w4g128`, `w4row`; `-sym` and `-real` are written by [`Format`](super::Format), which may put
    /// more between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            Some(group) => write!(f, "w{}g{group}", self.bits),
            None => write!(f, "w{}row", self.bits),
        }
    }
}

/// The zeros of the groups of a weight, as [`ZeroPoint`] says.
#[derive(Debug, Clone, PartialEq)]
pub enum Zeros {
    /// Codes; none where they are in the middle.
    Codes(Vec<u8>),
    /// Any numbers.
    Real(Vec<f16>),
}

impl Zeros {
    /// None yet, of the kind that `quant` needs.
    pub const fn none(quant: Quant) -> Self {
        if quant.real_zeros() {
            Self::Real(vec![])
        } else {
            Self::Codes(vec![])
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        match self {
            Self::Codes(zeros) => zeros.len(),
            Self::Real(zeros) => zeros.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<u8>> for Zeros {
    fn from(zeros: Vec<u8>) -> Self {
        Self::Codes(zeros)
    }
}

impl From<Vec<f16>> for Zeros {
    fn from(zeros: Vec<f16>) -> Self {
        Self::Real(zeros)
    }
}

/// Codes with the scales and zeros of their groups; the owner knows which code is in which group.
#[derive(Debug, Clone, PartialEq)]
// "codes" is the word of the papers and of the files.
#[allow(clippy::struct_field_names)]
pub struct Codes {
    quant: Quant,
    codes: Vec<u8>,
    scales: Vec<f16>,
    zeros: Zeros,
    factor: f32,
}

impl Codes {
    /// Smallest magnitude of a scale: the smallest normal half.
    pub const MIN_SCALE: f32 = 1.0 / 16384.0;

    /// Takes codes made elsewhere and checks each of them. There are no `zeros` where `quant` is
    /// symmetric, else as many as `scales`.
    ///
    /// # Errors
    /// [`Error::ZeroPoint`] for zeros of another kind, [`Error::Shape`] for another number; [`Error::Code`] for a code
    /// or zero beyond the bits, a scale or a real zero that is not finite or below [`MIN_SCALE`](Self::MIN_SCALE) (a
    /// real zero of 0 is allowed), a factor that is no power of two from 2⁻⁸⁰ to 2⁸⁰.
    pub fn new(
        quant: Quant,
        codes: Vec<u8>,
        scales: Vec<f16>,
        zeros: Zeros,
        factor: f32,
    ) -> Result<Self> {
        let (got, needed) = match &zeros {
            Zeros::Codes(_) => (ZeroPoint::Code, "this format has real numbers"),
            Zeros::Real(_) => (ZeroPoint::Real, "this format has codes or none"),
        };
        if quant.real_zeros() != matches!(got, ZeroPoint::Real) {
            return Err(Error::ZeroPoint { got, needed });
        }
        let expected = if quant.symmetric() { 0 } else { scales.len() };
        Error::expect("zeros", zeros.len(), expected)?;
        let refuse = |what, index, value, reason| {
            Err(Error::Code {
                what,
                index,
                value,
                reason,
            })
        };
        let beyond = |fields: &[u8]| fields.iter().position(|&c| c > quant.max_code());
        if let Some(index) = beyond(&codes) {
            return refuse("code", index, codes[index].into(), "it needs more bits");
        }
        match &zeros {
            Zeros::Codes(zeros) => {
                if let Some(index) = beyond(zeros) {
                    return refuse("zero", index, zeros[index].into(), "it needs more bits");
                }
            }
            Zeros::Real(zeros) => {
                let bad = |&zero: &f16| !zero.is_finite() || Self::real_zero(zero.to_f32()) != zero;
                if let Some(index) = zeros.iter().position(bad) {
                    let reason = "it must be finite, and 0 or of a magnitude of at least 2^-14";
                    return refuse("zero", index, zeros[index].to_f32(), reason);
                }
            }
        }
        let bad = |s: &f16| !s.is_finite() || s.to_f32().abs() < Self::MIN_SCALE;
        if let Some(index) = scales.iter().position(bad) {
            let reason = "its magnitude must be finite and at least 2^-14";
            return refuse("scale", index, scales[index].to_f32(), reason);
        }
        // A power of two leaves every product exact, and this range keeps the extremes normal. Bits are compared
        // because a logarithm would round numbers beside a power of two to it.
        let exponent = factor.to_bits() >> 23;
        let power = factor.to_bits().trailing_zeros() >= 23;
        if !power || !(127 - 80..=127 + 80).contains(&exponent) {
            let reason = "it must be a power of two from 2^-80 to 2^80";
            return refuse("factor", 0, factor, reason);
        }
        Ok(Self {
            quant,
            codes,
            scales,
            zeros,
            factor,
        })
    }

    /// The half nearest to `zero` that may be a real zero: infinite beyond the largest half, and 0 below the
    /// smallest normal one, because shaders may flush smaller ones to 0.
    pub fn real_zero(zero: f32) -> f16 {
        let half = f16::from_f32(zero);
        if half.to_f32().abs() < Self::MIN_SCALE {
            f16::ZERO
        } else {
            half
        }
    }

    /// How the values are quantised.
    pub const fn quant(&self) -> Quant {
        self.quant
    }

    /// Every code, one byte each.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The scale of each group, without the factor.
    pub fn scales(&self) -> &[f16] {
        &self.scales
    }

    /// The zero of each group; none where the weight is symmetric.
    pub const fn zeros(&self) -> &Zeros {
        &self.zeros
    }

    /// What every scale is multiplied by.
    pub const fn factor(&self) -> f32 {
        self.factor
    }

    /// Some codes and the groups that they are of.
    pub(super) fn cut(&self, codes: Range<usize>, groups: Range<usize>) -> Self {
        Self {
            quant: self.quant,
            codes: self.codes[codes].to_vec(),
            scales: self.scales[groups.clone()].to_vec(),
            zeros: match &self.zeros {
                Zeros::Codes(zeros) if zeros.is_empty() => Zeros::none(self.quant),
                Zeros::Codes(zeros) => zeros[groups].to_vec().into(),
                Zeros::Real(zeros) => zeros[groups].to_vec().into(),
            },
            factor: self.factor,
        }
    }

    /// Appends codes of the same kind and factor.
    pub(super) fn append(&mut self, more: &Self) {
        self.codes.extend(&more.codes);
        self.scales.extend(&more.scales);
        match (&mut self.zeros, &more.zeros) {
            (Zeros::Codes(to), Zeros::Codes(more)) => to.extend(more),
            (Zeros::Real(to), Zeros::Real(more)) => to.extend(more),
            _ => unreachable!("weights of one format have zeros of one kind"),
        }
    }

    /// The zero of `group`.
    pub fn zero(&self, group: usize) -> f32 {
        match &self.zeros {
            Zeros::Codes(zeros) => zeros.get(group).map_or(self.quant.middle(), |&z| z).into(),
            Zeros::Real(zeros) => zeros[group].to_f32(),
        }
    }

    /// The zero of `group` as devices have it: a whole number, or the bits of a half.
    pub(crate) fn zero_field(&self, group: usize) -> u16 {
        match &self.zeros {
            Zeros::Codes(zeros) => zeros.get(group).map_or(self.quant.middle(), |&z| z).into(),
            Zeros::Real(zeros) => zeros[group].to_bits(),
        }
    }

    /// Value of code `index`, which belongs to `group`. Exact but for real zeros, whose distance
    /// to a code is rounded to f32.
    pub fn value(&self, index: usize, group: usize) -> f32 {
        let steps = f32::from(self.codes[index]) - self.zero(group);
        self.factor * (self.scales[group].to_f32() * steps)
    }

    /// `factor · |scale| · (code + |zero|)`: what a kernel that sums codes and subtracts
    /// zeros afterwards really adds up.
    pub(crate) fn magnitude(&self, index: usize, group: usize) -> f32 {
        let steps = f32::from(self.codes[index]) + self.zero(group).abs();
        self.factor * (self.scales[group].to_f32().abs() * steps)
    }

    /// Bytes of `groups` packed zeros.
    pub(crate) const fn zero_bytes(quant: Quant, groups: usize) -> usize {
        match quant.zero_point {
            ZeroPoint::Middle => 0,
            ZeroPoint::Code => bits::bytes_for(groups, quant.bits),
            ZeroPoint::Real => 2 * groups,
        }
    }
}
