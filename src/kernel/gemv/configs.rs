//! The configurations of `gemv`, the best guess first: tiles and turns that fit registers and that drivers unroll.

use super::{MAX_BATCH, MOST_UNROLLED};
use crate::{
    caps::{Caps, DeviceClass},
    format::{Dtype, Format, Pattern, Quant},
    kernel::{Config, Problem, layout, packet},
};

/// Most values of x that a lane of a CPU adapter holds for a packet (measured).
const MOST_HELD: usize = 64;

/// Most numbers of x that a packet meets on a GPU, over all vectors of a turn: 64 spill. At 4096 x 4096 an H100
/// takes 17 µs for four vectors of f16, but 9.3 ms for eight at once; for `w4` 19 µs and 19 ms; for `w2` 17 µs
/// for two and 6.7 ms for four.
const MOST_MET: usize = 32;

/// Most numbers of x that a lane of a CPU adapter gathers for a packet of codes, over all vectors of a turn.
const MOST_GATHERED: usize = 16;

/// Configurations for a product.
pub(super) fn of(problem: &Problem, caps: &Caps) -> Vec<Config> {
    match (problem.format, caps.class) {
        (Format::Gqs { .. }, _) => vec![],
        (Format::Quantized { quant, .. }, class) => code_configs(problem, quant, class, caps),
        (_, DeviceClass::Cpu) => cpu_configs(problem, caps),
        (_, DeviceClass::Gpu) => gpu_configs(problem),
    }
}

/// Configurations for adapters that run on the processor, the best guess first.
fn cpu_configs(problem: &Problem, caps: &Caps) -> Vec<Config> {
    let config = config(problem);
    let lanes = caps.subgroups.map_or(8, |s| s.min);
    let v = layout::sharing(problem.format);
    let vector_rows = |most| packet::largest_divisor(v, most);
    // Where rows pick from windows, a turn has two vectors, or one where values are halves and two rows share a
    // choice: drivers do not unroll more, which then takes ten times as long.
    let halves = problem.values_in(1) == 2;
    let picked = if v == 2 && halves { 1 } else { 2 };
    let picking = |variant, workgroup, rows, words| Config {
        batch: even_turn(problem.batch, picked) as u32,
        ..config(variant, workgroup, rows, words)
    };
    // Values of x that meet one word of the weight; those of a packet must stay in registers.
    let held = problem.batch * problem.values_in(1);
    match problem.format {
        Format::Dense(_) => {
            // Eight vectors are too much x for a packet of halves.
            let short = problem.values_in(4) * MAX_BATCH < MOST_HELD;
            let most = if short { MAX_BATCH } else { MAX_BATCH - 1 };
            let even = |variant, lanes, rows, words| Config {
                batch: even_turn(problem.batch, most) as u32,
                ..config(variant, lanes, rows, words)
            };
            let mut configs = vec![
                even("one-pairs-x4", lanes, 4, 4),
                config("one-pairs-x4", lanes, 8, 4),
                config("one-octs-x4", lanes, 8, 8),
                config("one-quads-x4", lanes, 4, 4),
                config("one-quads-x4", lanes, 8, 4),
                config("one-quads", lanes, 4, 4),
                config("one", lanes, 8, 1),
                config("one", lanes, 4, 1),
                config("portable-quads", 8, 4, 4),
                config("portable", 8, 4, 1),
                config("portable", 64, 1, 1),
            ];
            // Long rows and few vectors: more rows share x.
            if held <= 4 && problem.cols > 4096 / problem.values_in(1) {
                configs.swap(0, 1);
            }
            configs
        }
        _ if v == 1 => {
            // x is gathered for a packet: where it takes more than a few registers, one row is faster than many
            // (measured at batch 1 to 8).
            let (few, fewer) = match held {
                1 => (4, 2),
                2 => (2, 1),
                _ => (1, 2),
            };
            let mut configs = vec![
                picking("one-pairs-window-x4", lanes, 8, 4),
                picking("one-quads-window", lanes, 4, 4),
                config("one-pairs", lanes, few, 4),
                config("one-octs", lanes, fewer, 8),
                config("one-quads", lanes, few, 4),
                config("one-quads", lanes, fewer, 4),
                picking("one-window", lanes, 4, 4),
                picking("portable-window", 8, 4, 4),
                config("portable-quads", 8, 2, 4),
                config("portable", 64, 1, 4),
            ];
            if held > 3 {
                configs[1..].rotate_left(1);
            }
            // Without masked loads a load costs more than choosing saves, where few of a window are kept (measured).
            let sparse = problem.format.pattern().is_some_and(|p| p.n() == 1);
            if !caps.masked_loads && sparse && problem.batch <= 2 {
                let gathering = configs.iter().position(|c| c.variant == "one-pairs");
                configs[..=gathering.unwrap_or(0)].rotate_right(1);
            }
            configs
        }
        _ => {
            let turn = even_turn(problem.batch, MAX_BATCH).max(1);
            let most = MOST_UNROLLED / (problem.values_in(4) * turn);
            let mut configs = vec![
                config(
                    "one-pairs",
                    lanes,
                    vector_rows((most as u32).clamp(1, 8)),
                    4,
                ),
                config("one-octs", lanes, vector_rows(8), 8),
                config("one-quads", lanes, vector_rows(8), 4),
                config("one-quads", lanes, vector_rows(4), 4),
                config("one", lanes, vector_rows(8), 4),
                config("portable-quads", 8, vector_rows(8), 4),
                config("portable", 64, 1, 4),
            ];
            // Eight rows load the windows that they pick from once, however few share a choice. Gathering is
            // faster (measured) where many rows share a choice or keep one in four, for one vector of bf16, whose
            // decoding is short, for several vectors unless few rows share a choice, and without masked loads.
            let dense = problem.format.pattern().is_some_and(|p| 2 * p.n() >= p.m());
            let one = held <= 2;
            if one || (dense && v <= if halves { 4 } else { 2 }) {
                let bf16 = problem.format.dtype() == Some(Dtype::Bf16);
                let second = !dense || v > 8 || (one && v >= 4 && bf16) || !caps.masked_loads;
                let window = picking("one-pairs-window-x4", lanes, 8, 4);
                configs.insert(usize::from(second), window);
            }
            configs
        }
    }
}

