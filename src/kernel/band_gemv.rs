//! `band_gemv`: weights in bands, over all columns or over a list of active ones.
//!
//! [`Config`]: a workgroup sums `rows` rows of a band for `batch` vectors; a lane loads `words` words at a time. In
//! `spread` variants the lanes of a subgroup look columns up in parallel and share them by shuffles, which suits
//! CPU adapters; in the others each team of lanes takes columns of its own. The rest of a name is the width of the
//! loads. `searching` variants find the active columns themselves instead of reading a list.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, bands, fragment, layout,
    layout::Layout,
    packet::{Load, gcd},
    problem::{self, Skip, unfit},
    shader,
    sum::Sum,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
};
use std::borrow::Cow;

const VARIANTS: &[Variant] = &[
    Variant::new("spread-pairs", true, Load::Pairs),
    Variant::new("spread", true, Load::Words),
    Variant::new("quads", false, Load::Quads),
    Variant::new("portable", false, Load::Words),
    Variant::new("searching-quads", false, Load::Quads).searching(),
    Variant::new("searching-portable", false, Load::Words).searching(),
];

/// What a variant's name stands for.
#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    spread: bool,
    load: Load,
    searching: bool,
}

impl Variant {
    const fn new(name: &'static str, spread: bool, load: Load) -> Self {
        Self {
            name,
            spread,
            load,
            searching: false,
        }
    }

    const fn searching(self) -> Self {
        Self {
            searching: true,
            ..self
        }
    }
}

/// Most vectors that one workgroup takes.
const MAX_BATCH: u32 = 16;

/// Bits of a line of a processor's cache.
const LINE_BITS: u32 = 512;

/// Cache lines of a run of plain values that a lane touches before it loads the run; the processor prefetches the
/// rest (measured at 2 to 24).
const MOST_AHEAD: u32 = 8;

/// Most sums of a lane that teams exchange at a time: 8 KiB of workgroup memory at 256 lanes.
const MOST_EXCHANGED: usize = 8;

pub struct BandGemv;

