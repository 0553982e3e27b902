//! `gqs_tiled`: ragged group-pruned, group-quantised weights times any batch on GPUs, decoded to tiles in
//! workgroup memory.
//!
//! [`Config`]: a workgroup sums the `rows` of a panel for `batch` vectors and stages `words` kept
//! groups at a time. Lanes beyond those that hold the vectors are more teams.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment,
    panels::{self, check_panels},
    problem::unfit,
    quantize::Source,
    shader,
    variant::{self, X},
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Precision},
};

/// Vectors of a lane.
const VECTORS: u32 = 4;

/// Values that are staged at a time.
const STAGED: usize = 1024;

pub struct GqsTiled;

impl Kernel for GqsTiled {
    fn name(&self) -> &'static str {
        "gqs_tiled"
    }

    fn takes(&self, precision: Precision) -> bool {
        precision != Precision::F16
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Format::Gqs { quant, pruning } = problem.format else {
            return vec![];
        };
        if caps.class != DeviceClass::Gpu || !pruning.ragged() {
            return vec![];
        }
        let slots = STAGED / quant.group_cols(problem.cols);
        let chunk = (1 << slots.max(1).ilog2()).min(panels::BLOCK) as u32;
        let config = |workgroup: u32| {
            let team = (problem.batch as u32).div_ceil(VECTORS).next_power_of_two();
            // Every team has a slot of a chunk.
            let team = team.clamp(workgroup.div_ceil(chunk).max(4), workgroup.min(32));
            Config {
                variant: "teams",
                workgroup,
                rows: panels::ROWS as u32,
                batch: VECTORS * team,
                words: chunk,
            }
        };
        vec![config(128), config(64), config(32)]
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let Format::Gqs { quant, pruning } = problem.format else {
            return Err(unfit("kept groups of a row", 0, "group-pruned weights"));
        };
        check_panels(parts, config)?;
        let (cols, team) = (problem.cols, config.batch / VECTORS);
        if config.workgroup % team != 0 || config.words % (config.workgroup / team) != 0 {
            let needed = "whole teams of lanes with slots of their own";
            return Err(unfit("workgroup", config.workgroup as usize, needed));
        }
        let group = quant.group_cols(cols);
        let edge = cols % group != 0 || cols % 4 != 0;
        let x = if edge { X::Direct } else { X::Quads };
        let number = |value: usize| Const::U32(value as u32);
        let mut consts = vec![
            ("WORKGROUP", Const::U32(config.workgroup)),
            ("ACROSS", Const::U32(team)),
            ("PANEL", Const::U32(config.rows)),
            ("BLOCK", number(panels::BLOCK)),
            ("CHUNK", Const::U32(config.words)),
            ("PIECE", number(if group % 16 == 0 { 16 } else { 8 })),
            ("BITS", Const::U32(quant.bits())),
            ("GROUP", number(group)),
            ("GROUP_WORDS", number(panels::group_words(quant, cols))),
            ("SCALE_WORDS", number(panels::scale_words(quant, pruning))),
            ("ZERO_BITS", Const::U32(panels::zero_bits(quant))),
            ("MIDDLE", Const::F32(f32::from(quant.middle()))),
            ("EDGE", Const::Bool(edge)),
        ];
        let mut fragments = vec![
            fragment!("linear"),
            fragment!("y_words"),
            problem.bias_fragment(),
            fragment!("scale"),
            fragment!("slot"),
            fragment!("index_words"),
            shader!("gqs_tiled"),
        ];
        let source = Source::numbers(problem, variant::x_fragment(x, cols)?, caps)?;
        consts.extend(source.consts);
        fragments.extend(source.fragments);
        let mut dispatches = source.launches;
        let staged = config.words * (group as u32 * 4 + 8);
        let across = problem.batch.div_ceil(config.batch as usize) as u64;
        let launch = |(i, part): (usize, &PartLayout)| Dispatch {
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, source.stride, 0),
            operands: problem.operands(source.operand, i, true, false),
            workgroup_bytes: staged + config.rows * config.workgroup * 16,
            scratch_bytes: source.scratch_bytes,
            ..problem.launch(self, config, config.tiles(part) * across, caps)
        };
        dispatches.extend(parts.iter().enumerate().map(launch));
        Ok(dispatches)
    }
}
