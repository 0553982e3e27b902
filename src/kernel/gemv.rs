//! `gemv`: a few vectors, bound by the bytes of the weight.
//!
//! [`Config`]: a workgroup sums `rows` rows; a lane takes `words` words at a time, in loads as wide as the device
//! has. Variants name the reduction, the loads, then how x is reached. `pairs` and `octs` are for CPU adapters,
//! where a load costs the same whatever its width: 64-bit integers then bring twice the bytes.

mod configs;

pub use configs::picks_windows;

use super::{
    Config, Const, Dispatch, Kernel, Layout, PartLayout, Problem, Skip, bands, check_launches,
    fragment,
    packet::{Load, Packets, gcd},
    problem::{self, unfit},
    shader,
    variant::{Reduce, Variant, X},
};
use crate::{
    caps::Caps,
    error::Result,
    format::{Quant, group_slots},
};
use std::borrow::Cow;

/// Vectors that one launch takes at most.
pub const MAX_BATCH: usize = 8;

/// Most vectors for which taking them in turns may beat the kernels of many vectors.
const MOST_IN_TURNS: usize = 32;

/// Most values that a loop over blocks of rows may pick x for if CPU adapters are to unroll it (measured).
const MOST_PICKED: usize = 32;

/// Most values that a loop over rows may add if CPU adapters are to unroll it (measured with codes).
const MOST_UNROLLED: usize = 128;

pub struct Gemv;

impl Kernel for Gemv {
    fn name(&self) -> &'static str {
        "gemv"
    }

    fn serves(&self, layout: Layout, skip: Skip) -> bool {
        layout == Layout::Rows && skip != Skip::Cols
    }

    fn for_few(&self) -> bool {
        true
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        configs::of(problem, caps)
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let variant = Variant::of(config, problem)?;
        let coded = problem.format.quant().is_some();
        let listed = problem.skip == Skip::Rows;
        let turn = (config.batch as usize).clamp(1, MAX_BATCH);
        check(problem, parts, turn)?;
        let packets = Packets::new(
            problem,
            config.rows as usize,
            config.words as usize,
            config.workgroup as usize,
        )?;
        let blocks = config.rows as usize / packets.share;
        let sparse = problem.format.pattern().is_some();
        let dealt = deals_scales(variant, problem, config, packets.span);
        let wide = coded && !listed && !dealt && wide_scales(variant, config.rows);
        let words = variant.load.words() || sparse || (coded && !wide);
        let quads = !variant.load.words() || wide;

        let mut dispatches = vec![];
        // More vectors than registers hold are taken in turns.
        for vector_base in (0..problem.batch).step_by(turn) {
            let batch = turn.min(problem.batch - vector_base);
            let frame = variant.frame(config, problem.cols, batch, caps)?;
            let mut consts = problem.consts();
            consts.extend(frame.consts);
            consts.extend([
                ("SHARE", Const::U32(packets.share as u32)),
                ("GUARD", Const::Bool(packets.guard)),
                ("EDGE", Const::Bool(packets.edge)),
                ("SPLIT", Const::U32(split_of(blocks, packets.span))),
                ("PARTS", Const::U32(parts_of(packets.share, packets.span))),
                (
                    "HALVES",
                    Const::Bool(variant.load == Load::Pairs && config.words == 4),
                ),
            ]);
            let mut fragments = problem.fragments(caps.class);
            fragments.push(fragment!("y_words"));
            fragments.push(if listed {
                fragment!("rows_listed")
            } else {
                fragment!("rows_all")
            });
            fragments.push(fragment!("rounds"));
            fragments.push(pick(variant.x, problem, packets.span)?);
            fragments.extend(variant.load.fragments(problem));
            fragments.extend(frame.fragments);
            match problem.format.quant() {
                None => fragments.push(fragment!("values")),
                Some(quant) => {
                    let group = group_slots(problem.format.pattern(), quant, problem.cols);
                    let segment = gcd(group, packets.span);
                    consts.extend([
                        ("BITS", Const::U32(quant.bits())),
                        ("GROUP", Const::U32(group as u32)),
                        ("SEGMENT", Const::U32(segment as u32)),
                    ]);
                    let by_fours = segment.is_multiple_of(4)
                        && (variant.load.int64() || takes_straddling(problem, variant));
                    fragments.extend(code_fragments(by_fours));
                    fragments.push(if dealt {
                        fragment!("scales_dealt")
                    } else if listed {
                        fragment!("scales_listed")
                    } else {
                        scales_fragment(wide, variant.load, config.rows)
                    });
                    if words && !variant.load.words() && !sparse {
                        fragments.push(fragment!("index_words"));
                    }
                    if quads && variant.load.words() {
                        fragments.push(fragment!("scale_quads"));
                    }
                }
            }
            fragments.push(shader!("gemv"));
            let list = listed.then(|| problem.list());
            dispatches.extend(parts.iter().enumerate().map(|(i, part)| {
                // Lists are dealt to two halves of the launch.
                let workgroups = config.tiles(part).next_multiple_of(1 + u64::from(listed));
                Dispatch {
                    consts: consts.clone(),
                    fragments: fragments.clone(),
                    params: problem.params(part, 0, vector_base),
                    operands: problem
                        .operands(problem::X, i, words, quads)
                        .into_iter()
                        .chain(list)
                        .collect(),
                    workgroup_bytes: frame.workgroup_bytes,
                    subgroups: variant.reduce != Reduce::Shared,
                    int64: variant.load.int64() || variant.x.int64(),
                    ..problem.launch(self, config, workgroups, caps)
                }
            }));
        }
        Ok(dispatches)
    }
}

