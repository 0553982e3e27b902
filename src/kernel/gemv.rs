//! `gemv`: a few vectors, bound by the bytes of the weight.
//!
//! [`Config`]: `rows` are summed by one workgroup, `words` are taken by a lane at a time,
//! 4 and more as 16-byte loads on GPUs. Variants name the reduction, then how x is reached.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment, layout,
    packet::{self, Packets},
    problem::{self, unfit},
    shader,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::Format,
};
use std::borrow::Cow;

/// Vectors that the kernel takes at most.
pub const MAX_BATCH: usize = 8;

pub struct Gemv;

/// What a variant's name stands for.
struct Variant {
    name: &'static str,
    reduce: Reduce,
    /// The weight's values are read as `vec4<u32>`.
    quads: bool,
    x: X,
}

#[derive(Clone, Copy, PartialEq)]
enum Reduce {
    /// A tree in workgroup memory.
    Shared,
    /// Subgroups first, then their sums.
    Subgroup,
    /// The workgroup is one subgroup.
    One,
}

#[derive(Clone, Copy, PartialEq)]
enum X {
    /// Each slot loads its x.
    Direct,
    /// x is bound as `vec4<f32>`.
    Quads,
    /// x is copied to workgroup memory first.
    Staged,
    /// Windows of four columns are loaded once and picked from by selection.
    Window,
}

impl Variant {
    const fn new(name: &'static str, reduce: Reduce, quads: bool, x: X) -> Self {
        Self {
            name,
            reduce,
            quads,
            x,
        }
    }

    /// How the x that meets a packet of `span` values is picked.
    fn pick(&self, problem: &Problem, span: usize) -> Result<Cow<'static, str>> {
        match problem.format {
            Format::Dense(_) if self.x == X::Window => {
                Err(unfit("index sets of a dense weight", 0, "one to select by"))
            }
            Format::Dense(_) => Ok(fragment!("pick_all")),
            Format::Nm { .. } if self.x != X::Window => Ok(fragment!("pick_gather")),
            Format::Nm { pattern, .. } if pattern.m() != 4 => {
                Err(unfit("m", pattern.m(), "windows of 4 columns"))
            }
            Format::Nm { pattern, .. } if span % pattern.n() != 0 => {
                Err(unfit("n", pattern.n(), "a divisor of its packet"))
            }
            Format::Nm { .. } => Ok(fragment!("pick_window")),
        }
    }
}

const VARIANTS: &[Variant] = &[
    Variant::new("one", Reduce::One, false, X::Direct),
    Variant::new("one-window", Reduce::One, false, X::Window),
    Variant::new("one-quads", Reduce::One, true, X::Direct),
    Variant::new("one-quads-x4", Reduce::One, true, X::Quads),
    Variant::new("one-quads-window", Reduce::One, true, X::Window),
    Variant::new("subgroup", Reduce::Subgroup, false, X::Direct),
    Variant::new("subgroup-quads", Reduce::Subgroup, true, X::Direct),
    Variant::new("subgroup-quads-x4", Reduce::Subgroup, true, X::Quads),
    Variant::new("subgroup-quads-window", Reduce::Subgroup, true, X::Window),
    Variant::new("subgroup-quads-staged", Reduce::Subgroup, true, X::Staged),
    Variant::new("portable", Reduce::Shared, false, X::Direct),
    Variant::new("portable-window", Reduce::Shared, false, X::Window),
    Variant::new("portable-quads", Reduce::Shared, true, X::Direct),
];

