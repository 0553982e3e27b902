//! `gemm_lanes`: any batch on CPU adapters, lanes along the batch, x transposed first.
//!
//! [`Config`]: a workgroup, `workgroup` lanes wide, holds `rows` x `batch` of y. Variants name how the weight is
//! loaded, then how many vectors of x a load takes; `expanded` ones multiply whole windows, with zeros in place of
//! what is not kept.

use super::{
    Config, Const, Dispatch, Kernel, Layout, PartLayout, Problem, Skip, fragment, layout,
    packet::{self, Load, Packets},
    problem::unfit,
    shader,
    transpose::Turned,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Pattern},
};
use std::borrow::Cow;

/// Values of a row that a lane holds at a time. A loop over more is not unrolled (llvmpipe), and
/// then a product takes twice as long.
const HELD: usize = 4;

pub struct GemmLanes;

/// What a variant's name stands for.
struct Variant {
    name: &'static str,
    /// Whether each lane decodes a packet of its own and hands it round.
    spread: bool,
    /// How plain values are loaded.
    load: Load,
    /// Vectors of x that one load takes; more than one asks for 64-bit integers.
    x: u32,
    /// Whether windows of four columns are multiplied whole, with zeros in place of what is not kept.
    expands: bool,
}

const VARIANTS: &[Variant] = &[
    Variant::new("expanded-x4", true, Load::Pairs, 4).expanding(),
    Variant::new("expanded-x2", true, Load::Pairs, 2).expanding(),
    Variant::new("spread-x4", true, Load::Pairs, 4),
    Variant::new("spread-x2", true, Load::Pairs, 2),
    Variant::new("spread", true, Load::Words, 1),
    Variant::new("each", false, Load::Words, 1),
];

impl Variant {
    const fn new(name: &'static str, spread: bool, load: Load, x: u32) -> Self {
        Self {
            name,
            spread,
            load,
            x,
            expands: false,
        }
    }

    const fn expanding(self) -> Self {
        Self {
            expands: true,
            ..self
        }
    }

    fn of(config: &Config, problem: &Problem) -> Result<&'static Self> {
        let found = VARIANTS.iter().find(|v| v.name == config.variant);
        found.ok_or_else(|| problem.unknown(config))
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

    fn serves(&self, _: Layout, skip: Skip) -> bool {
        skip == Skip::Nothing
    }