/// Configurations for GPUs, the fastest first (measured on an H100).
fn gpu_configs(problem: &Problem) -> Vec<Config> {
    let config = |variant, workgroup, rows, words| Config {
        batch: gpu_turn(problem, words as usize),
        ..config(problem)(variant, workgroup, rows, words)
    };
    // Sums of rows x batch must stay in registers: fewer rows where there are more vectors.
    let most = (8 / gpu_turn(problem, 4).max(1)).clamp(1, 4);
    let few = most.min(2);
    if matches!(problem.format, Format::Dense(_)) {
        return vec![
            config("subgroup-quads-x4", 256, few, 4),
            config("subgroup-quads-x4", 64, most, 4),
            config("subgroup-quads", 128, most, 4),
            config("subgroup", 64, most, 1),
            config("portable-quads", 64, most, 4),
            config("portable", 64, 1, 1),
        ];
    }
    let v = layout::sharing(problem.format);
    let (rows, picked) = if v > 1 {
        let rows = packet::largest_divisor(v, 2 * most);
        (rows, rows)
    } else {
        (most, few)
    };
    let mut best = [
        config("subgroup-quads-window-x4", 256, picked, 4),
        config("subgroup-quads", 256, rows, 4),
    ];
    // Where four rows share a choice, gathering x is as fast as picking it.
    if v == 4 {
        best.reverse();
    }
    let [first, second] = best;
    vec![
        first,
        second,
        config("subgroup-quads-window", 64, picked, 4),
        config("subgroup", 64, rows, 4),
        config("portable-quads", 64, rows, 4),
        config("portable", 64, 1, 4),
    ]
}

/// Configurations for codes, the fastest first (measured).
fn code_configs(problem: &Problem, quant: Quant, class: DeviceClass, caps: &Caps) -> Vec<Config> {
    let config = config(problem);
    let sparse = problem.format.pattern().is_some();
    let v = layout::sharing(problem.format);
    let rows = |most| {
        if sparse {
            packet::largest_divisor(v, most)
        } else {
            most
        }
    };
    // The fewest words that hold whole codes.
    let unit = quant.bits() >> quant.bits().trailing_zeros();
    match class {
        DeviceClass::Cpu => {
            let lanes = caps.subgroups.map_or(8, |s| s.min);
            if sparse {
                return sparse_code_configs(problem, quant, lanes, unit);
            }
            // Codes that straddle words come 32 at a time, whose x fills the registers with one vector.
            let straddle = unit > 1;
            let turn = even_turn(problem.batch, if straddle { 1 } else { MAX_BATCH });
            let config = |variant, workgroup, rows, words| Config {
                batch: turn as u32,
                ..config(variant, workgroup, rows, words)
            };
            // Longer bodies are not unrolled, and then cost several times as much.
            let most = MOST_HELD / (problem.values_in(unit as usize) * turn.max(1));
            let most = if straddle {
                4
            } else {
                (most as u32).clamp(1, 8)
            };
            let mut configs = vec![
                config("one-x4", lanes, most, unit),
                config("one", lanes, most, unit),
                config("one", lanes, most.min(4), unit),
                config("portable", 8, most, unit),
                config("portable", 64, 1, unit),
            ];
            configs.splice(0..0, quad_config(problem, quant, lanes));
            configs
        }
        DeviceClass::Gpu => {
            let turn = gpu_turn(problem, unit as usize);
            let config = |variant, workgroup, rows, words| Config {
                batch: turn,
                ..config(variant, workgroup, rows, words)
            };
            let most = (8 / turn.max(1)).clamp(1, 4);
            let x4 = |name, direct| if sparse { direct } else { name };
            let wide = config(x4("subgroup-x4", "subgroup"), 256, rows(most), unit);
            let mut configs = vec![
                wide,
                config(x4("subgroup-x4", "subgroup"), 128, rows(most), unit),
                config("subgroup", 64, rows(most), unit),
                config("portable", 64, 1, unit),
            ];
            // Many short rows: two rounds of 256 lanes are over before their loads overlap.
            let packets = problem.slots().div_ceil(problem.values_in(unit as usize));
            if matches!(quant.bits(), 2 | 4) && packets <= 1024 && problem.rows >= 4096 {
                configs.swap(0, 1);
            }
            if quant.bits() == 8 && problem.batch == 1 {
                // Neighbouring lanes meet x in few cache lines only where a load holds few codes.
                let quads = x4("subgroup-quads-x4", "subgroup-quads");
                configs.insert(1, config(quads, 64, rows(most), 4));
            }
            configs
        }
    }
}

