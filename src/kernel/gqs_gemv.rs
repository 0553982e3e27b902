//! `gqs_gemv`: group-pruned, group-quantised weights.
//!
//! [`Config`]: a workgroup sums the `rows` of a panel; a lane loads `words` of codes at a time:
//! whole groups, or whole pieces of one. Variants name the loads of codes, then those of x;
//! behind `tasks`, workgroups take equal ranges of kept groups instead of panels, and a second
//! launch adds what they find.

use super::{
    Config, Const, Dispatch, Kernel, Operand, PartLayout, Problem, Role, fragment,
    packet::Load,
    panels::{self, Panels},
    problem::{self, unfit},
    shader,
    variant::{self, X},
};
use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::Format,
};

/// Vectors that one launch takes at most.
const MAX_BATCH: usize = 8;

const VARIANTS: &[(&str, Load, X)] = &[
    ("words", Load::Words, X::Direct),
    ("words-pairs", Load::Words, X::Pairs),
    ("quads-x4", Load::Quads, X::Quads),
    ("pairs-x4", Load::Pairs, X::Pairs),
    ("tasks-words", Load::Words, X::Direct),
    ("tasks-quads-x4", Load::Quads, X::Quads),
    ("tasks-pairs-x4", Load::Pairs, X::Pairs),
];

/// Lanes of a workgroup of `gqs_sum`.
const SUM_LANES: u32 = 64;

/// Whether the candidate takes equal ranges of kept groups, whatever panels hold.
pub(super) fn is_task_centric(config: &Config) -> bool {
    config.variant.starts_with("tasks")
}

/// Tasks of a launch: enough for every processor, few enough for their pieces to be a trifle.
const fn tasks(class: DeviceClass) -> u32 {
    match class {
        DeviceClass::Gpu => 512,
        DeviceClass::Cpu => 32,
    }
}

pub struct GqsGemv;

impl Kernel for GqsGemv {
    fn name(&self) -> &'static str {
        "gqs_gemv"
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Format::Gqs { quant, .. } = problem.format else {
            return vec![];
        };
        let group = panels::group_words(quant, problem.cols) as u32;
        let panels = Panels::of(caps.class);
        let batch = problem.batch.clamp(1, MAX_BATCH) as u32;
        let config = |variant, workgroup: u32, words: u32| Config {
            variant,
            workgroup,
            rows: panels.rows as u32,
            batch,
            words,
        };
        let lanes = caps.subgroups.map_or(8, |s| s.min);
        if caps.class == DeviceClass::Cpu {
            let piece = panels::piece_words(quant, problem.cols) as u32;
            let few = |workgroup, config: Config| Config {
                // What a lane sums must fit the workgroup memory.
                batch: batch.min(caps.max_workgroup_bytes / (config.rows * workgroup * 4)),
                ..config
            };
            return vec![
                few(lanes, config("pairs-x4", lanes, 4 * piece.div_ceil(4))),
                few(lanes, config("words-pairs", lanes, piece)),
                few(8, config("words", 8, piece)),
                few(
                    lanes,
                    config("tasks-pairs-x4", lanes, 4 * piece.div_ceil(4)),
                ),
                few(8, config("tasks-words", 8, piece)),
            ];
        }
        // A lane has sums of its own for every row and vector.
        let wide = |workgroup: u32| (workgroup / batch.next_power_of_two()).max(16);
        // Whole groups, or whole pieces of one in whole chunks of 8 columns.
        let words = |words: u32| {
            let pieces = group % words == 0 && words * 32 % (8 * quant.bits()) == 0;
            if words % group == 0 || pieces {
                words
            } else {
                group
            }
        };
        vec![
            config("quads-x4", wide(256), words(4)),
            config("quads-x4", wide(512), words(4)),
            config("words", wide(128), words(quant.bits().div_ceil(4))),
            config("tasks-quads-x4", wide(256), words(4)),
            config("tasks-words", wide(128), words(quant.bits().div_ceil(4))),
        ]
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
        if let Some(part) = parts.iter().find(|p| p.panel_rows != config.rows) {
            let (rows, needed) = (part.panel_rows, "those that the candidate sums");
            return Err(unfit("rows of a panel", rows as usize, needed));
        }
        let mut consts = consts(problem, config, load)?;
        let by_tasks = is_task_centric(config);
        let mut fragments = vec![
            fragment!("linear"),
            // Tasks leave the bias to the launch that adds.
            if by_tasks {
                fragment!("bias_none")
            } else {
                problem.bias_fragment()
            },
            problem::code_fragment(caps.class),
            fragment!("scale"),
            variant::x_fragment(x, problem.cols)?,
            load.fragment(),
            shader!("gqs_gemv"),
        ];
        if !load.words() {
            fragments.push(fragment!("index_words"));
        }
        if by_tasks {
            consts.push(("TASKS", Const::U32(tasks(caps.class))));
            fragments.extend([fragment!("tasks"), shader!("gqs_tasks")]);
        } else {
            fragments.push(shader!("gqs_panels"));
        }

