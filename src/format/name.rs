//! The grammar that names weight formats everywhere.

use super::{Dtype, GroupPruning, Pattern, Quant, ZeroPoint};
use crate::error::{Error, Result};
use std::{fmt, str::FromStr};

/// The name of a weight format:
///
/// ```text
/// f32, f16, bf16             dense
/// N:M[xV][@f32|@f16|@bf16]   n kept of every m columns, chosen once for V rows
/// wBgG, wBrow                B bits, a scale for every G columns or for the row
/// N:M[xV]+wBgG               both; G counts columns, kept or not
/// wBgGsPP                    PP % of the groups dropped
/// …-sym                      no zeros: codes are centred
/// …-real                     zeros are any numbers, not codes; not where groups are dropped
/// …-ragged                   rows may keep different numbers of groups
/// ```
///
/// ```
/// use lacuna::format::Format;
/// for name in ["2:4x8@f16", "w4g128", "2:4+w4g64-sym", "w4g32-real", "w4g16s50-ragged"] {
///     let format: Format = name.parse()?;
///     assert_eq!(format.to_string(), name);
/// }
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
    /// Codes, for every column or for those of a pattern.
    Quantized {
        /// The pattern, `None` where every column is kept.
        pattern: Option<Pattern>,
        /// How values become codes.
        quant: Quant,
    },
    /// Codes for some groups of columns.
    Gqs {
        /// How values become codes.
        quant: Quant,
        /// How many groups are dropped.
        pruning: GroupPruning,
    },
}

impl Format {
    /// The storage type of the values, where the format names one.
    pub const fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Dense(dtype) => Some(dtype),
            Self::Nm { dtype, .. } => dtype,
            Self::Quantized { .. } | Self::Gqs { .. } => None,
        }
    }

    /// The type that a dense weight in its place has: that of its values; f16 for codes, since nobody who could
    /// keep codes keeps f32; and f32 where no type is named.
    pub const fn dense_dtype(self) -> Dtype {
        match (self.dtype(), self.quant()) {
            (Some(dtype), _) => dtype,
            (None, Some(_)) => Dtype::F16,
            (None, None) => Dtype::F32,
        }
    }

    /// How values become codes, where they do.
    pub const fn quant(self) -> Option<Quant> {
        match self {
            Self::Quantized { quant, .. } | Self::Gqs { quant, .. } => Some(quant),
            Self::Dense(_) | Self::Nm { .. } => None,
        }
    }

    /// Whether some values are not stored at all.
    pub const fn stores_less(self) -> bool {
        self.pattern().is_some() || matches!(self, Self::Gqs { .. })
    }

    /// The N:M pattern, where there is one.
    pub const fn pattern(self) -> Option<Pattern> {
        match self {
            Self::Nm { pattern, .. } => Some(pattern),
            Self::Quantized { pattern, .. } => pattern,
            Self::Dense(_) | Self::Gqs { .. } => None,
        }
    }

    /// The format with `dtype` filled in where it could name a type and names none.
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
            Self::Dense(dtype) => dtype.fmt(f)?,
            Self::Nm { pattern, dtype } => {
                pattern.fmt(f)?;
                if let Some(dtype) = dtype {
                    write!(f, "@{dtype}")?;
                }
            }
            Self::Quantized { pattern, quant } => {
                if let Some(pattern) = pattern {
                    write!(f, "{pattern}+")?;
                }
                quant.fmt(f)?;
            }
            Self::Gqs { quant, pruning } => write!(f, "{quant}s{}", pruning.percent())?,
        }
        f.write_str(match self.quant().map(Quant::zero_point) {
            Some(ZeroPoint::Middle) => "-sym",
            Some(ZeroPoint::Real) => "-real",
            Some(ZeroPoint::Code) | None => "",
        })?;
        match self {
            Self::Gqs { pruning, .. } if pruning.ragged() => f.write_str("-ragged"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let syntax = || {
            Error::FormatSyntax {
            text: text.to_owned(),
            reason: "formats are f32, f16, bf16; N:M[xV][@TYPE] (2:4x8@f16); codes of B bits in groups of \
                     G columns wBgG (w4g128), wBrow and N:M+wBgG, also with -sym or -real; groups of \
                     which PP % are dropped wBgGsPP (w4g16s50), also with -sym or -ragged"
                .into(),
        }
        };
        if let Some((pattern, dtype)) = text.split_once('@') {
            return Ok(Self::Nm {
                pattern: pattern.parse()?,
                dtype: Some(dtype.parse()?),
            });
        }
        let (pattern, rest) = match text.split_once('+') {
            Some((pattern, rest)) => (Some(pattern.parse()?), rest),
            None if text.contains(':') => {
                return Ok(Self::Nm {
                    pattern: text.parse()?,
                    dtype: None,
                });
            }
            None => (None, text),
        };
        let Some(coded) = rest.strip_prefix('w') else {
            return text.parse().map(Self::Dense).map_err(|_| syntax());
        };

        let (mut symmetric, mut real, mut ragged) = (false, false, false);
        let mut words = coded.split('-');
        let coded = words.next().unwrap_or_default();
        for word in words {
            let flag = match word {
                "sym" => &mut symmetric,
                "real" => &mut real,
                "ragged" => &mut ragged,
                _ => return Err(syntax()),
            };
            if std::mem::replace(flag, true) {
                return Err(syntax());
            }
        }
        let (coded, percent) = match coded.split_once('s') {
            Some((coded, percent)) => (coded, Some(percent)),
            None => (coded, None),
        };
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits
                .parse::<u32>()
                .ok()
                .filter(|_| plain)
                .ok_or_else(syntax)
        };
        let (bits, group) = match coded.split_once('g') {
            Some((bits, group)) => (bits, Some(number(group)? as usize)),
            None => (coded.strip_suffix("row").ok_or_else(syntax)?, None),
        };
        let zero_point = match (symmetric, real) {
            (false, false) => ZeroPoint::Code,
            (true, false) => ZeroPoint::Middle,
            (false, true) => ZeroPoint::Real,
            (true, true) => return Err(syntax()),
        };
        let quant = Quant::new(number(bits)?, group, zero_point)?;
        match (pattern, percent) {
            (None, Some(percent)) if group.is_some() && !real => Ok(Self::Gqs {
                quant,
                pruning: GroupPruning::new(number(percent)?, ragged)?,
            }),
            (pattern, None) if !ragged => {
                if let Some(pattern) = pattern {
                    super::quantized::check_windows(pattern, quant)?;
                }
                Ok(Self::Quantized { pattern, quant })
            }
            _ => Err(syntax()),
        }
    }
}