/// Whether codes of every column, some of which straddle words, are taken by a CPU adapter.
fn takes_straddling(problem: &Problem, variant: &Variant) -> bool {
    let straddle = |quant: Quant| 32 % quant.bits() != 0;
    variant.reduce == Reduce::One
        && problem.format.pattern().is_none()
        && problem.format.quant().is_some_and(straddle)
}

/// The fragments that multiply codes of one scale, four at a time or one by one.
fn code_fragments(by_fours: bool) -> Vec<Cow<'static, str>> {
    let mut fragments = if by_fours {
        vec![fragment!("dot_quads"), fragment!("code_quad")]
    } else {
        vec![fragment!("dot_codes")]
    };
    fragments.extend([fragment!("codes"), fragment!("scale")]);
    fragments
}

/// The fragment that loads the scales of `rows` rows that lie side by side, at once where they are `wide`.
fn scales_fragment(wide: bool, load: Load, rows: u32) -> Cow<'static, str> {
    match load {
        Load::Octs if rows == 8 => fragment!("scales_octs"),
        Load::Pairs if wide => fragment!("scales_pairs"),
        Load::Longs if wide => fragment!("scales_longs"),
        _ if wide => fragment!("scales_quads"),
        _ => fragment!("scales_words"),
    }
}

/// Refuses what is not served in turns of `turn` vectors.
fn check(problem: &Problem, parts: &[PartLayout], turn: usize) -> Result<()> {
    check_launches(problem.batch.div_ceil(turn).saturating_mul(parts.len()))?;
    let listed = problem.skip == Skip::Rows;
    // Other kernels serve many vectors of plain values. Codes and active rows are taken in turns, however many.
    if problem.batch > MOST_IN_TURNS && problem.format.quant().is_none() && !listed {
        return Err(unfit("batch", problem.batch, "at most 32"));
    }
    if listed && problem.format.stores_less() {
        let needed = "a dense weight, or codes of every column";
        return Err(unfit(
            "active rows of a sparse weight",
            problem.rows,
            needed,
        ));
    }
    if listed && !bands::rows_begin_blocks(parts) {
        let base = parts.iter().map(|p| p.row_base).max().unwrap_or(0);
        return Err(unfit(
            "first row of a part",
            base as usize,
            "a multiple of 16",
        ));
    }
    Ok(())
}

/// Whether the scales of `rows` rows are loaded at once, which saves loads: through the view of the codes or,
/// where a GPU loads codes by words, through a view of their own.
fn wide_scales(variant: &Variant, rows: u32) -> bool {
    match variant.load {
        Load::Words => variant.reduce != Reduce::One && rows % 4 == 0,
        Load::Longs => rows % 2 == 0,
        Load::Quads | Load::Pairs => rows % 4 == 0,
        // The eight whose scales lie together.
        Load::Octs => rows == 8,
    }
}

/// Whether each lane loads the scale of one row and hands it round, which saves a CPU adapter most of
/// these loads: where all lanes of a round, packets of `span` codes, are in one group.
fn deals_scales(variant: &Variant, problem: &Problem, config: &Config, span: usize) -> bool {
    let Some(quant) = problem.format.quant() else {
        return false;
    };
    let group = group_slots(problem.format.pattern(), quant, problem.cols);
    let round = config.workgroup as usize * span;
    let one = group.is_multiple_of(round) || quant.group_cols(problem.cols) >= problem.cols;
    variant.reduce == Reduce::One && one && config.rows <= config.workgroup
}

/// How the x that meets a packet of `span` values is picked.
fn pick(x: X, problem: &Problem, span: usize) -> Result<Cow<'static, str>> {
    match problem.format.pattern() {
        None if x.window() => Err(unfit("index sets of a dense weight", 0, "one to select by")),
        None => Ok(fragment!("pick_all")),
        Some(_) if !x.window() => Ok(fragment!("pick_gather")),
        Some(pattern) if pattern.m() != 4 => Err(unfit("m", pattern.m(), "windows of 4 columns")),
        Some(pattern) if span % pattern.n() != 0 => {
            Err(unfit("n", pattern.n(), "a divisor of its packet"))
        }
        Some(_) => Ok(fragment!("pick_window")),
    }
}

/// Parts that a loop over `blocks` blocks of rows is cut into, each of which picks x for `span` values.
fn split_of(blocks: usize, span: usize) -> u32 {
    if blocks % 2 == 0 && blocks * span > MOST_PICKED {
        2
    } else {
        1
    }
}

/// Parts that a loop over `share` rows is cut into, each of which adds `span` values of every vector.
fn parts_of(share: usize, span: usize) -> u32 {
    if share % 2 == 0 && share * span > MOST_UNROLLED {
        2
    } else {
        1
    }
}
