//! `gqs_runs`: group-pruned, group-quantised weights on CPU adapters.
//!
//! [`Config`]: a workgroup sums the `rows` of a panel, or a piece of one; a lane loads `words` of codes at a
//! time, those of two kept groups. In `tasks` variants panels that keep far more than others are cut into pieces,
//! and a second launch adds what they find. `spread` variants load x once for all lanes, in one subgroup, and the
//! weight by 64-bit integers; `portable` ones do without either.

use super::{
    Config, Const, Dispatch, Kernel, Operand, PartLayout, Problem, Role, check_launches, fragment,
    packet::Load,
    panels::{self, check_panels},
    problem::unfit,
    quantize::Source,
    runs, shader,
    sum::Sum,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Precision},
};
use std::borrow::Cow;

/// Vectors that one launch takes at most.
const MAX_BATCH: usize = 8;

/// Values of x that a lane holds at most: longer bodies are not unrolled (at 192 three vectors of 64
/// columns took three times as long as two).
const MOST_HELD: usize = 128;

pub struct GqsRuns;

impl Kernel for GqsRuns {
    fn name(&self) -> &'static str {
        "gqs_runs"
    }

    fn takes(&self, precision: Precision) -> bool {
        precision != Precision::F16
    }

    fn for_few(&self) -> bool {
        true
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let Format::Gqs { quant, .. } = problem.format else {
            return vec![];
        };
        if caps.class != DeviceClass::Cpu {
            return vec![];
        }
        let held = (MOST_HELD / quant.group_cols(problem.cols)).max(1);
        let batch = problem.batch.clamp(1, MAX_BATCH).min(held) as u32;
        let config = |variant, workgroup: u32| Config {
            variant,
            workgroup,
            rows: runs::ROWS as u32,
            // What the lanes sum must fit the workgroup memory.
            batch: batch.min(caps.max_workgroup_bytes / (runs::ROWS as u32 * workgroup * 4)),
            words: (runs::PAIR * panels::group_words(quant, problem.cols)) as u32,
        };
        let lanes = caps.subgroups.map_or(8, |s| s.min);
        let mut configs = vec![config("spread", lanes), config("portable", 8)];
        // The sums of pieces lie in scratch, where x in bytes would.
        if problem.precision != Precision::I8 {
            configs.extend([config("tasks-spread", lanes), config("tasks-portable", 8)]);
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
        let Format::Gqs { quant, .. } = problem.format else {
            return Err(unfit("kept groups of a row", 0, "group-pruned weights"));
        };
        check_panels(parts, config)?;
        if config.batch == 0 {
            return Err(unfit("vectors", 0, "at least one, in the workgroup memory"));
        }
        if problem.precision == Precision::I8 && config.by_tasks() {
            return Err(unfit("bytes of x", 1, "four where work is cut into pieces"));
        }
        let spread = config.variant.ends_with("spread");
        check_subgroup(config, caps)?;
        let load = match config.words % 8 {
            _ if !spread => Load::Words,
            0 => Load::Octs,
            4 => Load::Pairs,
            _ => Load::Longs,
        };
        let mut fragments = fragments(load, spread);
        let group = quant.group_cols(problem.cols) as u32;
        let mut consts = vec![
            ("LANES", Const::U32(config.workgroup)),
            ("PANEL", Const::U32(config.rows)),
            ("PAIR", Const::U32(runs::PAIR as u32)),
            ("WORDS", Const::U32(config.words)),
            ("BITS", Const::U32(quant.bits())),
            ("GROUP", Const::U32(group)),
            ("GROUP_WORDS", Const::U32(config.words / runs::PAIR as u32)),
            ("PARTS", Const::U32(parts_of(group))),
            ("ZERO_BITS", Const::U32(panels::zero_bits(quant))),
            ("MIDDLE", Const::F32(f32::from(quant.middle()))),
        ];

        let source = Source::numbers(problem, fragment!("x_scalars"), caps)?;
        consts.extend(source.consts);
        fragments.extend(source.fragments);
        let turns = problem.batch.div_ceil(config.batch as usize);
        check_launches(turns.saturating_mul(parts.len()))?;
        let mut dispatches = source.launches;
        for vector_base in (0..problem.batch).step_by(config.batch as usize) {
            let batch = (config.batch as usize).min(problem.batch - vector_base) as u32;
            for (i, part) in parts.iter().enumerate() {
                let by_pieces = config.by_tasks() && part.pieces > 0;
                let workgroups = if by_pieces {
                    part.pieces
                } else {
                    part.rows.div_ceil(config.rows)
                };
                let mut consts = consts.clone();
                consts.extend([
                    ("BATCH", Const::U32(batch)),
                    ("BY_PIECES", Const::Bool(by_pieces)),
                ]);
                let mut fragments = fragments.clone();
                // Pieces leave the bias to the launch that adds.
                fragments.push(if by_pieces {
                    fragment!("bias_none")
                } else {
                    problem.bias_fragment()
                });
                let mut operands = problem.operands(source.operand, i, true, spread);
                if spread {
                    operands.push(Operand::read("longs", 6, Role::Part(i)));
                }
                let launch = Dispatch {
                    consts,
                    fragments,
                    params: problem.params(part, source.stride, vector_base),
                    operands,
                    workgroup_bytes: config.rows * batch * config.workgroup * 4,
                    subgroups: spread,
                    int64: spread,
                    scratch_bytes: source.scratch_bytes,
                    ..problem.launch(self, config, workgroups.into(), caps)
                };
                if by_pieces {
                    let sum = Sum {
                        name: "gqs_sum",
                        consts: vec![
                            ("BATCH", Const::U32(batch)),
                            ("PANEL", Const::U32(config.rows)),
                        ],
                        fragments: vec![
                            fragment!("index_words"),
                            fragment!("pieces"),
                            shader!("gqs_sum"),
                        ],
                        reads_part: true,
                        pieces: u64::from(part.pieces) * u64::from(config.rows * batch),
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

/// What every launch is made of, but for x and the bias.
fn fragments(load: Load, spread: bool) -> Vec<Cow<'static, str>> {
    let mut fragments = vec![
        fragment!("linear"),
        fragment!("y_words"),
        load.fragment(),
        fragment!("code_quad"),
        fragment!("scale"),
        fragment!("pieces"),
        shader!("gqs_runs"),
    ];
    if spread {
        fragments.extend([
            fragment!("index_words"),
            fragment!("pair_long"),
            fragment!("hold_spread"),
        ]);
    } else {
        fragments.extend([fragment!("pair_words"), fragment!("hold_each")]);
    }
    fragments
}

/// Refuses lanes that hand values round where they are not one subgroup.
pub(super) fn check_subgroup(config: &Config, caps: &Caps) -> Result<()> {
    let spread = config.variant.ends_with("spread");
    if spread && caps.fixed_subgroup() != Some(config.workgroup) {
        let needed = "to be one subgroup of fixed size";
        return Err(unfit("workgroup", config.workgroup as usize, needed));
    }
    Ok(())
}

/// Parts of a group of so many columns: the fewest that are whole quads of at most 32 columns, where there are such.
pub(super) fn parts_of(group: u32) -> u32 {
    let whole = |parts: &u32| (group / 4) % parts == 0;
    let short = |parts: &u32| group / parts <= 32;
    let fewest = (1..=4).filter(whole).find(short);
    fewest.or_else(|| (1..=4).rev().find(whole)).unwrap_or(1)
}
