//! `gemv_i8`: a few vectors of integers of eight bits times a weight of codes.
//!
//! [`Config`]: a workgroup sums `rows` rows; a lane takes `words` words of codes at a time, for at most `batch`
//! vectors; more are taken in turns. Variants name the reduction, then what is multiplied: `bytes` by the dot
//! products that GPUs have for them, `halves` by multiplications of words, which CPU adapters prefer.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment,
    grid::launches,
    packet::{Load, gcd},
    problem::unfit,
    quantize::{Packing, Quotients},
    shader,
    variant::Reduce,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Precision, Quant, block_cols},
};
use std::borrow::Cow;

pub struct GemvI8;

/// What a variant's name stands for.
struct Variant {
    name: &'static str,
    reduce: Reduce,
    packing: Packing,
}

const VARIANTS: &[Variant] = &[
    Variant::new("one-halves", Reduce::One, Packing::Halves),
    Variant::new("one-bytes", Reduce::One, Packing::Bytes),
    Variant::new("subgroup-bytes", Reduce::Subgroup, Packing::Bytes),
    Variant::new("portable-bytes", Reduce::Shared, Packing::Bytes),
];

impl Variant {
    const fn new(name: &'static str, reduce: Reduce, packing: Packing) -> Self {
        Self {
            name,
            reduce,
            packing,
        }
    }

    /// How packets of `words` words are loaded.
    const fn load(&self, words: u32) -> Load {
        match self.reduce {
            Reduce::One if words % 4 == 0 => Load::Pairs,
            Reduce::One => Load::Longs,
            Reduce::Subgroup | Reduce::Shared => Load::Quads,
        }
    }
}

impl Kernel for GemvI8 {
    fn name(&self) -> &'static str {
        "gemv_i8"
    }

    fn takes(&self, precision: Precision) -> bool {
        precision == Precision::I8
    }

    fn for_few(&self) -> bool {
        true
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Format::Quantized {
            pattern: None,
            quant,
        } = problem.format
        else {
            return vec![];
        };
        let vectors = problem.batch.max(1) as u32;
        let config = |variant, workgroup, rows, words, most: u32| Config {
            variant,
            workgroup,
            rows,
            batch: vectors.min(most),
            words,
        };
        match caps.class {
            // Measured: more vectors or rows than these are not unrolled, which costs many times more.
            DeviceClass::Cpu => {
                let lanes = caps.subgroups.map_or(8, |s| s.min);
                let rows = if vectors == 1 { 8 } else { 4 };
                let words = block_words(quant);
                vec![
                    config("one-halves", lanes, rows, words, 2),
                    config("one-bytes", lanes, 4, words, 2),
                    config("portable-bytes", 8, 4, words.max(4), 2),
                ]
            }
            DeviceClass::Gpu => {
                let words = block_words(quant).max(4);
                let packets = problem.cols.div_ceil(problem.values_in(words as usize)) as u32;
                let mut configs = vec![
                    config("subgroup-bytes", 64, 4, words, 4),
                    config("portable-bytes", 64, 4, words, 4),
                ];
                if vectors == 1 {
                    // Fewer rows a workgroup, more of them at a time: only memory remains to wait for.
                    configs.insert(
                        0,
                        config("subgroup-bytes", even_lanes(packets), 2, words, 1),
                    );
                }
                configs
            }
        }
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let found = VARIANTS.iter().find(|v| v.name == config.variant);
        let (
            Some(variant),
            Format::Quantized {
                pattern: None,
                quant,
            },
        ) = (found, problem.format)
        else {
            return Err(problem.unknown(config));
        };
        let load = variant.load(config.words);
        check(variant, quant, config)?;
        let group = quant.group_cols(problem.cols);
        let span = problem.values_in(config.words as usize);
        let packets = problem.cols.div_ceil(span);
        let quotients = Quotients::new(problem, variant.packing, span, caps)?;
        let source = quotients.source(variant.packing.fragments().to_vec());
        let mut dispatches = source.launches;
        for (vector_base, batch, turns) in launches(problem.batch, config.batch, caps) {
            let mut frame = variant.reduce.frame(config, batch, caps)?;
            frame.consts.extend([
                ("BITS", Const::U32(quant.bits())),
                ("REAL_ZEROS", Const::Bool(quant.real_zeros())),
                ("GROUP", Const::U32(group as u32)),
                ("SEGMENT", Const::U32(gcd(group, span) as u32)),
                (
                    "HALVES",
                    Const::Bool(load == Load::Pairs && config.words == 4),
                ),
                (
                    "GUARD",
                    Const::Bool(packets % config.workgroup as usize != 0),
                ),
            ]);
            frame.fragments.extend([
                fragment!("linear"),
                fragment!("y_words"),
                problem.bias_fragment(),
                fragment!("rows_all"),
                load.fragment(),
                fragment!("scale"),
                scales_fragment(load, config.rows),
                if load.int64() {
                    fragment!("quotients_pairs")
                } else {
                    fragment!("quotients_quads")
                },
                shader!("gemv_i8"),
            ]);
            frame.consts.extend(source.consts.iter().copied());
            frame.fragments.extend(source.fragments.iter().cloned());
            dispatches.extend(parts.iter().enumerate().map(|(i, part)| {
                let mut launch = Dispatch {
                    consts: frame.consts.clone(),
                    fragments: frame.fragments.clone(),
                    params: problem.params(part, 0, vector_base),
                    operands: problem.operands(source.operand, i, false, true),
                    workgroup_bytes: frame.workgroup_bytes,
                    subgroups: variant.reduce != Reduce::Shared,
                    int64: load.int64(),
                    scratch_bytes: source.scratch_bytes,
                    ..problem.launch(self, config, config.tiles(part), caps)
                };
                launch.grid[2] = turns;
                launch
            }));
        }
        Ok(dispatches)
    }
}

