//! Packets: the stored values that one lane takes at a time, and their index fields.
//!
//! What `gemv` and `gemm_lanes` share on the host's side of `lib/load_*`, `lib/packet_*`
//! and `lib/columns_*`.

use super::{Const, Problem, even, fragment, layout, problem::unfit};
use crate::{error::Result, format::group_slots};
use std::borrow::Cow;

/// How a tile of rows takes its packets.
pub(super) struct Packets {
    /// Values of a packet.
    pub span: usize,
    /// Rows of the tile that use the same columns.
    pub share: usize,
    /// Whether packets do not fill the last round.
    pub guard: bool,
    /// Whether the last packet reaches past the last column.
    pub edge: bool,
}

impl Packets {
    /// Packets of `words` words for tiles of `rows` rows, `lanes` packets of a row at a time.
    ///
    /// # Errors
    /// Where tiles and index sets overlap in part only, or packets do not fill index words.
    pub fn new(problem: &Problem, rows: usize, words: usize, lanes: usize) -> Result<Self> {
        let bits = layout::value_bits(problem.format);
        if words * 32 % bits != 0 {
            return Err(unfit("words of a packet", words, "to hold whole codes"));
        }
        Self::of_span(problem, rows, problem.values_in(words), lanes)
    }

    /// Packets of `span` values for tiles of `rows` rows, `lanes` packets of a row at a time.
    ///
    /// # Errors
    /// Where tiles and index sets overlap in part only, or packets do not fill index words.
    pub fn of_span(problem: &Problem, rows: usize, span: usize, lanes: usize) -> Result<Self> {
        let Some(pattern) = problem.format.pattern() else {
            return Ok(Self {
                span,
                share: rows,
                guard: problem.cols.div_ceil(span) % lanes != 0,
                edge: problem.cols % span != 0,
            });
        };
        let v = pattern.v();
        let share = match (v % rows, rows % v) {
            (0, _) => rows,
            (_, 0) => v,
            _ => {
                return Err(unfit(
                    "V",
                    v,
                    "rows of a tile to be a divisor or a multiple of it",
                ));
            }
        };
        let (sets, interleave) = (rows / share, layout::interleave(problem.format));
        if span % layout::SLOTS_PER_WORD != 0 {
            return Err(unfit("a packet's slots", span, "a multiple of 4"));
        }
        if sets % interleave != 0 && interleave % sets != 0 {
            return Err(unfit(
                "a tile's index sets",
                sets,
                "to fill index words or lie in one",
            ));
        }
        Ok(Self {
            span,
            share,
            guard: problem.slots().div_ceil(span) % lanes != 0,
            edge: problem.slots() % span != 0 || problem.cols % pattern.m() != 0,
        })
    }
}

/// How a lane loads the values of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// 4 bytes at a time.
    Words,
    /// 8 bytes at a time, as `u64`.
    Longs,
    /// 16 bytes at a time, as `vec4<u32>`.
    Quads,
    /// 16 bytes at a time, as `vec2<u64>`.
    Pairs,
    /// 32 bytes at a time, as `vec4<u64>`.
    Octs,
}

impl Load {
    /// Whether the weight is bound as words alone.
    pub fn words(self) -> bool {
        self == Self::Words
    }

    pub fn int64(self) -> bool {
        matches!(self, Self::Longs | Self::Pairs | Self::Octs)
    }

    /// The fragment that loads a packet.
    pub fn fragment(self) -> Cow<'static, str> {
        match self {
            Self::Words => fragment!("load_words"),
            Self::Longs => fragment!("load_longs"),
            Self::Quads => fragment!("load_quads"),
            Self::Pairs => fragment!("load_pairs"),
            Self::Octs => fragment!("load_octs"),
        }
    }

    /// The fragments that load values and index fields.
    pub fn fragments(self, problem: &Problem) -> Vec<Cow<'static, str>> {
        let mut fragments = vec![self.fragment()];
        if !self.words() && problem.format.pattern().is_some() {
            fragments.push(fragment!("index_words"));
        }
        fragments.push(fields_fragment(problem));
        fragments
    }
}

/// Most codes of a packet that `lib/decoded_codes.wgsl` decodes.
pub(super) const CODES: usize = 8;

/// Consts and fragments that decode packets of `span` values before these are multiplied.
/// Plain values are loaded by `load`; codes are read word by word, wherever they begin.
pub(super) fn decoded(
    problem: &Problem,
    span: usize,
    load: Load,
) -> (Vec<(&'static str, Const)>, Vec<Cow<'static, str>>) {
    let number = |value: usize| Const::U32(value as u32);
    let Some(quant) = problem.format.quant() else {
        let words = span / problem.values_in(1);
        let fragments = vec![load.fragment(), fragment!("decoded_values")];
        return (vec![("WORDS", number(words))], fragments);
    };
    let group = group_slots(problem.format.pattern(), quant, problem.cols);
    // Packets begin at multiples of the largest power of two that divides their bits.
    let bits = span * quant.bits() as usize;
    let odd = 32 - (1 << bits.trailing_zeros()).min(32);
    let mut consts = vec![
        ("BITS", Const::U32(quant.bits())),
        ("SPAN", number(span)),
        ("GROUP", number(group)),
        ("WORDS", number((bits + odd).div_ceil(32) + 1)),
    ];
    if even::balanced(problem.format).is_some() {
        consts.extend(even::consts(quant, problem.cols));
        return (consts, vec![fragment!("decoded_kept"), fragment!("scale")]);
    }
    consts.push(("SEGMENT", number(gcd(group, span))));
    (consts, vec![fragment!("decoded_codes"), fragment!("scale")])
}

/// The greatest common divisor.
pub(super) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// How the index fields of a packet are read.
pub(super) fn fields_fragment(problem: &Problem) -> Cow<'static, str> {
    match problem.format.pattern() {
        None => fragment!("packet_all"),
        Some(_) => fragment!("packet_nm"),
    }
}

/// The largest divisor of `n` that is at most `most`.
pub(super) fn largest_divisor(n: usize, most: u32) -> u32 {
    (1..=most).rev().find(|&d| n % d as usize == 0).unwrap_or(1)
}
