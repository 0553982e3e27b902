//! `gemm_lanes`: any batch on CPU adapters, lanes along the batch, x transposed first.
//!
//! [`Config`]: `rows` x `batch` of y are held by one workgroup, `workgroup` lanes wide.
//! Variants name how the weight is loaded, then how many vectors of x a load takes.

use super::{
    Config, Const, Dispatch, Kernel, Operand, PartLayout, Problem, Role, fragment, layout,
    packet::{self, Load, Packets},
    problem::{self, unfit},
    shader,
};
use crate::{
    caps::Caps,
    error::{Error, Result},
    format::Format,
};
use std::borrow::Cow;

const TRANSPOSE_TILE: u32 = 16;
/// Elements of a cache line of 64 bytes.
const CACHE_LINE: usize = 16;

pub struct GemmLanes;

/// What a variant's name stands for.
struct Variant {
    name: &'static str,
    weight: Hold,
    /// Vectors of x that one load takes; more than one asks for 64-bit integers.
    x: u32,
}

/// How a tile of rows holds a packet of the weight.
#[derive(Clone, Copy, PartialEq)]
enum Hold {
    /// Every lane loads all of it.
    Each(Load),
    /// Each lane loads one word and hands it round.
    Spread,
}

const VARIANTS: &[Variant] = &[
    Variant::new("spread-x4", Hold::Spread, 4),
    Variant::new("spread-x2", Hold::Spread, 2),
    Variant::new("spread", Hold::Spread, 1),
    Variant::new("quads-x4", Hold::Each(Load::Quads), 4),
    Variant::new("quads", Hold::Each(Load::Quads), 1),
    Variant::new("words", Hold::Each(Load::Words), 1),
];

impl Variant {
    const fn new(name: &'static str, weight: Hold, x: u32) -> Self {
        Self { name, weight, x }
    }

    fn x_fragment(&self) -> Cow<'static, str> {
        match self.x {
            1 => fragment!("xt_words"),
            2 => fragment!("xt_pairs"),
            _ => fragment!("xt_quads"),
        }
    }
}

impl Kernel for GemmLanes {
    fn name(&self) -> &'static str {
        "gemm_lanes"
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let lanes = caps.fixed_subgroup().unwrap_or(8);
        let needed = (problem.batch as u32).div_ceil(lanes).max(1);
        let config = |variant: &'static str, rows, strips: u32, words| Config {
            variant,
            workgroup: lanes,
            rows,
            // No wider than the batch needs, in whole loads.
            batch: lanes * strips.min(needed.next_power_of_two()),
            words,
        };
        let v = layout::sharing(problem.format);
        match problem.format {
            Format::Quantized { .. } | Format::Gqs { .. } => vec![],
            // Rows with columns of their own share no x: hold one, wide.
            Format::Nm { .. } if v == 1 => vec![
                config("quads-x4", 1, 4, 4),
                config("quads", 1, 4, 4),
                config("spread-x2", 8, 2, lanes),
                config("spread", 8, 2, lanes),
                config("words", 1, 4, 4),
            ],
            _ => {
                let dense = matches!(problem.format, Format::Dense(_));
                let rows = |most| {
                    if dense {
                        most
                    } else {
                        packet::largest_divisor(v, most)
                    }
                };
                vec![
                    config("spread-x4", rows(8), 4, lanes),
                    config("spread-x2", rows(16), 2, lanes),
                    config("spread", rows(16), 2, lanes),
                    config("spread", rows(8), 4, lanes),
                    config("quads", rows(8), 4, 4),
                    config("words", rows(4), 4, 4),
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
        if problem.batch == 0 {
            return Ok(vec![]);
        }
        let strips = config.batch / config.workgroup;
        if strips % variant.x != 0 {
            let strips = strips as usize;
            return Err(unfit("strips", strips, "a multiple of what a load takes"));
        }
        let across = problem.batch.div_ceil(config.batch as usize);
        // One cache line more: columns a power of two apart would all fall into the same sets.
        let x_stride = across * config.batch as usize + CACHE_LINE;
        let scratch_bytes = (x_stride as u64)
            .saturating_mul(problem.cols.max(1) as u64)
            .saturating_mul(4);
        let tiles = |n: usize| n.div_ceil(TRANSPOSE_TILE as usize) as u64;
        let transpose = Dispatch {
            name: format!("transpose x of {problem}"),
            enables: vec![],
            consts: vec![("TILE", Const::U32(TRANSPOSE_TILE))],
            fragments: vec![shader!("transpose")],
            params: vec![problem.batch as u32, problem.cols as u32, x_stride as u32],
            operands: vec![
                problem::X,
                Operand {
                    name: "xt",
                    binding: 2,
                    role: Role::Scratch,
                    write: true,
                },
            ],
            invocations: TRANSPOSE_TILE,
            workgroup_bytes: TRANSPOSE_TILE * (TRANSPOSE_TILE + 1) * 4,
            subgroups: false,
            int64: false,
            scratch_bytes,
            grid: super::fold(tiles(x_stride) * tiles(problem.cols), caps.max_workgroups),
        };

        // All lanes take the same packet.
        let packets = Packets::new(problem, config.rows as usize, config.words as usize, 1)?;
        let mut consts = problem.consts();
        consts.extend([
            ("LANES", Const::U32(config.workgroup)),
            ("ROWS", Const::U32(config.rows)),
            ("STRIPS", Const::U32(strips)),
            ("SHARE", Const::U32(packets.share as u32)),
            ("WORDS", Const::U32(config.words)),
            ("GUARD", Const::Bool(packets.guard)),
        ]);
        let mut fragments = problem.fragments();
        match variant.weight {
            Hold::Spread if caps.fixed_subgroup() != Some(config.workgroup) => {
                return Err(unfit(
                    "workgroup",
                    config.workgroup as usize,
                    "to be one subgroup of fixed size",
                ));
            }
            Hold::Spread => {
                fragments.extend([fragment!("hold_spread"), packet::fields_fragment(problem)]);
            }
            Hold::Each(load) => {
                fragments.push(fragment!("hold_packet"));
                fragments.extend(load.fragments(problem));
            }
        }
        fragments.extend([variant.x_fragment(), shader!("gemm_lanes")]);
        let xt = Operand {
            name: "xt",
            binding: 1,
            role: Role::Scratch,
            write: false,
        };
        let sparse = problem.format.pattern().is_some();
        let products = parts.iter().enumerate().map(|(i, part)| Dispatch {
            name: format!("gemm_lanes/{config} {}", problem.format),
            enables: vec![],
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, x_stride, 0),
            operands: {
                let quads = variant.weight == Hold::Each(Load::Quads);
                problem.operands(xt, i, !quads || sparse, quads)
            },
            invocations: config.workgroup,
            workgroup_bytes: 0,
            subgroups: variant.weight == Hold::Spread,
            int64: variant.x > 1,
            scratch_bytes,
            grid: super::fold(
                u64::from(part.rows.div_ceil(config.rows)) * across as u64,
                caps.max_workgroups,
            ),
        });
        Ok(std::iter::once(transpose).chain(products).collect())
    }
}
