//! `gqs_gemv`: group-pruned, group-quantised weights.
//!
//! [`Config`]: a workgroup sums the `rows` of a panel; a lane takes `words` of codes at a time:
//! whole groups, or a whole piece of one. Variants name the loads of codes, then those of x.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment, layout,
    packet::Load,
    problem::{self, unfit},
    shader,
    variant::{self, X},
};
use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::{Format, GroupPruning, Quant},
};

/// Vectors that one launch takes at most.
const MAX_BATCH: usize = 8;

const VARIANTS: &[(&str, Load, X)] = &[
    ("words", Load::Words, X::Direct),
    ("words-x4", Load::Words, X::Quads),
    ("words-pairs", Load::Words, X::Pairs),
    ("quads", Load::Quads, X::Direct),
    ("quads-x4", Load::Quads, X::Quads),
    ("pairs-x4", Load::Pairs, X::Pairs),
];

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
        let batch = problem.batch.clamp(1, MAX_BATCH) as u32;
        let config = |variant, workgroup: u32, words: u32| Config {
            variant,
            // A lane has sums of its own for every row and vector.
            workgroup: (workgroup / batch.next_power_of_two()).max(8),
            rows: layout::PANEL_ROWS as u32,
            batch,
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
                config("pairs-x4", lanes, 4),
                config("words-pairs", lanes, unit),
                config("words", lanes, unit),
            ],
            DeviceClass::Gpu => vec![
                config("quads-x4", 512, 4),
                config("quads-x4", 256, 4),
                config("words-x4", 512, group),
                config("words-x4", 256, unit),
                config("quads", 128, 4),
                config("words", 128, unit),
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
        let found = VARIANTS.iter().find(|v| v.0 == config.variant);
        let &(_, load, x) = found.ok_or_else(|| Error::NoKernel {
            problem: problem.to_string(),
            reasons: config.to_string(),
        })?;
        let Format::Gqs { quant, pruning } = problem.format else {
            return Err(unfit("kept groups of a row", 0, "group-pruned weights"));
        };
        let group_words = layout::group_words(quant, problem.cols);
        let words = config.words as usize;
        let loads = match load {
            Load::Words => 1,
            Load::Quads | Load::Pairs => 4,
            Load::Octs => 8,
        };
        if words % loads != 0 || (words % group_words != 0 && group_words % words != 0) {
            let needed = "whole groups, or whole pieces of one, in whole loads";
            return Err(unfit("words of a packet", words, needed));
        }
        if layout::BLOCK % (words / group_words).max(1) != 0 {
            return Err(unfit(
                "words of a packet",
                words,
                "to divide a block of 32 groups",
            ));
        }
        let mut dispatches = vec![];
        for vector_base in (0..problem.batch).step_by(MAX_BATCH) {
            let batch = MAX_BATCH.min(problem.batch - vector_base);
            let mut consts = vec![
                ("WORKGROUP", Const::U32(config.workgroup)),
                ("BATCH", Const::U32(batch as u32)),
                ("WORDS", Const::U32(config.words)),
            ];
            consts.extend(group_consts(quant, pruning, problem.cols));
            let mut fragments = vec![
                fragment!("linear"),
                problem.bias_fragment(),
                problem::code_fragment(caps.class),
                fragment!("scale"),
                variant::x_fragment(x, problem.cols)?,
                load.fragment(),
            ];
            if !load.words() {
                fragments.push(fragment!("index_words"));
            }
            fragments.push(shader!("gqs_gemv"));
            dispatches.extend(parts.iter().enumerate().map(|(i, part)| Dispatch {
                name: format!("gqs_gemv/{config} {}", problem.format),
                consts: consts.clone(),
                fragments: fragments.clone(),
                params: problem.params(part, 0, vector_base),
                operands: problem.operands(problem::X, i, true, !load.words()),
                invocations: config.workgroup,
                workgroup_bytes: config.rows * batch as u32 * config.workgroup * 4,
                int64: load.int64() || x.int64(),
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
fn group_consts(quant: Quant, pruning: GroupPruning, cols: usize) -> Vec<(&'static str, Const)> {
    let group = quant.group_cols(cols);
    let number = |value: usize| Const::U32(value as u32);
    vec![
        ("PANEL", number(layout::PANEL_ROWS)),
        ("BLOCK", number(layout::BLOCK)),
        ("BITS", Const::U32(quant.bits())),
        ("GROUP", number(group)),
        ("GROUP_WORDS", number(layout::group_words(quant, cols))),
        ("SCALE_WORDS", number(layout::scale_words(quant, pruning))),
        ("ZERO_BITS", Const::U32(layout::zero_bits(quant))),
        ("MIDDLE", Const::F32(f32::from(quant.middle()))),
        ("EDGE", Const::Bool(cols % group != 0)),
    ]
}
