//! `gemm_tiled`: any batch on GPUs, tiles in workgroup memory and registers.
//!
//! [`Config`]: a workgroup computes `rows` x `batch` of y and stages about `words` slots of each
//! row at a time. Variants name the square of y that a lane holds, and whether the weight is
//! loaded 16 bytes at a time or, in `portable`, 4. Lanes beyond those that hold the tile once
//! are more teams, which share the slots. Arithmetic is done only where weights are stored; the
//! more rows share an index set, the fewer x are read for it. Weights may lie in bands: a lane then
//! loads rows of one column instead of columns of one row.

use super::{
    Config, Const, Dispatch, Kernel, Layout, PartLayout, Problem, Skip, even, fragment, gemm_lanes,
    layout,
    packet::{self, Load, gcd},
    problem::unfit,
    quantize::Source,
    shader,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
    format::{Format, Precision},
};
use std::borrow::Cow;

/// Tiles of y, (rows, batch), each twice the one before. Where a slot stands for many columns, a tile is mostly
/// x, and fewer vectors of more rows are better.
const TILES: [(u32, u32); 7] = [
    (16, 16),
    (32, 16),
    (32, 32),
    (64, 32),
    (64, 64),
    (128, 64),
    (128, 128),
];
const SPARSE_TILES: [(u32, u32); 7] = [
    (16, 16),
    (32, 16),
    (64, 16),
    (64, 32),
    (128, 32),
    (128, 64),
    (128, 128),
];

/// The fewest workgroups that keep a large GPU busy, at one for each of its processors.
const ENOUGH: u64 = 96;

/// Slots that are staged at a time, where they fit.
const DEPTHS: [u32; 5] = [64, 32, 16, 8, 4];

/// Most squares of x, 4 x 4 numbers each, that a lane fetches ahead. More would spill, and a software adapter
/// took eleven seconds to compile 16 of them.
const SQUARES_HELD: usize = 4;

/// Bytes of workgroup memory: what every device has, what most have, and what NVIDIA's have.
const BUDGETS: [u32; 3] = [16 << 10, 32 << 10, 48 << 10];

pub struct GemmTiled;

