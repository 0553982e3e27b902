//! x as integers that a workgroup makes for itself, in its own memory: `lib/hold.wgsl`.

use super::{Config, Const, Problem, fragment};
use crate::{
    caps::Caps,
    format::{Precision, Quant, block_cols},
};
use std::borrow::Cow;

/// Words of codes of a packet: a load of 16 bytes.
pub(super) const WORDS: u32 = 4;

/// How much of x is held, and the text that does it.
pub(super) struct Held {
    /// Whether that is all.
    pub whole: bool,
    /// Bytes of workgroup memory.
    pub bytes: u32,
    pub consts: Vec<(&'static str, Const)>,
    pub fragments: Vec<Cow<'static, str>>,
}

/// Bytes of an integer that x is made of in `precision`, and how.
pub(super) fn integers(precision: Precision) -> Option<(u32, Cow<'static, str>)> {
    match precision {
        Precision::I8 => Some((1, fragment!("steps_bytes"))),
        Precision::I24 => Some((3, fragment!("steps_triples"))),
        Precision::F32 | Precision::F16 => None,
    }
}

impl Held {
    /// For `batch` vectors of whole groups, as much as fits: all of them, or whole rounds of as many
    /// packets as there are `lanes`. `None` where x is not taken as integers.
    pub fn new(
        problem: &Problem,
        quant: Quant,
        batch: u32,
        (config, lanes): (&Config, u32),
        caps: &Caps,
    ) -> Option<Self> {
        let (bytes, steps) = integers(problem.precision)?;
        let (step_cols, span) = (block_cols(quant), problem.values_in(WORDS as usize));
        let group = quant.group_cols(problem.cols).max(1);
        let cols = problem.cols.div_ceil(group) * group;
        let all = cols.div_ceil(span) as u32;

        let quotients = batch * bytes * 8 / quant.bits() * 16;
        // A step, and totals, two of which are a word.
        let blocks = batch * (span / step_cols) as u32 * (4 + 4 * bytes.div_ceil(2));
        // A quad for each lane, where quotients were.
        let least = config.workgroup * 16;
        let most = caps.max_workgroup_bytes;
        let room = (most / (quotients + blocks)).min(most.saturating_sub(least) / blocks);
        let packets = if all <= room {
            all
        } else {
            (room / lanes * lanes).max(lanes)
        };
        let quads = least.max(packets.saturating_mul(quotients));
        Some(Self {
            whole: packets >= all,
            bytes: quads.saturating_add(packets.saturating_mul(blocks)),
            consts: vec![
                ("STEP_COLS", Const::U32(step_cols as u32)),
                ("HOLD", Const::U32(packets)),
            ],
            fragments: vec![
                fragment!("hold"),
                fragment!("peaks"),
                steps,
                if problem.cols.is_multiple_of(4) {
                    fragment!("values_quads")
                } else {
                    fragment!("values_scalars")
                },
            ],
        })
    }
}
