//! `gqs_lanes`: group-pruned, group-quantised weights times any batch on CPU adapters, lanes along
//! the batch.
//!
//! [`Config`]: a workgroup sums the `rows` of a panel for `batch` vectors; a lane decodes `words` of
//! codes at a time, those of a kept group. Variants are `spread` and `portable`, as in
//! `gqs_runs`.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment,
    gqs_runs::{self, parts_of},
    packet::Load,
    panels::{self, check_panels},
    problem::{self, unfit},
    runs, shader,
    variant::{self, X},
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::Format,
};

/// Vectors of a lane at most.
const MOST_STRIPS: u32 = 4;

/// Values of x that a lane holds at most: longer bodies are not unrolled.
const MOST_HELD: usize = 192;

pub struct GqsLanes;

impl Kernel for GqsLanes {
    fn name(&self) -> &'static str {
        "gqs_lanes"
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Format::Gqs { quant, .. } = problem.format else {
            return vec![];
        };
        if caps.class != DeviceClass::Cpu {
            return vec![];
        }
        let held = MOST_HELD / quant.group_cols(problem.cols);
        let config = |variant, lanes: u32| {
            let rows = runs::ROWS as u32;
            let needed = (problem.batch as u32).div_ceil(lanes).max(1);
            // What the lanes sum must fit the workgroup memory.
            let room = caps.max_workgroup_bytes / (rows * lanes * 4);
            let most = room.min(held as u32).clamp(1, MOST_STRIPS);
            // As few tiles as hold the batch, all alike.
            let strips = needed.div_ceil(needed.div_ceil(most));
            Config {
                variant,
                workgroup: lanes,
                rows,
                batch: lanes * strips,
                words: panels::group_words(quant, problem.cols) as u32,
            }
        };
        vec![
            config("spread", caps.subgroups.map_or(8, |s| s.min)),
            config("portable", 8),
        ]
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let Format::Gqs { quant, .. } = problem.format else {
            return Err(unfit("kept groups of a row", 0, "group-pruned weights"));
        };
        check_panels(parts, config)?;
        let spread = config.variant == "spread";
        gqs_runs::check_subgroup(config, caps)?;
        let load = match config.words % 8 {
            _ if !spread => Load::Words,
            0 => Load::Octs,
            4 => Load::Pairs,
            2 | 6 => Load::Longs,
            _ => Load::Words,
        };
        let group = quant.group_cols(problem.cols);
        let edge = problem.cols % group != 0 || problem.cols % 4 != 0;
        let x = if spread && !edge { X::Pairs } else { X::Direct };
        let mut fragments = vec![
            fragment!("linear"),
            problem.y_fragment(parts, x.int64().then_some(fragment!("y_pairs"))),
            problem.bias_fragment(),
            load.fragment(),
            fragment!("code_quad"),
            fragment!("scale"),
            variant::x_fragment(x, problem.cols)?,
            fragment!("pieces"),
            if spread {
                fragment!("hold_spread")
            } else {
                fragment!("hold_each")
            },
            shader!("gqs_lanes"),
        ];
        if !load.words() {
            fragments.push(fragment!("index_words"));
        }
        let strips = config.batch / config.workgroup;
        let consts = vec![
            ("LANES", Const::U32(config.workgroup)),
            ("PANEL", Const::U32(config.rows)),
            ("STRIPS", Const::U32(strips)),
            ("WORDS", Const::U32(config.words)),
            ("BITS", Const::U32(quant.bits())),
            ("GROUP", Const::U32(group as u32)),
            ("PARTS", Const::U32(parts_of(group as u32))),
            ("ZERO_BITS", Const::U32(panels::zero_bits(quant))),
            ("MIDDLE", Const::F32(f32::from(quant.middle()))),
            ("EDGE", Const::Bool(edge)),
        ];
        let across = problem.batch.div_ceil(config.batch as usize) as u64;
        let launch = |(i, part): (usize, &PartLayout)| Dispatch {
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, 0, 0),
            operands: problem.operands(problem::X, i, true, !load.words()),
            workgroup_bytes: config.rows * config.batch * 4,
            subgroups: spread,
            int64: load.int64() || x.int64(),
            ..problem.launch(self, config, config.tiles(part) * across, caps)
        };
        Ok(parts.iter().enumerate().map(launch).collect())
    }
}