        let mut dispatches = vec![];
        for vector_base in (0..problem.batch).step_by(config.batch.max(1) as usize) {
            let batch = (config.batch as usize).min(problem.batch - vector_base) as u32;
            consts[0] = ("BATCH", Const::U32(batch));
            for (i, part) in parts.iter().enumerate() {
                let panels = part.rows.div_ceil(config.rows);
                let launch = Dispatch {
                    name: format!("gqs_gemv/{config} {}", problem.format),
                    consts: consts.clone(),
                    fragments: fragments.clone(),
                    params: problem.params(part, 0, vector_base),
                    operands: problem.operands(problem::X, i, true, !load.words()),
                    invocations: config.workgroup,
                    workgroup_bytes: config.rows * batch * config.workgroup * 4,
                    int64: load.int64() || x.int64(),
                    grid: super::fold(u64::from(panels), caps.max_workgroups),
                    ..Dispatch::default()
                };
                if by_tasks {
                    dispatches.extend(in_tasks(launch, problem, (i, part), batch, caps));
                } else {
                    dispatches.push(launch);
                }
            }
        }
        Ok(dispatches)
    }
}

/// Turns a launch over panels into one over tasks, which leave what they find in scratch, and one
/// that adds it to y.
fn in_tasks(
    mut launch: Dispatch,
    problem: &Problem,
    (number, part): (usize, &PartLayout),
    batch: u32,
    caps: &Caps,
) -> [Dispatch; 2] {
    let tasks = tasks(caps.class);
    let pieces = u64::from(tasks + part.rows.div_ceil(part.panel_rows));
    launch.scratch_bytes = pieces * u64::from(part.panel_rows * batch) * 4;
    launch.grid = super::fold(u64::from(tasks), caps.max_workgroups);
    launch.operands.retain(|o| o.name != "bias");
    for operand in launch.operands.iter_mut().filter(|o| o.name == "y") {
        operand.role = Role::Scratch;
    }
    let panels = Panels::with_rows(part.panel_rows as usize);
    let sum = Dispatch {
        name: format!("gqs_sum {}", problem.format),
        consts: vec![
            ("WORKGROUP", Const::U32(SUM_LANES)),
            ("BATCH", Const::U32(batch)),
            ("PANEL", Const::U32(part.panel_rows)),
            ("BLOCK", Const::U32(panels.block as u32)),
            ("TASKS", Const::U32(tasks)),
        ],
        fragments: vec![
            fragment!("linear"),
            problem.bias_fragment(),
            fragment!("index_words"),
            fragment!("tasks"),
            shader!("gqs_sum"),
        ],
        params: launch.params.clone(),
        operands: problem.operands(
            Operand::read("pieces", 1, Role::Scratch),
            number,
            true,
            false,
        ),
        invocations: SUM_LANES,
        scratch_bytes: launch.scratch_bytes,
        grid: super::fold(
            u64::from(part.rows.div_ceil(SUM_LANES)),
            caps.max_workgroups,
        ),
        ..Dispatch::default()
    };
    [launch, sum]
}

/// Consts of the launch, the vectors' first.
///
/// # Errors
/// Where `config` loads no whole groups or pieces.
fn consts(problem: &Problem, config: &Config, load: Load) -> Result<Vec<(&'static str, Const)>> {
    let Format::Gqs { quant, pruning } = problem.format else {
        return Err(unfit("kept groups of a row", 0, "group-pruned weights"));
    };
    let cols = problem.cols;
    let panels = Panels::with_rows(config.rows as usize);
    let (words, group_words) = (config.words as usize, panels::group_words(quant, cols));
    let loads = match load {
        Load::Words => 1,
        Load::Quads | Load::Pairs => 4,
        Load::Octs => 8,
    };
    let slot_words = if panels.share > 1 {
        panels::piece_words(quant, cols)
    } else {
        words.min(group_words)
    };
    if words % loads != 0 || words % slot_words != 0 || group_words % slot_words != 0 {
        let needed = "whole groups, or whole pieces of one, in whole loads";
        return Err(unfit("words of a load", words, needed));
    }
    let slots = words / slot_words;
    let item = slots.max(panels.share);
    if panels.block % item != 0 || item % slots != 0 {
        let needed = "a divisor of a block of slots";
        return Err(unfit("slots of a load", slots, needed));
    }
    let group = quant.group_cols(cols);
    let number = |value: usize| Const::U32(value as u32);
    let scale_words = panels::scale_words(quant, pruning, panels);
    Ok(vec![
        ("BATCH", Const::U32(config.batch)),
        ("WORKGROUP", Const::U32(config.workgroup)),
        ("WORDS", number(words)),
        ("ITEM", number(item)),
        ("SLOT_WORDS", number(slot_words)),
        ("PANEL", number(panels.rows)),
        ("SHARE", number(panels.share)),
        ("BLOCK", number(panels.block)),
        ("BITS", Const::U32(quant.bits())),
        ("GROUP", number(group)),
        ("GROUP_WORDS", number(group_words)),
        ("SCALE_WORDS", number(scale_words)),
        ("ZERO_BITS", Const::U32(panels::zero_bits(quant))),
        ("MIDDLE", Const::F32(f32::from(quant.middle()))),
        ("EDGE", Const::Bool(cols % group != 0)),
    ])
}