/// Lanes of a workgroup, whole subgroups of 32 from 128 to 256 lanes, that `packets` fill best; of equals the fewest.
fn even_lanes(packets: u32) -> u32 {
    (128..=256)
        .step_by(32)
        .min_by_key(|&lanes| packets.next_multiple_of(lanes))
        .unwrap_or(128)
}

/// Refuses what the shader cannot do.
fn check(variant: &Variant, quant: Quant, config: &Config) -> Result<()> {
    let bits = quant.bits() as usize;
    if variant.packing == Packing::Halves && bits == 8 {
        return Err(unfit("bits of a code", bits, "at most 4"));
    }
    let few = config.rows == 2 && variant.load(config.words) == Load::Quads;
    if !few && !matches!(config.rows, 4 | 8) {
        return Err(unfit(
            "rows",
            config.rows as usize,
            "2 in loads of quads, 4 or 8, whose scales lie together",
        ));
    }
    if config.batch == 0 {
        return Err(unfit("vectors", 0, "at least one"));
    }
    let least = match variant.reduce {
        Reduce::One => block_words(quant),
        Reduce::Subgroup | Reduce::Shared => block_words(quant).max(4),
    };
    if config.words == 0 || config.words % least != 0 {
        let needed = "to be whole loads of whole blocks";
        return Err(unfit("words of a packet", config.words as usize, needed));
    }
    Ok(())
}

/// Words that hold a block, at least what the narrowest loads of codes and of quotients take.
fn block_words(quant: Quant) -> u32 {
    (quant.bits() * block_cols(quant).max(16) as u32 / 32).max(2)
}

/// How scales are read through the view of `load`.
fn scales_fragment(load: Load, rows: u32) -> Cow<'static, str> {
    match load {
        Load::Quads if rows == 2 => fragment!("scales_couple"),
        Load::Longs => fragment!("scales_longs"),
        Load::Pairs => fragment!("scales_pairs"),
        _ => fragment!("scales_quads"),
    }
}
