//! `gqs_gemv`: ragged group-pruned, group-quantised weights on GPUs.
//!
//! [`Config`]: a workgroup sums the `rows` of a panel; a lane loads `words` of codes at a time: whole groups, or
//! whole pieces of one. Variants name the loads of codes, then those of x, or that x comes in `bytes`. In `tasks`
//! variants workgroups take equal ranges of kept groups instead of panels, and a second launch adds what they find.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, check_launches, fragment,
    packet::Load,
    panels::{self, check_panels},
    problem::{self, unfit},
    quantize::{Packing, Quotients, Source},
    shader,
    sum::Sum,
    variant::{self, X},
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Precision, block_cols},
};

/// Vectors that one launch takes at most.
const MAX_BATCH: usize = 4;

/// Most numbers of x that a piece meets in all vectors of a launch: eight vectors of 16 spill, 11 ms at 4096 x
/// 4096 on an H100, where two take 12 µs.
const MOST_MET: usize = 32;

/// How x is taken.
#[derive(Clone, Copy, PartialEq)]
enum Taken {
    Numbers(X),
    /// As integers that a launch in front makes.
    Bytes,
}

impl Taken {
    /// Refuses a problem that asks for x otherwise.
    fn check(self, problem: &Problem) -> Result<()> {
        let precision = problem.precision;
        let right = match self {
            Self::Numbers(_) => precision != Precision::I8,
            Self::Bytes => precision == Precision::I8,
        };
        let bytes = if precision == Precision::I8 { 1 } else { 4 };
        let needed = "as many as this candidate reads";
        right
            .then_some(())
            .ok_or_else(|| unfit("bytes of a number of x", bytes, needed))
    }
}

/// How codes are loaded, and x is taken.
const VARIANTS: &[(&str, Load, Taken)] = &[
    ("words", Load::Words, Taken::Numbers(X::Direct)),
    ("quads-x4", Load::Quads, Taken::Numbers(X::Quads)),
    ("tasks-words", Load::Words, Taken::Numbers(X::Direct)),
    ("tasks-quads-x4", Load::Quads, Taken::Numbers(X::Quads)),
    ("bytes", Load::Words, Taken::Bytes),
    ("quads-bytes", Load::Quads, Taken::Bytes),
];

/// Tasks of a launch: enough for every processor, few enough for adding their pieces to cost little.
const TASKS: u32 = 512;

pub struct GqsGemv;

impl Kernel for GqsGemv {
    fn name(&self) -> &'static str {
        "gqs_gemv"
    }

    fn takes(&self, precision: Precision) -> bool {
        precision != Precision::F16
    }

    fn for_few(&self) -> bool {
        true
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Format::Gqs { quant, pruning } = problem.format else {
            return vec![];
        };
        if caps.class != DeviceClass::Gpu || !pruning.ragged() {
            return vec![];
        }
        let piece = quant
            .group_cols(problem.cols)
            .min(128 / quant.bits() as usize);
        let most = match problem.precision {
            Precision::I8 => MAX_BATCH,
            _ => (MOST_MET / piece.max(1)).clamp(1, MAX_BATCH),
        };
        let batch = problem.batch.clamp(1, most) as u32;
        let config = |variant, workgroup: u32, words: u32| Config {
            variant,
            workgroup,
            rows: panels::ROWS as u32,
            batch,
            words,
        };
        // A lane has sums of its own for every row and vector: more vectors, fewer lanes.
        let wide = |workgroup: u32| (workgroup / batch.next_power_of_two()).max(16);
        let words = |words| panels::load_words(quant, problem.cols, words);
        if problem.precision == Precision::I8 {
            let block = block_cols(quant) as u32 * quant.bits() / 32;
            return vec![
                config("quads-bytes", wide(256), words(4)),
                config("quads-bytes", wide(512), words(4)),
                config("bytes", wide(128), block),
            ];
        }
        let mut configs = vec![
            config("quads-x4", wide(256), words(4)),
            config("quads-x4", wide(512), words(4)),
            config("words", wide(128), words(quant.bits().div_ceil(4))),
            config("tasks-quads-x4", wide(256), words(4)),
            config("tasks-words", wide(128), words(quant.bits().div_ceil(4))),
        ];
        // Fewer panels than processors: more lanes each.
        if problem.rows.div_ceil(panels::ROWS) <= 64 {
            configs.swap(0, 1);
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
        let found = VARIANTS.iter().find(|v| v.0 == config.variant);
        let &(_, load, taken) = found.ok_or_else(|| problem.unknown(config))?;
        check_panels(parts, config)?;
        taken.check(problem)?;
        let mut consts = consts(problem, config, load, taken)?;
        let by_tasks = config.by_tasks();
        let mut fragments = vec![
            fragment!("linear"),
            fragment!("y_words"),
            // Tasks leave the bias to the launch that adds.
            if by_tasks {
                fragment!("bias_none")
            } else {
                problem.bias_fragment()
            },
            fragment!("scale"),
            fragment!("slot"),
            load.fragment(),
            if pairs(problem, config, load) {
                fragment!("slots_pair")
            } else {
                fragment!("slots_words")
            },
            shader!("gqs_gemv"),
        ];
        let source = source(problem, taken, caps)?;
        consts.extend(source.consts);
        fragments.extend(source.fragments);
        let turns = problem.batch.div_ceil(config.batch.max(1) as usize);
        check_launches(turns.saturating_mul(parts.len()))?;
        let mut dispatches = source.launches;
        if !load.words() {
            fragments.push(fragment!("index_words"));
        }
        if by_tasks {
            consts.push(("TASKS", Const::U32(TASKS)));
            fragments.extend([fragment!("tasks"), shader!("gqs_tasks")]);
        } else {
            fragments.push(shader!("gqs_panels"));
        }

        for vector_base in (0..problem.batch).step_by(config.batch.max(1) as usize) {
            let batch = (config.batch as usize).min(problem.batch - vector_base) as u32;
            consts[0] = ("BATCH", Const::U32(batch));
            for (i, part) in parts.iter().enumerate() {
                let panels = part.rows.div_ceil(config.rows);
                let workgroups = if by_tasks { TASKS } else { panels };
                let launch = Dispatch {
                    consts: consts.clone(),
                    fragments: fragments.clone(),
                    params: problem.params(part, source.stride, vector_base),
                    operands: problem.operands(source.operand, i, true, !load.words()),
                    workgroup_bytes: config.rows * batch * config.workgroup * 4,
                    scratch_bytes: source.scratch_bytes,
                    ..problem.launch(self, config, workgroups.into(), caps)
                };
                if by_tasks {
                    let sum = Sum {
                        name: "gqs_sum",
                        consts: vec![
                            ("BATCH", Const::U32(batch)),
                            ("PANEL", Const::U32(config.rows)),
                            ("BLOCK", Const::U32(panels::BLOCK as u32)),
                            ("TASKS", Const::U32(TASKS)),
                        ],
                        fragments: vec![
                            fragment!("index_words"),
                            fragment!("tasks"),
                            shader!("gqs_sum"),
                        ],
                        reads_part: true,
                        pieces: u64::from(TASKS + panels) * u64::from(config.rows * batch),
                        lanes: part.rows.into(),
                    };
                    dispatches.extend(sum.after(launch, problem, i, caps));
                } else {
                    dispatches.push(launch);
                }
            }
        }
        Ok(dispatches)
    }
}

