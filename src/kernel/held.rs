//! x in workgroup memory, which every workgroup fills for itself: with integers (`lib/hold.wgsl`) where bytes are
//! multiplied, else with x as it is (`lib/hold_floats.wgsl`).

use super::{Config, Const, Problem, fragment, packet::gcd, problem::unfit};
use crate::{
    caps::Caps,
    error::Result,
    format::{Precision, Quant, block_cols},
};
use std::borrow::Cow;

/// Words of codes that a lane loads at a time: 16 bytes.
pub(super) const WORDS: u32 = 4;

/// Rows of a tile: see `lib/fours.wgsl`.
pub(super) const ROWS: u32 = 4;

/// Lanes that add up the sums of all lanes of a tile.
pub(super) const STRIPS: u32 = 8;

/// How much of x is held, and the WGSL that holds it.
pub(super) struct Held {
    /// Bytes of workgroup memory.
    pub bytes: u32,
    pub consts: Vec<(&'static str, Const)>,
    pub fragments: Vec<Cow<'static, str>>,
}

/// Bytes of the integers that x becomes, and the fragment for it; `None` where this weight does not meet integers.
pub(super) fn integers(problem: &Problem) -> Option<(u32, Cow<'static, str>)> {
    let found = match problem.precision {
        Precision::I8 => (1, fragment!("steps_bytes")),
        Precision::I24 => (3, fragment!("steps_triples")),
        Precision::F32 | Precision::F16 => return None,
    };
    problem.precision.changes(problem.format).then_some(found)
}

/// How lanes take what is held.
pub(super) struct Lanes {
    /// Lanes of a workgroup.
    pub workgroup: u32,
    /// Columns that one takes at a time.
    pub piece: usize,
    /// Columns that must be held together where x is held in parts.
    pub together: usize,
}

/// What packets of x are made of.
struct Packets {
    /// Columns of one.
    span: usize,
    /// Bytes of one in `quads_of_x`, and in the arrays beside it.
    quads: u32,
    beside: u32,
}

impl Held {
    /// For `batch` vectors, padded to whole groups, as much as fits: all columns, or equal parts of them.
    pub fn new(problem: &Problem, quant: Quant, batch: u32, lanes: &Lanes, caps: &Caps) -> Self {
        let piece = lanes.piece;
        let values = if problem.cols.is_multiple_of(4) {
            fragment!("values_quads")
        } else {
            fragment!("values_scalars")
        };
        let (packets, mut consts, fragments) = match integers(problem) {
            None => {
                let packets = Packets {
                    span: piece,
                    quads: batch * piece as u32 * 4,
                    beside: 0,
                };
                let consts = vec![("SPAN", Const::U32(piece as u32))];
                (packets, consts, vec![fragment!("hold_floats"), values])
            }
            Some((bytes, steps)) => {
                let (step_cols, span) = (block_cols(quant), problem.values_in(WORDS as usize));
                let packets = Packets {
                    span,
                    quads: batch * bytes * 8 / quant.bits() * 16,
                    // A step and the totals of a block, two totals a word.
                    beside: batch * (span / step_cols) as u32 * (4 + 4 * bytes.div_ceil(2)),
                };
                let text = vec![fragment!("hold"), fragment!("peaks"), steps, values];
                // Lanes side by side take pieces side by side: the quads of a piece lie apart, those of
                // neighbours together.
                let unit = if piece % 16 == 0 && span % piece == 0 {
                    piece
                } else {
                    span
                };
                let consts = [("STEP_COLS", step_cols), ("UNIT", unit)];
                let consts = consts.map(|(name, cols)| (name, Const::U32(cols as u32)));
                (packets, consts.to_vec(), text)
            }
        };
        let group = quant.group_cols(problem.cols).max(1);
        let cols = problem.cols.div_ceil(group) * group;
        let all = cols.div_ceil(packets.span) as u32;

        // At the end, a quad for each lane takes the place of x.
        let least = lanes.workgroup * 16;
        let most = caps.max_workgroup_bytes;
        let room = match packets.beside {
            0 => most / packets.quads,
            beside => (most / (packets.quads + beside)).min(most.saturating_sub(least) / beside),
        };
        let together = lanes.together.max(1);
        let round = (together / gcd(together, packets.span)) as u32;
        let held = if all <= room {
            all
        } else {
            let even = all
                .div_ceil(all.div_ceil(room.max(1)))
                .next_multiple_of(round);
            even.min((room / round).max(1) * round)
        };
        consts.push(("HOLD", Const::U32(held)));
        consts.push(("WHOLE", Const::Bool(held >= all)));
        let quads = least.max(held.saturating_mul(packets.quads));
        Self {
            bytes: quads.saturating_add(held.saturating_mul(packets.beside)),
            consts,
            fragments,
        }
    }
}

/// Most vectors of a launch, so that the rows of a tile and packets of 64 codes stay in registers: with codes of
/// two bits, two vectors in eight bits took 7.1 µs and four 21.5, one in 24 bits 7.0 and two 15.0 (on an H100).
pub(super) fn vectors(problem: &Problem) -> u32 {
    match (problem.values_in(WORDS as usize), problem.precision) {
        (64.., Precision::I24) => 1,
        (64.., _) => 2,
        _ => 4,
    }
}

/// Tiles of a workgroup and lanes of a tile.
///
/// # Errors
/// Where tiles and strips are not whole.
pub(super) fn tiles(config: &Config) -> Result<(u32, u32)> {
    let tiles = config.rows / ROWS;
    if tiles == 0 || config.rows % ROWS != 0 || config.batch == 0 {
        let needed = "whole tiles of four rows, for a vector at least";
        return Err(unfit("rows", config.rows as usize, needed));
    }
    if config.workgroup % (tiles * STRIPS) != 0 || config.workgroup == 0 {
        let needed = "as many whole strips of lanes for every tile";
        return Err(unfit("workgroup", config.workgroup as usize, needed));
    }
    Ok((tiles, config.workgroup / tiles))
}
