//! `gemv`: a few vectors, bound by the bytes of the weight.
//!
//! [`Config`]: `rows` are summed by one workgroup, `words` are taken by a lane at a time,
//! in loads as wide as the device has. Variants name the reduction, the loads, then how x is
//! reached. `pairs` and `octs` are for CPU adapters, where a load costs the same whatever its
//! width: 64-bit integers then bring twice the bytes.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment, layout,
    packet::{self, Load, Packets},
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
    load: Load,
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
    /// x is bound as `vec2<u64>`.
    Pairs,
    /// x is copied to workgroup memory first.
    Staged,
    /// Windows of four columns are loaded once and picked from by selection.
    Window,
    /// The same with x bound as `vec2<u64>`.
    WindowPairs,
}

impl X {
    fn window(self) -> bool {
        matches!(self, Self::Window | Self::WindowPairs)
    }
}

impl Variant {
    const fn new(name: &'static str, reduce: Reduce, load: Load, x: X) -> Self {
        Self {
            name,
            reduce,
            load,
            x,
        }
    }

    /// How the x that meets a packet of `span` values is picked.
    fn pick(&self, problem: &Problem, span: usize) -> Result<Cow<'static, str>> {
        match problem.format {
            Format::Dense(_) if self.x.window() => {
                Err(unfit("index sets of a dense weight", 0, "one to select by"))
            }
            Format::Dense(_) => Ok(fragment!("pick_all")),
            Format::Nm { .. } if !self.x.window() => Ok(fragment!("pick_gather")),
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
    Variant::new("one", Reduce::One, Load::Words, X::Direct),
    Variant::new("one-window", Reduce::One, Load::Words, X::Window),
    Variant::new("one-quads", Reduce::One, Load::Quads, X::Direct),
    Variant::new("one-quads-x4", Reduce::One, Load::Quads, X::Quads),
    Variant::new("one-quads-window", Reduce::One, Load::Quads, X::Window),
    Variant::new("one-pairs", Reduce::One, Load::Pairs, X::Direct),
    Variant::new("one-pairs-x4", Reduce::One, Load::Pairs, X::Pairs),
    Variant::new(
        "one-pairs-window-x4",
        Reduce::One,
        Load::Pairs,
        X::WindowPairs,
    ),
    Variant::new("one-octs", Reduce::One, Load::Octs, X::Direct),
    Variant::new("one-octs-x4", Reduce::One, Load::Octs, X::Pairs),
    Variant::new("subgroup", Reduce::Subgroup, Load::Words, X::Direct),
    Variant::new("subgroup-quads", Reduce::Subgroup, Load::Quads, X::Direct),
    Variant::new("subgroup-quads-x4", Reduce::Subgroup, Load::Quads, X::Quads),
    Variant::new(
        "subgroup-quads-window",
        Reduce::Subgroup,
        Load::Quads,
        X::Window,
    ),
    Variant::new(
        "subgroup-quads-staged",
        Reduce::Subgroup,
        Load::Quads,
        X::Staged,
    ),
    Variant::new("portable", Reduce::Shared, Load::Words, X::Direct),
    Variant::new("portable-window", Reduce::Shared, Load::Words, X::Window),
    Variant::new("portable-quads", Reduce::Shared, Load::Quads, X::Direct),
];

impl Kernel for Gemv {
    fn name(&self) -> &'static str {
        "gemv"
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        match caps.class {
            DeviceClass::Cpu => cpu_configs(problem, caps),
            DeviceClass::Gpu => gpu_configs(problem),
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
        fragments.extend(variant.load.fragments(problem));

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
            X::Quads | X::Pairs | X::WindowPairs if problem.cols % 4 != 0 => {
                return Err(unfit("columns", problem.cols, "a multiple of 4"));
            }
            X::Quads => fragment!("x_quads"),
            X::Pairs | X::WindowPairs => fragment!("x_pairs"),
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
            operands: problem.operands(problem::X, i, !variant.load.words()),
            invocations: config.workgroup,
            workgroup_bytes: u32::try_from(workgroup_bytes).unwrap_or(u32::MAX),
            subgroups: variant.reduce != Reduce::Shared,
            int64: variant.load.int64(),
            scratch_bytes: 0,
            grid: super::fold(
                u64::from(part.rows.div_ceil(config.rows)),
                caps.max_workgroups,
            ),
        });
        Ok(dispatches.collect())
    }
}

