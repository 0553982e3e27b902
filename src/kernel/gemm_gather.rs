//! `gemm_gather`: many vectors on GPUs, for N:M weights of which 16 rows or more share their columns.
//!
//! [`Config`]: a workgroup computes `rows` x `batch` of y, rows of one index set, and stages `words`
//! slots at a time: their weights, and their columns of x, which is transposed first. A lane holds
//! 8 x 8 sums.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment, layout,
    packet::{self, Load, gcd},
    problem::unfit,
    shader,
    transpose::Turned,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::Result,
};

/// Rows and vectors of a lane.
const SIDE: u32 = 8;

/// Tiles of y, (rows, batch), the fastest first (measured on an H100 at 4096 x 4096, batch 512).
const TILES: [(u32, u32); 5] = [(64, 128), (32, 128), (32, 256), (32, 64), (16, 128)];

/// The fewest tiles that keep a large GPU busy: while one waits for memory, others must compute.
const ENOUGH: u64 = 256;

/// The fewest vectors for which it pays: fewer leave most of a tile empty.
const LEAST_BATCH: usize = 64;

/// Tile shapes whose rows all share their columns.
fn fitting(problem: &Problem) -> Vec<(u32, u32)> {
    let v = match problem.format.pattern() {
        None => 1,
        Some(_) => layout::sharing(problem.format) as u32,
    };
    let fits = |t: &(u32, u32)| v.is_multiple_of(t.0);
    TILES.into_iter().filter(fits).collect()
}

fn count(problem: &Problem, (rows, batch): (u32, u32)) -> u64 {
    let down = problem.rows.div_ceil(rows as usize) as u64;
    down * problem.batch.div_ceil(batch as usize) as u64
}

/// Whether it is the fastest kernel on GPUs: where two slots stand for five columns or more, most of what
/// `gemm_tiled` stages is not needed.
fn pays(problem: &Problem) -> bool {
    let pattern = problem.format.pattern();
    let thin = pattern.is_some_and(|p| 2 * p.m() >= 5 * p.n());
    let enough = |&t: &(u32, u32)| count(problem, t) >= ENOUGH;
    thin && problem.batch >= LEAST_BATCH && fitting(problem).iter().any(enough)
}

pub struct GemmGather;

impl Kernel for GemmGather {
    fn name(&self) -> &'static str {
        "gemm_gather"
    }

    fn place(&self, problem: &Problem, _: DeviceClass) -> u8 {
        if pays(problem) { 0 } else { 2 }
    }

    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config> {
        if caps.class != DeviceClass::Gpu {
            return vec![];
        }
        // The two best shapes that give enough tiles, else the smallest.
        let tiles = fitting(problem);
        let enough = |t: &&(u32, u32)| count(problem, **t) >= ENOUGH;
        let mut chosen: Vec<_> = tiles.iter().filter(enough).take(2).collect();
        if chosen.is_empty() {
            chosen.extend(tiles.last());
        }
        let config = |&(rows, batch): &(u32, u32)| Config {
            variant: "8x8",
            workgroup: rows * batch / (SIDE * SIDE),
            rows,
            batch,
            // What a lane fetches ahead must stay in its registers.
            words: if rows * batch >= 32 * 128 { 16 } else { 8 },
        };
        chosen.into_iter().map(config).collect()
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        let v = layout::sharing(problem.format);
        let pattern = problem.format.pattern();
        let Some(pattern) = pattern.filter(|_| v % config.rows as usize == 0) else {
            return Err(unfit("V", v, "a multiple of the rows of a tile"));
        };
        let slots = config.words as usize;
        let staged = slots * config.batch as usize / 4;
        if staged % config.workgroup as usize != 0 {
            return Err(unfit("quads of x of a step", staged, "some for every lane"));
        }
        let coded = problem.format.quant().is_some();
        let quads = problem.values_in(4);
        let (span, load) = if coded {
            (gcd(slots, packet::CODES), Load::Words)
        } else if slots % quads == 0 {
            (quads, Load::Quads)
        } else {
            return Err(unfit("slots of a step", slots, "whole loads"));
        };
        let turned = Turned::new(problem, config.batch);
        let mut fragments = problem.fragments(caps.class);
        fragments.push(problem.y_fragment(parts, Some(fragment!("y_quads"))));
        let (mut consts, decoding) = packet::decoded(problem, span, load);
        fragments.extend(decoding);
        if !coded {
            fragments.push(fragment!("index_words"));
        }
        fragments.extend([fragment!("tile_weights"), shader!("gemm_gather")]);
        consts.extend(problem.consts());
        let cols = problem.cols;
        let spare = pattern.slots(cols) % slots != 0 || cols % pattern.m() != 0;
        consts.extend([
            ("WORKGROUP", Const::U32(config.workgroup)),
            ("TILE_ROWS", Const::U32(config.rows)),
            ("TILE_BATCH", Const::U32(config.batch)),
            ("TILE_SLOTS", Const::U32(config.words)),
            ("SPARE", Const::Bool(spare)),
        ]);
        let across = problem.batch.div_ceil(config.batch as usize) as u64;
        let products = parts.iter().enumerate().map(|(i, part)| Dispatch {
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, 0, 0),
            operands: problem.operands(Turned::OPERAND, i, true, !coded),
            workgroup_bytes: config.words * (config.rows / 4 + 1 + config.batch / 4) * 16,
            scratch_bytes: turned.scratch_bytes,
            ..problem.launch(self, config, config.tiles(part) * across, caps)
        });
        let transpose = turned.launch(problem, false, caps);
        Ok(std::iter::once(transpose).chain(products).collect())
    }
}