    /// A subgroup of a CPU adapter is a SIMD register, which only this kernel fills.
    fn place(&self, _: &Problem, class: DeviceClass) -> u8 {
        match class {
            DeviceClass::Cpu => 1,
            DeviceClass::Gpu => 3,
        }
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
        let words = if problem.format.quant().is_some() {
            1
        } else {
            (HELD / problem.values_in(1)) as u32
        };
        let rows = |most| match problem.format.pattern() {
            None => most,
            Some(_) => packet::largest_divisor(v, most),
        };
        if problem.layout == Layout::Bands {
            // What a lane loads of a column at a time, in whole words.
            let per_word = problem.values_in(1) as u32;
            let words = |rows: u32| (rows / per_word).max(1);
            let tile = |variant, rows: u32, strips| {
                config(variant, words(rows) * per_word, strips, words(rows))
            };
            return vec![
                tile("spread-x4", 16, 4),
                tile("spread-x4", 8, 4),
                tile("spread-x2", 16, 2),
                tile("spread-x2", 8, 2),
                tile("spread", 8, 2),
                tile("each", 8, 4),
            ];
        }
        let mut configs = match problem.format {
            Format::Gqs { .. } => vec![],
            // Rows with columns of their own share no x: few rows, many vectors.
            _ if v == 1 && problem.format.pattern().is_some() => vec![
                config("spread-x4", 4, 4, words),
                config("spread-x4", 1, 4, words),
                config("spread-x2", 4, 2, words),
                config("spread", 4, 4, words),
                config("each", 1, 4, words),
            ],
            _ => vec![
                config("spread-x4", rows(8), 4, words),
                config("spread-x2", rows(8), 2, words),
                config("spread", rows(8), 2, words),
                config("each", rows(4), 4, words),
            ],
        };
        // Where hardly any rows share columns, loading every x once for all of them is faster.
        if v <= 2 && problem.format.pattern().is_some_and(expands) {
            let wide = config("expanded-x4", 8, 4, words);
            configs.splice(0..0, [wide, config("expanded-x2", 8, 2, words)]);
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
        let variant = Variant::of(config, problem)?;
        let strips = config.batch / config.workgroup;
        if strips % variant.x != 0 {
            let strips = strips as usize;
            return Err(unfit("strips", strips, "a multiple of what a load takes"));
        }
        let across = problem.batch.div_ceil(config.batch as usize) as u64;
        let turned = Turned::new(problem, config.batch);
        let transpose = turned.launch(problem, variant.x > 1, caps);
        let coded = problem.format.quant().is_some();
        let bands = problem.layout == Layout::Bands;
        let span = match (bands, coded) {
            (true, _) => 1,
            (false, true) => HELD,
            (false, false) => problem.values_in(config.words as usize),
        };
        // All lanes take the same packet.
        let packets = Packets::of_span(problem, config.rows as usize, span, 1)?;
        let mut consts = problem.consts();
        consts.extend([
            ("LANES", Const::U32(config.workgroup)),
            ("ROWS", Const::U32(config.rows)),
            ("STRIPS", Const::U32(strips)),
            ("SHARE", Const::U32(packets.share as u32)),
            ("EDGE", Const::Bool(packets.edge)),
        ]);
        let mut fragments = problem.fragments(caps.class);
        let runs = variant.x > 1 && config.rows % 4 == 0;
        fragments.push(problem.y_fragment(parts, runs.then_some(fragment!("y_pairs"))));
        if variant.spread && caps.fixed_subgroup() != Some(config.workgroup) {
            let needed = "to be one subgroup of fixed size";
            return Err(unfit("workgroup", config.workgroup as usize, needed));
        }
        let load = match (variant.load, config.words) {
            (Load::Pairs, 2) => Load::Longs,
            (load, _) => load,
        };
        let pairs = !coded && variant.load == Load::Pairs;
        if bands {
            consts.extend(band_consts(problem, config.words, parts));
            fragments.push(if pairs {
                variant.load.fragment()
            } else {
                fragment!("load_words")
            });
            if coded {
                fragments.extend([fragment!("tile_band_codes"), fragment!("scale")]);
            } else {
                fragments.push(fragment!("tile_band_values"));
            }
        } else {
            let (of_weight, decoding) = packet::decoded(problem, span, load);
            consts.extend(of_weight);
            fragments.extend(decoding);
            fragments.push(fragment!("tile_rows"));
        }
        if variant.expands && !problem.format.pattern().is_some_and(expands) {
            let m = problem.format.pattern().map_or(1, Pattern::m);
            return Err(unfit("m", m, "windows of 4 columns that keep 2"));
        }
        fragments.push(if variant.expands {
            fragment!("lanes_windows")
        } else {
            fragment!("lanes_packets")
        });
        if pairs && problem.format.pattern().is_some() {
            fragments.push(fragment!("index_words"));
        }
        fragments.extend([
            packet::fields_fragment(problem),
            if variant.spread {
                fragment!("hold_spread")
            } else {
                fragment!("hold_each")
            },
        ]);
        fragments.extend([variant.x_fragment(), shader!("gemm_lanes")]);
        let sparse = problem.format.pattern().is_some();
        let products = parts.iter().enumerate().map(|(i, part)| Dispatch {
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, 0, 0),
            operands: problem.operands(Turned::OPERAND, i, !pairs || sparse, pairs),
            subgroups: variant.spread,
            int64: variant.x > 1 || pairs,
            scratch_bytes: turned.scratch_bytes,
            ..problem.launch(self, config, config.tiles(part) * across, caps)
        });
        Ok(std::iter::once(transpose).chain(products).collect())
    }
}

/// Whether `lib/lanes_windows.wgsl` can put the values of a window among zeros.
fn expands(pattern: Pattern) -> bool {
    (pattern.n(), pattern.m()) == (2, 4)
}

/// Consts of a tile of a weight in bands, loaded `words` at a time.
pub(super) fn band_consts(
    problem: &Problem,
    words: u32,
    parts: &[PartLayout],
) -> Vec<(&'static str, Const)> {
    let mut consts = vec![
        ("WORDS", Const::U32(words)),
        (
            "BAND",
            Const::U32(parts.first().map_or(1, |p| p.panel_rows)),
        ),
    ];
    if let Some(quant) = problem.format.quant() {
        consts.extend([
            ("BITS", Const::U32(quant.bits())),
            ("GROUP", Const::U32(quant.group_cols(problem.cols) as u32)),
        ]);
    }
    consts
}
