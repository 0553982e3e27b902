//! compressed-tensors' `pack-quantized`: codes packed along the inputs, row by row.
//!
//! ```text
//! weight_packed     I32 [rows, words]     codes of a row; value + 2^(bits − 1)
//! weight_scale      [rows, groups], [rows, 1], [rows] or one number
//! weight_shape      I64 [2]               rows, cols
//! weight_zero_point I32 [words, groups]   packed along the rows; I8 [rows, groups] in older
//!                                         files, signed; absent: all 2^(bits − 1)
//! weight_g_idx      I32 [cols]            group of each column; absent or −1: column / group
//!
//! 4 bits, −8 … 7 → 0x76543210 0xfedcba98
//! ```
//! Codes of 3, 5, 6 or 7 bits have two packings under one name: up to version 0.14 of the package
//! a word holds only whole codes; by version 0.20 codes straddle words. The number of words
//! tells the packings apart or, for a few dozen columns, the version does.

pub(super) mod read;
pub(crate) mod write;

pub use write::{pack_quantized_config, packs_quantized};

use lacuna::format::bits;

const PACKED: &str = ".weight_packed";
const SCALE: &str = ".weight_scale";
const SHAPE: &str = ".weight_shape";
const ZERO_POINT: &str = ".weight_zero_point";
const G_IDX: &str = ".weight_g_idx";

/// How codes lie in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// One after the other, across the borders of words.
    Straddling,
    /// Only whole codes in a word.
    Whole,
}

impl Packing {
    const ALL: [Self; 2] = [Self::Straddling, Self::Whole];

    /// What a version of the package writes; `None` for those between, of which nothing is known.
    const fn of_version((major, minor): (u32, u32)) -> Option<Self> {
        match (major, minor) {
            (0, ..=14) => Some(Self::Whole),
            (0, 15..=19) => None,
            _ => Some(Self::Straddling),
        }
    }

    const fn words_for(self, count: usize, width: u32) -> usize {
        match self {
            Self::Straddling => bits::words_for(count, width),
            Self::Whole => bits::whole_words_for(count, width),
        }
    }

    fn get(self, words: &[u32], width: u32, index: usize) -> u8 {
        match self {
            Self::Straddling => bits::get(words, width, index) as u8,
            Self::Whole => bits::get_whole(words, width, index) as u8,
        }
    }
}