impl Kernel for BandGemv {
    fn name(&self) -> &'static str {
        "band_gemv"
    }

    fn serves(&self, layout: Layout, skip: Skip) -> bool {
        layout == Layout::Bands && skip != Skip::Rows
    }

    fn for_few(&self) -> bool {
        true
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        let band = bands::band_rows(problem.format, problem.rows, problem.cols, caps.class) as u32;
        let per_word = problem.values_in(1) as u32;
        let batch = |most: u32| {
            (problem.batch.clamp(1, 1 << 16) as u32)
                .next_power_of_two()
                .min(most)
        };
        let lanes = caps.fixed_subgroup().unwrap_or(8);
        // `rows`: at most `most`, a multiple of what all lanes load at once, and a divisor of the band.
        let config = |variant, workgroup: u32, along: u32, words: u32, most: u32, batch: u32| {
            let unit = along * words * per_word;
            let loads = (1..=(most / unit).max(1))
                .rev()
                .find(|l| band % (l * unit) == 0)
                .unwrap_or(1);
            Config {
                variant,
                workgroup,
                rows: loads * unit,
                batch,
                words,
            }
        };
        let coded = problem.format.quant().is_some();
        match caps.class {
            DeviceClass::Cpu => {
                // Sums of plain values lie in workgroup memory, those of codes on the stack.
                let b = batch(MAX_BATCH);
                let most = if coded { 512 } else { 2048 };
                let most = (most / b).max(64);
                let spread = |variant, words| config(variant, lanes, lanes, words, most, b);
                if coded {
                    let mut configs = vec![
                        spread("spread", 1),
                        config("portable", 8, 8, 1, 64, batch(4)),
                    ];
                    // For more vectors the sums are too many for the stack, and for the driver's compiler.
                    if b <= 2 {
                        configs.insert(0, spread("spread-pairs", 4));
                    }
                    return configs;
                }
                vec![
                    spread("spread-pairs", 4),
                    spread("spread", 4),
                    config("portable", 8, 8, 1, 64, batch(4)),
                ]
            }
            DeviceClass::Gpu => {
                // The sums of a lane stay in registers.
                let words = if coded { 1 } else { 4 };
                let b = batch(4);
                let along = band / (words * per_word);
                let (variant, searching) = if coded {
                    ("portable", "searching-portable")
                } else {
                    ("quads", "searching-quads")
                };
                let mut configs = vec![
                    config(variant, 256.max(along), along, words, band, b),
                    config(variant, 128.max(along), along, words, band, b),
                    config("portable", 64, 16, 1, 16 * per_word, b),
                ];
                if problem.skip == Skip::Cols {
                    // Measured on an H100: for codes two thirds of the time, for f16 6 % slower.
                    let at = if coded { 0 } else { configs.len() };
                    configs.insert(at, config(searching, 256.max(along), along, words, band, b));
                }
                configs
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
        let found = VARIANTS.iter().find(|v| v.name == config.variant);
        let &variant = found.ok_or_else(|| problem.unknown(config))?;
        let Variant { spread, load, .. } = variant;
        let Some(first) = parts.first() else {
            return Ok(vec![]);
        };
        let per_word = problem.values_in(1) as u32;
        let packet = config.words * per_word;
        let lanes = config.workgroup.min(config.rows / packet);
        if lanes == 0 || config.rows % (lanes * packet) != 0 || config.workgroup % lanes != 0 {
            let needed = "a multiple of what its lanes load";
            return Err(unfit("rows of a workgroup", config.rows as usize, needed));
        }
        if spread && caps.fixed_subgroup() != Some(lanes) {
            let needed = "to be one subgroup of fixed size";
            return Err(unfit("lanes along the rows", lanes as usize, needed));
        }
        if load != Load::Words && first.value_stride % 8 != 0 {
            let needed = "whole 32 bytes";
            return Err(unfit("words of a run", first.value_stride as usize, needed));
        }
        let coded = problem.format.quant().is_some();
        if spread && !coded && packet % 4 != 0 {
            let needed = "whole quads of sums";
            return Err(unfit("values of a packet", packet as usize, needed));
        }
        let band = first.panel_rows;
        let teams = config.workgroup / lanes;
        let tiles = problem.batch.div_ceil(config.batch as usize) as u64;
        let spans = |part: &PartLayout| {
            u64::from(part.rows.div_ceil(band)) * u64::from(band.div_ceil(config.rows))
        };
        let workgroups = tiles * parts.iter().map(spans).sum::<u64>();
        let mut slices = slices(problem, caps, workgroups, teams);
        let mut slice_blocks = 0;
        if variant.searching {
            (slices, slice_blocks) = searched(problem, slices, config.workgroup)?;
        }

        let sums = config.rows / lanes * config.batch;
        let shape = Shape {
            lanes,
            band,
            slices,
            // `round`: so few sums at a time that they fit the workgroup memory of any device.
            slice_blocks,
            round: if teams > 1 {
                gcd(sums as usize, MOST_EXCHANGED) as u32
            } else {
                0
            },
        };
        let (consts, fragments) = text(problem, config, variant, &shape, caps);
        // Sums that stay in workgroup memory while columns are taken in turns.
        let turns = if spread && !coded {
            config.rows * config.batch * 4
        } else {
            0
        };
        let searched = if variant.searching {
            4 * (18 * slice_blocks + 1)
        } else {
            0
        };
        let memory = turns + 4 * shape.shared(config) + searched;
        let mut dispatches = vec![];
        for (i, part) in parts.iter().enumerate() {
            let quads = load != Load::Words;
            let workgroups = spans(part) * u64::from(slices) * tiles;
            let mut launch = Dispatch {
                consts: consts.clone(),
                fragments: fragments.clone(),
                params: problem.params(part, 0, 0),
                operands: problem.operands(problem::X, i, !quads || spread, quads),
                workgroup_bytes: memory,
                subgroups: spread,
                int64: load.int64(),
                ..problem.launch(self, config, workgroups, caps)
            };
            if problem.skip == Skip::Cols && !variant.searching {
                launch.operands.push(problem.list());
            }
            if slices == 1 {
                dispatches.push(launch);
            } else {
                let sums = u64::from(part.rows) * problem.batch as u64;
                let sum = Sum {
                    name: "band_sum",
                    consts: vec![("SLICES", Const::U32(slices))],
                    fragments: vec![shader!("band_sum")],
                    reads_part: false,
                    pieces: sums * u64::from(slices),
                    lanes: sums,
                };
                dispatches.extend(sum.after(launch, problem, i, caps));
            }
        }
        Ok(dispatches)
    }
}

/// How a launch is cut.
struct Shape {
    /// Lanes of a team, along the rows.
    lanes: u32,
    /// Rows of a band.
    band: u32,
    slices: u32,
    /// Most blocks of columns in a slice, where its workgroups search for active ones.
    slice_blocks: u32,
    /// Sums of a lane that teams exchange at a time; 0 where there is one team.
    round: u32,
}

impl Shape {
    /// Length of the array through which teams exchange sums: 1 where there is nothing to exchange.
    fn shared(&self, config: &Config) -> u32 {
        (self.round * config.workgroup).max(1)
    }
}

/// Consts and fragments of a launch.
fn text(
    problem: &Problem,
    config: &Config,
    variant: Variant,
    shape: &Shape,
    caps: &Caps,
) -> (Vec<(&'static str, Const)>, Vec<Cow<'static, str>>) {
    let packet = config.words * problem.values_in(1) as u32;
    let &Shape {
        lanes,
        band,
        slices,
        slice_blocks,
        round,
    } = shape;
    let Variant { spread, load, .. } = variant;
    let mut consts = vec![
        ("WORKGROUP", Const::U32(config.workgroup)),
        ("LANES", Const::U32(lanes)),
        ("LOADS", Const::U32(config.rows / (lanes * packet))),
        ("WORDS", Const::U32(config.words)),
        ("ROWS", Const::U32(config.rows)),
        ("BAND", Const::U32(band)),
        ("BATCH", Const::U32(config.batch)),
        ("SLICES", Const::U32(slices)),
        (
            "BITS",
            Const::U32(layout::value_bits(problem.format) as u32),
        ),
        ("HALVES", Const::Bool(spread && load == Load::Pairs)),
        ("ROUND", Const::U32(round.max(1))),
        ("SHARED", Const::U32(shape.shared(config))),
    ];
    let quant = problem.format.quant();
    if spread {
        // A turn of columns must end where codes change their group, so short turns waste less; plain values fetch
        // their sums once a turn, so longer turns are better.
        let looks = if quant.is_some() || config.batch > 4 {
            1
        } else {
            2
        };
        let lines = config.rows * layout::value_bits(problem.format) as u32 / LINE_BITS;
        let ahead = lines.min(if quant.is_some() { lines } else { MOST_AHEAD });
        consts.extend([("LOOKS", Const::U32(looks)), ("AHEAD", Const::U32(ahead))]);
    }
    let mut fragments = vec![
        fragment!("linear"),
        fragment!("y_words"),
        // Slices leave the bias to the launch that adds.
        if slices > 1 {
            fragment!("bias_none")
        } else {
            problem.bias_fragment()
        },
        load.fragment(),
        fragment!("x_scalars"),
        match problem.skip {
            Skip::Cols if variant.searching => fragment!("entries_searched"),
            Skip::Cols => fragment!("entries_listed"),
            Skip::Nothing | Skip::Rows => fragment!("entries_all"),
        },
        if spread {
            fragment!("held_spread")
        } else {
            fragment!("held_each")
        },
    ];
    if variant.searching {
        consts.push(("SLICE_BLOCKS", Const::U32(slice_blocks)));
    } else {
        fragments.push(fragment!("slices_of_entries"));
    }
    if spread && load != Load::Words {
        // The view by words, through which lines are touched ahead.
        fragments.push(fragment!("index_words"));
    }
    if let Some(quant) = quant {
        let group = quant.group_cols(problem.cols);
        consts.push(("GROUP", Const::U32(group as u32)));
        fragments.extend(problem::code_fragments(caps.class, quant));
        fragments.extend([fragment!("scale"), fragment!("band_codes")]);
    } else {
        let dtype = problem.format.dtype().unwrap_or(crate::format::Dtype::F32);
        let turns = if spread {
            fragment!("band_values_turns")
        } else {
            fragment!("band_values")
        };
        fragments.extend([super::decode_fragment(dtype), turns]);
    }
    fragments.push(shader!("band_gemv"));
    (consts, fragments)
}

/// How many slices the columns are cut into: so many that a GPU is filled, or that the threads of a CPU adapter
/// have about equal work.
fn slices(problem: &Problem, caps: &Caps, workgroups: u64, teams: u32) -> u32 {
    // The fewest columns that a team takes: 32, or a group of codes.
    let turn = problem
        .format
        .quant()
        .map_or(32, |q| q.group_cols(problem.cols));
    let most = problem.cols.div_ceil(turn * teams as usize).clamp(1, 64) as u64;
    let workgroups = workgroups.max(1);
    let slices = match caps.class {
        DeviceClass::Gpu => 1024 / workgroups,
        DeviceClass::Cpu => {
            let threads = u64::from(caps.threads);
            let even = |slices: &u64| {
                let shares = workgroups * slices;
                shares.is_multiple_of(threads) || shares >= 4 * threads
            };
            (1..most).find(even).unwrap_or(most)
        }
    };
    slices.clamp(1, most) as u32
}

/// Cuts the columns into at least `slices` slices, so short that a lane searches at most one block of columns.
/// Returns the number of slices and the most blocks in one.
fn searched(problem: &Problem, slices: u32, workgroup: u32) -> Result<(u32, u32)> {
    if problem.skip != Skip::Cols {
        let needed = "some, in a product that skips";
        return Err(unfit("active columns", problem.cols, needed));
    }
    let quant = problem.format.quant();
    let unit = quant.map_or(bands::BLOCK, |q| q.group_cols(problem.cols));
    let units = problem.cols.div_ceil(unit) as u32;
    let blocks = |slices: u32| units.div_ceil(slices) * unit.div_ceil(bands::BLOCK) as u32;
    let slices = (slices..=units.max(slices)).find(|&s| blocks(s) <= workgroup);
    let slices = slices.ok_or_else(|| unfit("columns of a group", unit, "at most 16 a lane"))?;
    Ok((slices, blocks(slices)))
}
