//! The N:M pattern.

use super::bits;
use crate::error::{Error, Result};
use std::fmt;

/// **n kept of m consecutive columns**, one index set shared by v consecutive rows.
///
/// `n` counts what is *kept*; several pruning tools count what is removed,
/// which 2:4 hides and 1:4 shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pattern {
    n: usize,
    m: usize,
    v: usize,
}

impl Pattern {
    /// Largest window width.
    pub const MAX_M: usize = 32;
    /// Largest vector width.
    pub const MAX_V: usize = 1024;

    /// `n` kept of every `m` columns, chosen for each row by itself.
    ///
    /// # Errors
    /// [`Error::Pattern`] unless `1 ≤ n ≤ m ≤ 32`.
    pub const fn new(n: usize, m: usize) -> Result<Self> {
        Self::vector(n, m, 1)
    }

    /// The same choice shared by `v` consecutive rows (V:N:M).
    ///
    /// # Errors
    /// [`Error::Pattern`] unless `1 ≤ n ≤ m ≤ 32` and `1 ≤ v ≤ 1024`.
    pub const fn vector(n: usize, m: usize, v: usize) -> Result<Self> {
        if n == 0 || n > m || m > Self::MAX_M || v == 0 || v > Self::MAX_V {
            return Err(Error::Pattern { n, m, v });
        }
        Ok(Self { n, m, v })
    }

    /// Columns kept in each window.
    pub const fn n(self) -> usize {
        self.n
    }

    /// Columns in a window.
    pub const fn m(self) -> usize {
        self.m
    }

    /// Rows that share one index set.
    pub const fn v(self) -> usize {
        self.v
    }

    /// Windows in a row of `cols` columns; the last may be narrower than `m`.
    pub const fn windows(self, cols: usize) -> usize {
        cols.div_ceil(self.m)
    }

    /// Value slots of a row: `n` for every window, the last one included.
    pub const fn slots(self, cols: usize) -> usize {
        self.windows(cols) * self.n
    }

    /// Index sets of a matrix; the last may serve fewer than `v` rows.
    pub const fn sets(self, rows: usize) -> usize {
        rows.div_ceil(self.v)
    }

    /// Bits of a stored index: `ceil(log2 m)`.
    pub const fn index_bits(self) -> u32 {
        bits::width_of(self.m)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.n, self.m)?;
        if self.v > 1 {
            write!(f, "x{}", self.v)
        } else {
            Ok(())
        }
    }
}

impl std::str::FromStr for Pattern {
    type Err = Error;

    /// Reads `N:M` or `N:MxV`.
    fn from_str(text: &str) -> Result<Self> {
        let syntax = || Error::FormatSyntax {
            text: text.to_owned(),
            reason: "an N:M pattern is written N:M or N:MxV, for example 2:4 or 2:4x8".into(),
        };
        let number = |s: &str| {
            let plain = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            if plain {
                s.parse::<usize>().map_err(|_| syntax())
            } else {
                Err(syntax())
            }
        };
        let (n, rest) = text.split_once(':').ok_or_else(syntax)?;
        let (m, v) = rest.split_once('x').unwrap_or((rest, "1"));
        Self::vector(number(n)?, number(m)?, number(v)?)
    }
}