impl Kernel for GemmTiled {
    fn name(&self) -> &'static str {
        "gemm_tiled"
    }

    fn serves(&self, _: Layout, skip: Skip) -> bool {
        skip == Skip::Nothing
    }

    fn takes(&self, precision: Precision) -> bool {
        precision != Precision::F16
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        // No product of a weight in bands takes x in eight bits: those that skip columns are in f32, and so are
        // the others.
        let bytes_in_bands = problem.precision == Precision::I8 && problem.layout == Layout::Bands;
        // On GPUs kept groups lie by rows where all rows keep equally many.
        let kept = matches!(problem.format, Format::Gqs { .. });
        let by_rows = caps.class == DeviceClass::Gpu && even::balanced(problem.format).is_some();
        if kept && !by_rows || bytes_in_bands {
            return vec![];
        }
        let columns_a_slot = problem.format.pattern().map_or(1, |p| p.m() / p.n());
        let tiles = if columns_a_slot < 4 {
            TILES
        } else {
            SPARSE_TILES
        };
        let wide = problem.batch.min(1 << 16).next_power_of_two() as u32;
        let tiles: Vec<_> = tiles.into_iter().filter(|t| t.1 <= wide.max(16)).collect();
        let count = |(rows, batch): (u32, u32)| {
            let down = problem.rows.div_ceil(rows as usize) as u64;
            down * problem.batch.div_ceil(batch as usize) as u64
        };
        // The largest tile that makes enough workgroups; then its neighbours.
        let best = tiles.iter().rposition(|&t| count(t) >= ENOUGH).unwrap_or(0);
        let mut configs = vec![
            // Deeper steps wait less: 1.2 to 1.5 times as fast where memory allows (measured).
            deepest(problem, "quads-8x8", tiles[best], BUDGETS[2]),
            deepest(problem, "quads-8x8", tiles[best], BUDGETS[1]),
        ];
        for near in [best.checked_sub(1), Some(best + 1)].into_iter().flatten() {
            if let Some(&tile) = tiles.get(near) {
                configs.push(deepest(problem, "quads-8x8", tile, BUDGETS[1]));
            }
        }
        // Rows with columns of their own share no x: the eight of a lane read it eight times, and software
        // adapters take a minute to compile that.
        if problem.format.pattern().is_some() && layout::sharing(problem.format) % 8 != 0 {
            configs.clear();
        }
        // Weights in bands are there for products that skip: for whole ones a configuration of each kind will do.
        if problem.layout == Layout::Bands {
            configs.truncate(1);
        }
        configs.push(deepest(problem, "portable-4x4", (32, 32), BUDGETS[0]));
        configs.into_iter().flatten().collect()
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        if matches!(problem.format, Format::Gqs { .. }) {
            even::check(parts)?;
        }
        let shape = Shape::new(problem, config)?;
        let sparse = problem.format.pattern().is_some();
        let coded = problem.format.quant().is_some();
        let edge = problem.cols % 4 != 0;
        let mut fragments = problem.fragments(caps.class);
        fragments.push(fragment!("y_words"));
        fragments.push(if sparse {
            fragment!("tile_nm")
        } else {
            fragment!("tile_dense")
        });
        fragments.push(match problem.format {
            Format::Gqs { .. } => fragment!("products_kept"),
            _ => fragment!("products_all"),
        });
        let wide = !coded && !shape.load.words();
        let (mut consts, decoding) = if problem.layout == Layout::Bands {
            runs(problem, &shape, parts)
        } else {
            let (consts, mut decoding) = packet::decoded(problem, shape.span, shape.load);
            decoding.extend([fragment!("tile_weights"), fragment!("tile_put")]);
            (consts, decoding)
        };
        fragments.extend(decoding);
        if sparse && wide {
            fragments.push(fragment!("index_words"));
        }
        fragments.push(shader!("gemm_tiled"));
        consts.extend(problem.consts());
        let x = if edge {
            fragment!("x_scalars")
        } else {
            fragment!("x_quads")
        };
        let source = Source::numbers(problem, x, caps)?;
        consts.extend(source.consts);
        fragments.extend(source.fragments);
        let mut dispatches = source.launches;
        let numbers = [
            ("WORKGROUP", config.workgroup as usize),
            ("TILE_ROWS", config.rows as usize),
            ("TILE_BATCH", config.batch as usize),
            ("TILE_COLS", shape.cols),
            ("TILE_SLOTS", shape.slots),
            ("TILE_SETS", shape.sets),
            ("TR", shape.side),
            ("TB", shape.side),
            ("SHARE", shape.share),
            ("W_PLANE", shape.w_plane),
            ("ROUND", shape.round),
        ];
        consts.extend(numbers.map(|(name, value)| (name, Const::U32(value as u32))));
        consts.push(("EDGE", Const::Bool(edge)));
        let across = problem.batch.div_ceil(config.batch as usize) as u64;
        dispatches.extend(parts.iter().enumerate().map(|(i, part)| Dispatch {
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, source.stride, 0),
            operands: problem.operands(source.operand, i, !wide || sparse, wide),
            workgroup_bytes: shape.bytes(),
            scratch_bytes: source.scratch_bytes,
            ..problem.launch(self, config, config.tiles(part) * across, caps)
        }));
        Ok(dispatches)
    }
}

