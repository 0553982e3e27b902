//! `gqs_rows`: balanced group-pruned, group-quantised weights on GPUs, a few vectors at a time.
//!
//! [`Config`]: a workgroup sums `rows` rows in tiles of four, which share its lanes equally, with x in its
//! memory, for at most `batch` vectors; more are taken in turns. A lane takes `words` of codes of each of its
//! four rows at a time: whole groups, or whole pieces of one.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, even, fragment,
    grid::launches,
    held::{self, Held, Lanes, ROWS, WORDS, integers},
    packet::Load,
    panels::{group_words, load_words, piece},
    problem::{self, unfit},
    shader,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Precision, Quant, block_cols},
};
use std::borrow::Cow;

/// Most numbers of x that a slot meets in all vectors of a turn: 64 spill where `gemv` holds them.
const MOST_HELD: usize = 32;

pub struct GqsRows;

impl Kernel for GqsRows {
    fn name(&self) -> &'static str {
        "gqs_rows"
    }

    fn takes(&self, precision: Precision) -> bool {
        precision != Precision::F16
    }

    fn for_few(&self) -> bool {
        true
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Some((quant, pruning)) = even::balanced(problem.format) else {
            return vec![];
        };
        if caps.class != DeviceClass::Gpu {
            return vec![];
        }
        let words = load_words(quant, problem.cols, WORDS);
        let most = vectors(problem, quant, words, caps);
        let config = |(tiles, lanes): (u32, u32)| Config {
            variant: "held",
            workgroup: tiles * lanes,
            rows: tiles * ROWS,
            batch: (problem.batch as u32).clamp(1, most),
            words,
        };
        // Each workgroup reads all of x, so it takes as many rows as leave work for every processor. A lane has
        // two loads where x is in eight bits, else four (measured on an H100).
        let tiles = 1 << (problem.rows as u32 / 512).clamp(1, 8).ilog2();
        let group = group_words(quant, problem.cols) as u32;
        let loads = even::slots(quant, pruning, problem.cols) as u32 * group / words;
        let of_lane = if problem.precision == Precision::I8 {
            2
        } else {
            4
        };
        let lanes = (loads / of_lane).next_power_of_two().clamp(32, 128);
        let mut configs = vec![config((tiles, lanes))];
        for shape in [(8, 64), (4, 64)] {
            if !configs.contains(&config(shape)) {
                configs.push(config(shape));
            }
        }
        configs
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let Some((quant, _)) = even::balanced(problem.format) else {
            return Err(problem.unknown(config));
        };
        even::check(parts)?;
        let (tiles, _) = held::tiles(config)?;
        let (shape, piece) = consts(problem, quant, config)?;
        let taken = Lanes {
            workgroup: config.workgroup,
            piece,
            together: even::window_cols(quant, problem.cols),
        };
        let mut dispatches = vec![];
        for (vector_base, batch, turns) in launches(problem.batch, config.batch, caps) {
            let held = Held::new(problem, quant, batch as u32, &taken, caps);
            let mut consts = vec![
                ("WORKGROUP", Const::U32(config.workgroup)),
                ("TILES", Const::U32(tiles)),
                ("BATCH", Const::U32(batch as u32)),
            ];
            consts.extend(shape.iter().copied().chain(held.consts));
            let whole_loads = config.words % WORDS == 0;
            let fragments = [fragments(problem, whole_loads), held.fragments].concat();
            let workgroup_bytes = held.bytes;
            dispatches.extend(parts.iter().enumerate().map(|(i, part)| {
                let mut launch = Dispatch {
                    consts: consts.clone(),
                    fragments: fragments.clone(),
                    params: problem.params(part, 0, vector_base),
                    operands: problem.operands(problem::X, i, !whole_loads, whole_loads),
                    workgroup_bytes,
                    ..problem.launch(self, config, config.tiles(part), caps)
                };
                launch.grid[2] = turns;
                launch
            }));
        }
        Ok(dispatches)
    }
}

/// Vectors of a turn at most.
fn vectors(problem: &Problem, quant: Quant, words: u32, caps: &Caps) -> u32 {
    if integers(problem).is_some() {
        return held::vectors(problem);
    }
    let met = MOST_HELD / piece(quant, problem.cols, words as usize).max(1);
    // A window of each is held at least.
    let window = even::window_cols(quant, problem.cols) as u32 * 4;
    (met as u32)
        .min(caps.max_workgroup_bytes / window.max(1))
        .clamp(1, 4)
}

/// All fragments but those that hold x.
fn fragments(problem: &Problem, whole_loads: bool) -> Vec<Cow<'static, str>> {
    let mut fragments = vec![
        fragment!("linear"),
        fragment!("y_words"),
        problem.bias_fragment(),
        fragment!("scale"),
        fragment!("fours"),
        shader!("gqs_rows"),
    ];
    fragments.extend(if whole_loads {
        [Load::Quads.fragment(), fragment!("scales_fours_quads")]
    } else {
        [Load::Words.fragment(), fragment!("scales_fours_words")]
    });
    if integers(problem).is_some() {
        fragments.extend([fragment!("slot_zero"), fragment!("slot_held")]);
    } else {
        let code = problem::code_fragment(DeviceClass::Gpu);
        fragments.extend([code, fragment!("slot_floats")]);
    }
    fragments
}

/// Consts that every launch has, and the columns of a piece.
///
/// # Errors
/// Where `config` loads no whole groups or pieces.
fn consts(
    problem: &Problem,
    quant: Quant,
    config: &Config,
) -> Result<(Vec<(&'static str, Const)>, usize)> {
    if problem.precision == Precision::I8 && integers(problem).is_none() {
        let needed = "as many as codes that fill bytes meet";
        return Err(unfit("bytes of a number of x", 1, needed));
    }
    let cols = problem.cols;
    let (load, group_words) = (config.words as usize, group_words(quant, cols));
    let slot_words = load.min(group_words);
    if load == 0 || load % slot_words != 0 || group_words % slot_words != 0 {
        let needed = "whole groups, or whole pieces of one";
        return Err(unfit("words of a load", load, needed));
    }
    let piece = piece(quant, cols, load);
    if integers(problem).is_some() && !piece.is_multiple_of(block_cols(quant)) {
        return Err(unfit("columns of a piece", piece, "whole blocks of x"));
    }
    let number = |value: usize| Const::U32(value as u32);
    let mut consts = vec![
        ("BITS", Const::U32(quant.bits())),
        ("WORDS", number(load)),
        ("GROUP", number(quant.group_cols(cols))),
        ("SLOT_WORDS", number(slot_words)),
        // What is held is zero past the last column.
        ("EDGE", Const::Bool(false)),
    ];
    consts.extend(even::consts(quant, cols));
    Ok((consts, piece))
}
