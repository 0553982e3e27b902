//! `gemv_bytes`: a few vectors times a weight of codes on GPUs, in dot products of bytes; every workgroup
//! makes integers of x for itself.
//!
//! [`Config`]: a workgroup sums `rows` rows in tiles of four, which share its lanes equally, for at most `batch`
//! vectors; more are taken in turns. A lane takes `words` of codes at a time, always four.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment,
    grid::launches,
    held::{self, Held, Lanes, ROWS, WORDS},
    packet::{Load, gcd},
    problem::{self, unfit},
    shader,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Precision, Quant},
};

pub struct GemvBytes;

impl Kernel for GemvBytes {
    fn name(&self) -> &'static str {
        "gemv_bytes"
    }

    fn takes(&self, precision: Precision) -> bool {
        matches!(precision, Precision::I8 | Precision::I24)
    }

    fn for_few(&self) -> bool {
        true
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        // CPU adapters have no dot products of bytes, and their workgroup memory is ordinary memory. In 24 bits x
        // may be taken as it is, and kernels for more vectors do so.
        let turns = problem.batch > 4 && problem.precision == Precision::I24;
        if caps.class != DeviceClass::Gpu || codes(problem).is_none() || turns {
            return vec![];
        }
        let most = held::vectors(problem) as usize;
        let config = |tiles: u32, lanes: u32| Config {
            variant: "held",
            workgroup: tiles * lanes,
            rows: tiles * ROWS,
            batch: problem.batch.clamp(1, most) as u32,
            words: WORDS,
        };
        // Each workgroup reads all of x, so it takes as many rows as leave work for every processor (measured on an
        // H100: four tiles of 64 lanes, eight of 128 where rows are long, and more lanes where there are few rows).
        let (many, least) = if problem.cols > 8192 {
            (8, 128)
        } else {
            (4, 64)
        };
        let tiles = 1 << (problem.rows as u32 / 512).clamp(1, many).ilog2();
        let packets = problem.cols.div_ceil(problem.values_in(WORDS as usize)) as u32;
        let lanes = (64 * many / tiles).max(least);
        let lanes = lanes.min(packets.next_power_of_two().max(64));
        let mut configs = vec![config(tiles, lanes)];
        for (tiles, lanes) in [(4, 64), (8, 64)] {
            let other = config(tiles, lanes);
            if !configs.contains(&other) {
                configs.push(other);
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
        let Some(quant) = codes(problem) else {
            return Err(problem.unknown(config));
        };
        let (tiles, lanes) = held::tiles(config)?;
        if config.words != WORDS {
            return Err(unfit("words", config.words as usize, "a load of 16 bytes"));
        }
        let group = quant.group_cols(problem.cols);
        let packet = problem.values_in(WORDS as usize);
        let segment = gcd(group, packet);
        let taken = Lanes {
            workgroup: config.workgroup,
            piece: packet,
            together: packet * lanes as usize,
        };
        let mut dispatches = vec![];
        for (vector_base, batch, turns) in launches(problem.batch, config.batch, caps) {
            let held = Held::new(problem, quant, batch as u32, &taken, caps);
            let mut consts = vec![
                ("WORKGROUP", Const::U32(config.workgroup)),
                ("TILES", Const::U32(tiles)),
                ("BATCH", Const::U32(batch as u32)),
                ("BITS", Const::U32(quant.bits())),
                ("REAL_ZEROS", Const::Bool(quant.real_zeros())),
                ("GROUP", Const::U32(group as u32)),
                ("SEGMENT", Const::U32(segment as u32)),
            ];
            consts.extend(held.consts);
            let mut fragments = vec![
                fragment!("linear"),
                fragment!("y_words"),
                problem.bias_fragment(),
                Load::Quads.fragment(),
                fragment!("scale"),
                fragment!("fours"),
                shader!("gemv_bytes"),
            ];
            fragments.extend(held.fragments);
            let workgroup_bytes = held.bytes;
            dispatches.extend(parts.iter().enumerate().map(|(i, part)| {
                let mut launch = Dispatch {
                    consts: consts.clone(),
                    fragments: fragments.clone(),
                    params: problem.params(part, 0, vector_base),
                    operands: problem.operands(problem::X, i, false, true),
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

/// The codes of a weight, if they are of every column and may meet integers of x.
fn codes(problem: &Problem) -> Option<Quant> {
    match problem.format {
        Format::Quantized {
            pattern: None,
            quant,
        } if Precision::I8.serves(problem.format) => Some(quant),
        _ => None,
    }
}