/// Configurations for adapters that run on the processor, the best guess first.
fn cpu_configs(problem: &Problem, caps: &Caps) -> Vec<Config> {
    let config = config(problem);
    let lanes = caps.subgroups.map_or(8, |s| s.min);
    let v = layout::sharing(problem.format);
    let vector_rows = |most| packet::largest_divisor(v, most);
    // Values of x that meet one word of the weight: what a packet holds must stay in registers.
    let held = problem.batch * problem.per_word();
    match problem.format {
        Format::Dense(_) => {
            let mut configs = vec![
                config("one-octs-x4", lanes, 8, 8),
                config("one-pairs-x4", lanes, 8, 4),
                config("one-pairs-x4", lanes, 4, 4),
                config("one-quads-x4", lanes, 4, 4),
                config("one-quads-x4", lanes, 8, 4),
                config("one-quads", lanes, 4, 4),
                config("one", lanes, 4, 1),
                config("one", lanes, 8, 1),
                config("portable-quads", 8, 4, 4),
                config("portable", 8, 4, 1),
                config("portable", 64, 1, 1),
            ];
            configs.rotate_left(match held {
                1 => 0,
                2 => 1,
                _ => 2,
            });
            configs
        }
        Format::Nm { .. } if v == 1 => {
            // x held for a packet: beyond a few registers selection loses to gathering,
            // and many rows to one (measured at batch 1 to 8).
            let tall = if held == 1 { 8 } else { 4 };
            let (few, fewer) = if held < 3 { (2, 1) } else { (1, 2) };
            let mut configs = vec![
                config("one-pairs-window-x4", lanes, tall, 4),
                config("one-quads-window", lanes, tall, 4),
                config("one-octs", lanes, fewer, 8),
                config("one-pairs", lanes, few, 4),
                config("one-quads", lanes, few, 4),
                config("one-quads", lanes, fewer, 4),
                config("one-window", lanes, 4, 4),
                config("portable-window", 8, 4, 4),
                config("portable-quads", 8, 2, 4),
                config("portable", 64, 1, 4),
            ];
            if held > 3 {
                configs.rotate_left(3);
            } else if held > 1 {
                configs.swap(2, 3);
            }
            configs
        }
        Format::Nm { .. } => {
            let mut configs = vec![
                config("one-octs", lanes, vector_rows(8), 8),
                config("one-pairs", lanes, vector_rows(8), 4),
                config("one-quads", lanes, vector_rows(8), 4),
                config("one-quads", lanes, vector_rows(4), 4),
                config("one", lanes, vector_rows(8), 4),
                config("portable-quads", 8, vector_rows(8), 4),
                config("portable", 64, 1, 4),
            ];
            if held > 1 {
                configs.rotate_left(1);
            }
            if v < 8 && problem.batch == 1 {
                // Few rows share what they gather; eight share the windows they pick from.
                configs.insert(0, config("one-pairs-window-x4", lanes, 8, 4));
            }
            configs
        }
    }
}

/// Configurations for GPUs, the best guess first.
fn gpu_configs(problem: &Problem) -> Vec<Config> {
    let config = config(problem);
    let sparse = matches!(problem.format, Format::Nm { .. });
    let v = layout::sharing(problem.format);
    let vector_rows = |most| packet::largest_divisor(v, most);
    // Sums of rows x batch stay in registers: fewer rows where there are more vectors.
    let most = (8 / (problem.batch as u32).max(1)).clamp(1, 4);
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

fn config(problem: &Problem) -> impl Fn(&'static str, u32, u32, u32) -> Config {
    let batch = problem.batch as u32;
    move |variant, workgroup, rows, words| Config {
        variant,
        workgroup,
        rows,
        batch,
        words,
    }
}