/// Configurations for codes of N:M weights, on CPU adapters.
fn sparse_code_configs(problem: &Problem, quant: Quant, lanes: u32, unit: u32) -> Vec<Config> {
    let v = layout::sharing(problem.format);
    let shared = |most| packet::largest_divisor(v, most);
    // Longer bodies are not unrolled, and then cost several times as much.
    let turn = (MOST_GATHERED / problem.values_in(unit as usize)).clamp(1, 4);
    let gathering = |variant, workgroup, rows, words| Config {
        batch: even_turn(problem.batch, turn) as u32,
        ..config(problem)(variant, workgroup, rows, words)
    };
    let mut configs = vec![
        gathering("one", lanes, shared(8), unit),
        gathering("one", lanes, shared(4), unit),
        gathering("portable", 8, shared(8), unit),
        gathering("portable", 64, 1, unit),
    ];
    // Eight rows load the windows that they pick from once, however few share a choice: eight codes and two
    // vectors at a time. More is not unrolled and takes ten times as long (measured at 4 and 8 bits).
    let window = match quant.bits() {
        4 => ("one-window-x4", 1),
        8 => ("one-longs-window-x4", 2),
        _ => return configs,
    };
    let rows = if 8 % v == 0 { 8 } else { shared(8) };
    let turn = if v == 2 && quant.bits() == 4 { 1 } else { 2 };
    let picking = Config {
        batch: even_turn(problem.batch, turn) as u32,
        ..config(problem)(window.0, lanes, rows, window.1)
    };
    configs.insert(0, picking);
    configs
}

/// Codes taken four at a time, in wide loads: the most rows, words and vectors that CPU adapters still
/// unroll (measured at batch 1 to 8; beyond them a product takes several times as long).
fn quad_config(problem: &Problem, quant: Quant, lanes: u32) -> Option<Config> {
    let one = problem.batch <= 1;
    let (variant, rows, words, vectors) = match quant.bits() {
        2 => ("one-longs-x4", 8, 2, 1),
        4 => ("one-longs-x4", if one { 8 } else { 4 }, 2, 4),
        8 => ("one-pairs-x4", 4, 4, 4),
        _ => return None,
    };
    Some(Config {
        batch: even_turn(problem.batch, vectors) as u32,
        ..config(problem)(variant, lanes, rows, words)
    })
}

/// Whether rows may pick the x of their slots from windows of four columns, on CPU adapters.
pub fn picks_windows(problem: &Problem) -> bool {
    let Problem { format, cols, .. } = problem;
    let windows = |p: Pattern| p.m() == 4 && 4 % p.n() == 0;
    let coded = |quant: Quant| matches!(quant.bits(), 4 | 8);
    cols % 4 == 0 && format.pattern().is_some_and(windows) && format.quant().is_none_or(coded)
}

fn config(problem: &Problem) -> impl Fn(&'static str, u32, u32, u32) -> Config {
    let batch = even_turn(problem.batch, MAX_BATCH) as u32;
    move |variant, workgroup, rows, words| Config {
        variant,
        workgroup,
        rows,
        batch,
        words,
    }
}

/// Vectors of a turn where `batch` vectors are taken in as few turns as possible, of at most `most` each. Turns
/// are equally long, because the more vectors a turn has, the less one more costs.
fn even_turn(batch: usize, most: usize) -> usize {
    batch.div_ceil(batch.div_ceil(most).max(1))
}

/// Vectors of a turn on a GPU, in packets of `words` words.
fn gpu_turn(problem: &Problem, words: usize) -> u32 {
    let most = MOST_MET / problem.values_in(words).max(1);
    even_turn(problem.batch, most.clamp(1, MAX_BATCH)) as u32
}