/// Consts and fragments that load and decode weights in bands.
fn runs(
    problem: &Problem,
    shape: &Shape,
    parts: &[PartLayout],
) -> (Vec<(&'static str, Const)>, Vec<Cow<'static, str>>) {
    let words = shape.span / problem.values_in(1);
    let consts = gemm_lanes::band_consts(problem, words as u32, parts);
    let mut fragments = vec![shape.load.fragment(), fragment!("tile_bands")];
    if problem.format.quant().is_some() {
        fragments.extend([fragment!("run_codes"), fragment!("scale")]);
    } else {
        fragments.push(fragment!("run_values"));
    }
    (consts, fragments)
}

/// The configuration of `tile` that stages most within `budget` bytes, with a team of lanes for
/// every four slots, up to 256 lanes. `None` where nothing fits.
fn deepest(
    problem: &Problem,
    variant: &'static str,
    (rows, batch): (u32, u32),
    budget: u32,
) -> Option<Config> {
    DEPTHS.into_iter().find_map(|words| {
        let mut config = Config {
            variant,
            workgroup: 256,
            rows,
            batch,
            words,
        };
        let team = rows * batch / side(&config)?.pow(2) as u32;
        let quads = Shape::new(problem, &config).ok()?.slots as u32 / 4;
        while config.workgroup > team.max(32) && config.workgroup / team > quads {
            config.workgroup /= 2;
        }
        let shape = Shape::new(problem, &config).ok()?;
        let squares = shape.cols * batch as usize / 16;
        let held = squares.div_ceil(config.workgroup as usize);
        let fits = shape.bytes() <= budget && (held <= SQUARES_HELD || words == DEPTHS[4]);
        fits.then_some(config)
    })
}

/// Rows, and vectors, of y that a lane holds.
fn side(config: &Config) -> Option<usize> {
    match config.variant {
        "quads-8x8" => Some(8),
        "portable-4x4" => Some(4),
        _ => None,
    }
}

/// What a configuration makes of a problem.
struct Shape {
    /// Rows, and vectors, of y that a lane holds.
    side: usize,
    /// Slots and columns of a step: whole windows, whole quads of both, whole packets.
    slots: usize,
    cols: usize,
    /// Values of a packet, and how it is loaded.
    span: usize,
    load: Load,
    /// Index sets that the tile's rows may meet; 0 for dense weights.
    sets: usize,
    /// Rows of a lane that use the same columns, wherever the lane's rows begin.
    share: usize,
    /// Quads of a plane of x and of one of W.
    x_plane: usize,
    w_plane: usize,
    /// Quads of sums of a lane that the planes of W can hold at a time.
    round: usize,
    /// Whether some columns that are staged are not kept.
    kept: bool,
}

impl Shape {
    /// # Errors
    /// Where the lanes are no whole teams.
    fn new(problem: &Problem, config: &Config) -> Result<Self> {
        let (workgroup, rows, batch, depth) = (
            config.workgroup as usize,
            config.rows as usize,
            config.batch as usize,
            config.words as usize,
        );
        let side = side(config).ok_or_else(|| unfit("side", 0, "4 or 8"))?;
        if workgroup % (rows * batch / (side * side)) != 0 {
            return Err(unfit("workgroup", workgroup, "whole teams of lanes"));
        }
        let pattern = problem.format.pattern();
        let (n, m) = pattern.map_or((1, 1), |p| (p.n(), p.m()));
        // The fewest windows that are whole quads of slots and of columns.
        let unit = (4 / gcd(4, n)).max(4 / gcd(4, m));
        let windows = (depth / n).next_multiple_of(unit).max(unit);
        let (slots, cols) = (windows * n, windows * m);
        let quads = problem.values_in(4);
        // In bands a packet has rows of one column.
        let bands = problem.layout == Layout::Bands;
        let (span, load) = if problem.format.quant().is_some() {
            let of_rows = gcd(slots, packet::CODES);
            (
                if bands { problem.values_in(1) } else { of_rows },
                Load::Words,
            )
        } else if bands {
            let (words, load) = match config.variant {
                "quads-8x8" => (4, Load::Quads),
                _ => (1, Load::Words),
            };
            (problem.values_in(words), load)
        } else if config.variant == "quads-8x8" && slots % quads == 0 {
            (quads, Load::Quads)
        } else {
            (4, Load::Words)
        };
        let v = layout::sharing(problem.format);
        let (sets, share) = if pattern.is_none() {
            (0, side)
        } else {
            let sets = if rows % v == 0 {
                rows / v
            } else {
                (rows - 1) / v + 2
            };
            let share = if v % side == 0 {
                side
            } else if side % v == 0 {
                v
            } else {
                1
            };
            (sets, share)
        };
        let x_plane = cols * batch / side + cols / 4;
        let staged = rows / side * ((slots / 4) | 1);
        let round = [4, 2, 1]
            .into_iter()
            .find(|round| round * (workgroup + 1) <= staged * side)
            .unwrap_or(1);
        Ok(Self {
            side,
            slots,
            cols,
            span,
            load,
            sets,
            share,
            x_plane,
            w_plane: staged.max((workgroup + 1).div_ceil(side)),
            round,
            kept: matches!(problem.format, Format::Gqs { .. }),
        })
    }

    /// Bytes of workgroup memory.
    fn bytes(&self) -> u32 {
        let x = self.side / 4 * self.x_plane;
        let tiles = (x + self.side * self.w_plane + self.sets * self.slots / 4) * 16;
        (tiles + if self.kept { 8 } else { 0 }) as u32
    }
}
