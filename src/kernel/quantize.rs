//! `quantize`: activations as integers of eight bits, in front of the product that takes them.

use super::{Const, Dispatch, Operand, Problem, Role, fragment, problem, shader};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::block_cols,
};
use std::borrow::Cow;

const WORKGROUP: u32 = 64;

/// How quotients lie, which is what multiplies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Four a word.
    Bytes,
    /// Two a word.
    Halves,
}

impl Packing {
    fn fragment(self) -> Cow<'static, str> {
        match self {
            Self::Bytes => fragment!("pack_bytes"),
            Self::Halves => fragment!("pack_halves"),
        }
    }

    /// What multiplies them by codes.
    pub fn fragments(self) -> [Cow<'static, str>; 2] {
        let dot = match self {
            Self::Bytes => fragment!("dot_bytes"),
            Self::Halves => fragment!("dot_halves"),
        };
        [self.fragment(), dot]
    }

    const fn per_word(self) -> usize {
        match self {
            Self::Bytes => 4,
            Self::Halves => 2,
        }
    }
}

/// The launch that fills the scratch with the quotients and steps of `problem`'s x, whole packets of
/// `span` columns.
///
/// # Errors
/// For weights without codes.
pub(super) fn dispatch(
    problem: &Problem,
    packing: Packing,
    span: usize,
    caps: &Caps,
) -> Result<Dispatch> {
    let Some(quant) = problem.format.quant() else {
        return Err(problem::unfit("bits of a code", 0, "codes"));
    };
    let block = block_cols(quant);
    let blocks = problem.cols.div_ceil(span) * span / block;
    let all = (blocks as u64).saturating_mul(problem.batch as u64);
    let words = (block / packing.per_word() + 2) as u64;
    Ok(Dispatch {
        name: format!("quantize x of {problem}"),
        consts: vec![
            ("WORKGROUP", Const::U32(WORKGROUP)),
            ("BITS", Const::U32(quant.bits())),
            ("BLOCK", Const::U32(block as u32)),
        ],
        fragments: vec![
            packing.fragment(),
            if caps.int64 {
                fragment!("put_long")
            } else {
                fragment!("put_words")
            },
            // Loads cost a CPU adapter by the number.
            if caps.class == DeviceClass::Gpu && problem.cols % 4 == 0 {
                fragment!("block_quads")
            } else {
                fragment!("block_scalars")
            },
            shader!("quantize"),
        ],
        params: vec![problem.cols as u32, problem.batch as u32, blocks as u32],
        operands: vec![problem::X, Operand::write("quotients", 2, Role::Scratch)],
        invocations: WORKGROUP,
        int64: caps.int64,
        // Whole quads: the product reads the last pair of words as half of one.
        scratch_bytes: all
            .saturating_mul(4 * words)
            .min(u64::MAX - 15)
            .next_multiple_of(16),
        grid: super::fold(all.div_ceil(WORKGROUP.into()), caps.max_workgroups),
        ..Dispatch::default()
    })
}
