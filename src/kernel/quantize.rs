//! `quantize`: activations as integers of eight bits, in front of the product that takes them.

use super::{Const, Dispatch, Operand, Problem, Role, fragment, problem, shader};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Precision, block_cols},
};
use std::borrow::Cow;

const WORKGROUP: u32 = 64;

/// Columns that are whole blocks, whatever the length of a block.
const SPAN: usize = 32;

/// How quotients are packed, which decides how they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Four a word.
    Bytes,
    /// Two a word.
    Halves,
    /// Four a word, in the order of their columns, for kernels that multiply in f32.
    Plain,
}

impl Packing {
    fn fragment(self) -> Cow<'static, str> {
        match self {
            Self::Bytes | Self::Plain => fragment!("pack_bytes"),
            Self::Halves => fragment!("pack_halves"),
        }
    }

    /// The fragments that pack quotients and multiply them by codes.
    pub fn fragments(self) -> [Cow<'static, str>; 2] {
        let dot = match self {
            Self::Bytes | Self::Plain => fragment!("dot_bytes"),
            Self::Halves => fragment!("dot_halves"),
        };
        [self.fragment(), dot]
    }

    const fn per_word(self) -> usize {
        match self {
            Self::Bytes | Self::Plain => 4,
            Self::Halves => 2,
        }
    }
}

/// Where a product finds its x, and the text that reads it.
pub(super) struct Source {
    pub operand: Operand,
    /// Blocks of a vector, where x is in eight bits.
    pub stride: usize,
    pub scratch_bytes: u64,
    /// The launches in front that make it.
    pub launches: Vec<Dispatch>,
    pub consts: Vec<(&'static str, Const)>,
    pub fragments: Vec<Cow<'static, str>>,
}

impl Source {
    /// x as the caller gave it.
    pub fn caller(fragments: Vec<Cow<'static, str>>) -> Self {
        Self {
            operand: problem::X,
            stride: 0,
            scratch_bytes: 0,
            launches: vec![],
            consts: vec![],
            fragments,
        }
    }

    /// x for a kernel that multiplies in f32: `fragment` reads it as it is; in eight bits x becomes integers,
    /// which are turned into numbers again.
    ///
    /// # Errors
    /// For weights that cannot take x so.
    pub fn numbers(problem: &Problem, fragment: Cow<'static, str>, caps: &Caps) -> Result<Self> {
        if problem.precision != Precision::I8 {
            return Ok(Self::caller(vec![fragment]));
        }
        // Whole blocks are enough: no load of x is wider than a quad.
        let quotients = Quotients::new(problem, Packing::Plain, SPAN, caps)?;
        Ok(quotients.source(vec![fragment!("x_bytes")]))
    }
}

/// x as integers, in scratch.
pub(super) struct Quotients {
    /// Makes them.
    launch: Dispatch,
    /// Blocks of a vector.
    blocks: usize,
    /// Columns of a block.
    cols: usize,
}

impl Quotients {
    /// The integers of `problem`'s x, each vector padded to whole packets of `span` columns.
    ///
    /// # Errors
    /// For weights that cannot take x so.
    pub fn new(problem: &Problem, packing: Packing, span: usize, caps: &Caps) -> Result<Self> {
        let quant = problem.format.quant();
        let Some(quant) = quant.filter(|_| Precision::I8.serves(problem.format)) else {
            let bits = quant.map_or(0, |q| q.bits() as usize);
            let needed = "to divide a byte, in blocks of whole words";
            return Err(problem::unfit("bits of a code", bits, needed));
        };
        let cols = block_cols(quant);
        let blocks = problem.cols.div_ceil(span) * span / cols;
        let all = (blocks as u64).saturating_mul(problem.batch as u64);
        let words = (cols / packing.per_word() + 2) as u64;
        // Quotients in the order of their columns lie as codes of eight bits would meet them.
        let bits = if packing == Packing::Plain {
            8
        } else {
            quant.bits()
        };
        // On GPUs as many lanes as a block has words share it, but only where words hold bytes.
        let shared = caps.class == DeviceClass::Gpu && packing != Packing::Halves;
        let lanes = all.saturating_mul(if shared { cols as u64 / 4 } else { 1 });
        let mut fragments = vec![
            fragment!("vectors"),
            fragment!("peaks"),
            fragment!("steps_bytes"),
            packing.fragment(),
            if caps.int64 && !shared {
                fragment!("put_long")
            } else {
                fragment!("put_words")
            },
        ];
        fragments.extend(if shared {
            let quads = problem.cols.is_multiple_of(4);
            let values = if quads {
                fragment!("values_quads")
            } else {
                fragment!("values_scalars")
            };
            [values, shader!("quantize_lanes")]
        } else {
            [fragment!("values_scalars"), shader!("quantize")]
        });
        let launch = Dispatch {
            name: format!("quantize x of {problem}"),
            consts: vec![
                ("WORKGROUP", Const::U32(WORKGROUP)),
                ("BITS", Const::U32(bits)),
                ("STEP_COLS", Const::U32(cols as u32)),
            ],
            fragments,
            params: vec![problem.cols as u32, problem.batch as u32, blocks as u32],
            operands: vec![problem::X, Operand::write("quotients", 2, Role::Scratch)],
            invocations: WORKGROUP,
            workgroup_bytes: if shared { 8 * WORKGROUP } else { 0 },
            int64: caps.int64 && !shared,
            // Whole quads: the product reads the last pair of words as half of one.
            scratch_bytes: all
                .saturating_mul(4 * words)
                .min(u64::MAX - 15)
                .next_multiple_of(16),
            grid: super::fold(lanes.div_ceil(WORKGROUP.into()), caps.max_workgroups),
            ..Dispatch::default()
        };
        Ok(Self {
            launch,
            blocks,
            cols,
        })
    }

    /// x for a product that reads it by `fragments`.
    pub fn source(self, fragments: Vec<Cow<'static, str>>) -> Source {
        Source {
            operand: Operand::read("quotients", 1, Role::Scratch),
            stride: self.blocks,
            scratch_bytes: self.launch.scratch_bytes,
            consts: vec![("STEP_COLS", Const::U32(self.cols as u32))],
            launches: vec![self.launch],
            fragments,
        }
    }
}