impl Kernel for Gemv {
    fn name(&self) -> &'static str {
        "gemv"
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let batch = problem.batch as u32;
        let config = |variant, workgroup, rows, words| Config {
            variant,
            workgroup,
            rows,
            batch,
            words,
        };
        let lanes = caps.subgroups.map_or(8, |s| s.min);
        let (sparse, v) = (
            matches!(problem.format, Format::Nm { .. }),
            layout::sharing(problem.format),
        );
        let vector_rows = |most: u32| packet::largest_divisor(v, most);
        match (caps.class, problem.format) {
            (DeviceClass::Cpu, Format::Dense(_)) => vec![
                config("one-quads-x4", lanes, 4, 4),
                config("one-quads-x4", lanes, 8, 4),
                config("one-quads", lanes, 4, 4),
                config("one", lanes, 4, 1),
                config("one", lanes, 8, 1),
                config("portable-quads", 8, 4, 4),
                config("portable", 8, 4, 1),
                config("portable", 64, 1, 1),
            ],
            (DeviceClass::Cpu, Format::Nm { .. }) if v == 1 => {
                // x held for a packet: beyond a few registers selection loses to gathering,
                // and many rows to one (measured at batch 1 to 8).
                let held = batch * problem.per_word() as u32;
                let mut configs = vec![
                    config("one-quads-window", lanes, if held == 1 { 8 } else { 4 }, 4),
                    config("one-quads", lanes, if held < 3 { 2 } else { 1 }, 4),
                    config("one-quads", lanes, if held < 3 { 1 } else { 2 }, 4),
                    config("one-window", lanes, 4, 4),
                    config("portable-window", 8, 4, 4),
                    config("portable-quads", 8, 2, 4),
                    config("portable", 64, 1, 4),
                ];
                if held > 3 {
                    configs.rotate_left(1);
                }
                configs
            }
            (DeviceClass::Cpu, Format::Nm { .. }) => vec![
                config("one-quads", lanes, vector_rows(8), 4),
                config("one-quads", lanes, vector_rows(4), 4),
                config("one", lanes, vector_rows(8), 4),
                config("portable-quads", 8, vector_rows(8), 4),
                config("portable", 64, 1, 4),
            ],
            (DeviceClass::Gpu, _) => {
                // Sums of rows x batch stay in registers: fewer rows where there are more vectors.
                let most = (8 / batch.max(1)).clamp(1, 4);
                let rows = if sparse && v > 1 {
                    vector_rows(2 * most)
                } else {
                    most
                };
                let words = if sparse { 4 } else { 1 };
                vec![
                    config(
                        if sparse {
                            "subgroup-quads"
                        } else {
                            "subgroup-quads-x4"
                        },
                        64,
                        rows,
                        4,
                    ),
                    config("subgroup-quads-window", 64, most, 4),
                    config("subgroup-quads", 128, rows, 4),
                    config("subgroup-quads", 32, 1, 4),
                    config("subgroup-quads-staged", 256, 4 * rows, 4),
                    config("subgroup", 64, rows, words),
                    config("portable-quads", 64, rows, 4),
                    config("portable", 64, 1, words),
                ]
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
        let variant = VARIANTS
            .iter()
            .find(|v| v.name == config.variant)
            .ok_or_else(|| Error::NoKernel {
                problem: problem.to_string(),
                reasons: config.to_string(),
            })?;
        if problem.batch > MAX_BATCH {
            return Err(unfit("batch", problem.batch, "at most 8"));
        }
        if problem.batch == 0 {
            return Ok(vec![]);
        }
        let (rows, words, batch) = (config.rows as usize, config.words as usize, problem.batch);
        let packets = Packets::new(problem, rows, words, config.workgroup as usize)?;
        let mut fragments = problem.fragments();
        fragments.push(variant.pick(problem, packets.span)?);
        fragments.extend(packet::load_fragments(problem, variant.quads));

        let acc = rows * batch;
        let subgroups = caps
            .subgroups
            .map_or(1, |s| config.workgroup.div_ceil(s.min));
        let mut workgroup_bytes = match variant.reduce {
            Reduce::Shared => acc * config.workgroup as usize * 4,
            Reduce::Subgroup => acc * subgroups as usize * 4 + 4,
            Reduce::One => 0,
        };
        let mut consts = problem.consts();
        consts.extend([
            ("WORKGROUP", Const::U32(config.workgroup)),
            ("ROWS", Const::U32(config.rows)),
            ("BATCH", Const::U32(batch as u32)),
            ("WORDS", Const::U32(config.words)),
            ("SHARE", Const::U32(packets.share as u32)),
            ("GUARD", Const::Bool(packets.guard)),
        ]);
        fragments.push(match variant.x {
            X::Direct | X::Window => fragment!("x_scalars"),
            X::Quads if problem.cols % 4 != 0 => {
                return Err(unfit("columns", problem.cols, "a multiple of 4"));
            }
            X::Quads => fragment!("x_quads"),
            X::Staged => {
                let staged = (batch * problem.cols).max(1);
                workgroup_bytes += staged * 4;
                consts.push((
                    "STAGED",
                    Const::U32(u32::try_from(staged).unwrap_or(u32::MAX)),
                ));
                fragment!("x_staged")
            }
        });
        fragments.push(match variant.reduce {
            Reduce::Shared => fragment!("reduce_shared"),
            Reduce::Subgroup => {
                consts.push(("SUBGROUPS", Const::U32(subgroups)));
                fragment!("reduce_subgroup")
            }
            Reduce::One => {
                if caps.fixed_subgroup() != Some(config.workgroup) {
                    let workgroup = config.workgroup as usize;
                    return Err(unfit(
                        "workgroup",
                        workgroup,
                        "to be one subgroup of fixed size",
                    ));
                }
                fragment!("reduce_one")
            }
        });
        fragments.push(shader!("gemv"));

        let dispatches = parts.iter().enumerate().map(|(i, part)| Dispatch {
            name: format!("gemv/{config} {}", problem.format),
            enables: vec![],
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, 0),
            operands: problem.operands(problem::X, i, variant.quads),
            invocations: config.workgroup,
            workgroup_bytes: u32::try_from(workgroup_bytes).unwrap_or(u32::MAX),
            subgroups: variant.reduce != Reduce::Shared,
            scratch_bytes: 0,
            grid: super::fold(
                u64::from(part.rows.div_ceil(config.rows)),
                caps.max_workgroups,
            ),
        });
        Ok(dispatches.collect())
    }
}
