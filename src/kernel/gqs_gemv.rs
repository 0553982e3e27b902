//! `gqs_gemv`: group-pruned, group-quantised weights.
//!
//! [`Config`]: `rows` are summed by one workgroup, one after the other; a lane takes `words` of
//! codes at a time: whole groups, or a whole piece of one. Variants are those of `gemv`.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment, layout,
    packet::Load,
    problem::{self, unfit},
    shader,
    variant::{Reduce, Variant},
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Quant},
};

/// Vectors that one launch takes at most.
const MAX_BATCH: usize = 8;

pub struct GqsGemv;

impl Kernel for GqsGemv {
    fn name(&self) -> &'static str {
        "gqs_gemv"
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Format::Gqs { quant, .. } = problem.format else {
            return vec![];
        };
        let group = layout::group_words(quant, problem.cols) as u32;
        let config = |variant, workgroup, rows, words: u32| Config {
            variant,
            workgroup,
            rows,
            batch: problem.batch.min(MAX_BATCH) as u32,
            // Whole groups, or whole pieces of one in whole chunks of 8 columns.
            words: if words % group == 0
                || (group % words == 0 && words * 32 % (8 * quant.bits()) == 0)
            {
                words
            } else {
                group
            },
        };
        // The fewest words that hold whole chunks of 8 codes.
        let unit = quant.bits().div_ceil(4);
        let lanes = caps.subgroups.map_or(8, |s| s.min);
        match caps.class {
            DeviceClass::Cpu => vec![
                config("one-pairs-x4", lanes, 4, 4),
                config("one-pairs-x4", lanes, 1, 4),
                config("one-x4", lanes, 4, unit),
                config("one", lanes, 4, unit),
                config("portable", 8, 1, unit),
            ],
            DeviceClass::Gpu => vec![
                config("subgroup-quads-x4", 32, 1, 4),
                config("subgroup-quads-x4", 64, 2, 4),
                config("subgroup-quads-staged", 256, 4, 4),
                config("subgroup", 64, 1, unit),
                config("portable-quads", 64, 1, 4),
                config("portable", 64, 1, unit),
            ],
        }
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let variant = Variant::of(config, problem)?;
        let Format::Gqs { quant, .. } = problem.format else {
            return Err(unfit("kept groups of a row", 0, "group-pruned weights"));
        };
        let group_words = layout::group_words(quant, problem.cols);
        let words = config.words as usize;
        let loads = match variant.load {
            Load::Words => 1,
            Load::Quads | Load::Pairs => 4,
            Load::Octs => 8,
        };
        if words % loads != 0 || (words % group_words != 0 && group_words % words != 0) {
            let needed = "whole groups, or whole pieces of one, in whole loads";
            return Err(unfit("words of a packet", words, needed));
        }
        let mut dispatches = vec![];
        for vector_base in (0..problem.batch).step_by(MAX_BATCH) {
            let batch = MAX_BATCH.min(problem.batch - vector_base);
            let frame = variant.frame(config, problem.cols, batch, caps)?;
            let mut consts = frame.consts;
            consts.extend(group_consts(quant, problem.cols));
            let mut fragments = vec![
                fragment!("linear"),
                problem.bias_fragment(),
                fragment!("code"),
            ];
            fragments.push(variant.load.fragment());
            if !variant.load.words() {
                fragments.push(fragment!("index_words"));
            }
            fragments.extend(frame.fragments);
            fragments.push(shader!("gqs_gemv"));
            dispatches.extend(parts.iter().enumerate().map(|(i, part)| Dispatch {
                name: format!("gqs_gemv/{config} {}", problem.format),
                consts: consts.clone(),
                fragments: fragments.clone(),
                params: problem.params(part, 0, vector_base),
                operands: problem.operands(problem::X, i, true, !variant.load.words()),
                invocations: config.workgroup,
                workgroup_bytes: frame.workgroup_bytes,
                subgroups: variant.reduce != Reduce::Shared,
                int64: variant.load.int64() || variant.x.int64(),
                grid: super::fold(
                    u64::from(part.rows.div_ceil(config.rows)),
                    caps.max_workgroups,
                ),
                ..Dispatch::default()
            }));
        }
        Ok(dispatches)
    }
}

/// Consts that describe the kept groups.
fn group_consts(quant: Quant, cols: usize) -> Vec<(&'static str, Const)> {
    let group = quant.group_cols(cols);
    let number = |value: usize| Const::U32(value as u32);
    vec![
        ("BITS", Const::U32(quant.bits())),
        ("GROUP", number(group)),
        ("GROUP_WORDS", number(layout::group_words(quant, cols))),
        ("SCALE_WORDS", number(layout::scale_words(quant, cols))),
        ("ZERO_BITS", Const::U32(layout::zero_bits(quant))),
        ("MIDDLE", Const::F32(f32::from(quant.middle()))),
        ("EDGE", Const::Bool(cols % group != 0)),
    ]
}