/// x, and the fragments that multiply slots by it.
fn source(problem: &Problem, taken: Taken, caps: &Caps) -> Result<Source> {
    match taken {
        Taken::Numbers(x) => Ok(Source::caller(vec![
            problem::code_fragment(DeviceClass::Gpu),
            variant::x_fragment(x, problem.cols)?,
            fragment!("slot_floats"),
        ])),
        Taken::Bytes => {
            let quant = problem.format.quant();
            let group = quant.map_or(1, |q| q.group_cols(problem.cols));
            let quotients = Quotients::new(problem, Packing::Bytes, group, caps)?;
            let [pack, dot] = Packing::Bytes.fragments();
            Ok(quotients.source(vec![
                pack,
                dot,
                fragment!("quotients_quads"),
                fragment!("slot_zero"),
                fragment!("slot_bytes"),
            ]))
        }
    }
}

/// Whether a load brings two slots, whose scales then lie in one half of 16 bytes.
fn pairs(problem: &Problem, config: &Config, load: Load) -> bool {
    let Format::Gqs { quant, pruning } = problem.format else {
        return false;
    };
    !load.words()
        && config.words as usize == 2 * panels::group_words(quant, problem.cols)
        && panels::scale_words(quant, pruning) == 1
}

/// Consts of the launch, `BATCH` first.
///
/// # Errors
/// Where `config` loads no whole groups or pieces.
fn consts(
    problem: &Problem,
    config: &Config,
    load: Load,
    taken: Taken,
) -> Result<Vec<(&'static str, Const)>> {
    let Format::Gqs { quant, pruning } = problem.format else {
        return Err(unfit("kept groups of a row", 0, "group-pruned weights"));
    };
    let cols = problem.cols;
    let (words, group_words) = (config.words as usize, panels::group_words(quant, cols));
    let loads = if load.words() { 1 } else { 4 };
    let slot_words = words.min(group_words);
    if words % loads != 0 || words % slot_words != 0 || group_words % slot_words != 0 {
        let needed = "whole groups, or whole pieces of one, in whole loads";
        return Err(unfit("words of a load", words, needed));
    }
    let slots = words / slot_words;
    if panels::BLOCK % slots != 0 {
        let needed = "a divisor of a block of slots";
        return Err(unfit("slots of a load", slots, needed));
    }
    let group = quant.group_cols(cols);
    let piece = panels::piece(quant, cols, words);
    if taken == Taken::Bytes && !piece.is_multiple_of(block_cols(quant)) {
        return Err(unfit("columns of a piece", piece, "whole blocks of x"));
    }
    let number = |value: usize| Const::U32(value as u32);
    let scale_words = panels::scale_words(quant, pruning);
    Ok(vec![
        ("BATCH", Const::U32(config.batch)),
        ("WORKGROUP", Const::U32(config.workgroup)),
        ("WORDS", number(words)),
        ("SLOT_WORDS", number(slot_words)),
        ("PANEL", number(panels::ROWS)),
        ("BLOCK", number(panels::BLOCK)),
        ("BITS", Const::U32(quant.bits())),
        ("GROUP", number(group)),
        ("GROUP_WORDS", number(group_words)),
        ("SCALE_WORDS", number(scale_words)),
        ("ZERO_BITS", Const::U32(panels::zero_bits(quant))),
        ("MIDDLE", Const::F32(f32::from(quant.middle()))),
        ("EDGE", Const::Bool(cols % group != 0)),
    ])
}
