//! The launch that transposes x: columns first, for kernels whose lanes lie along the batch.

use super::{Const, Dispatch, Operand, Problem, Role, problem, shader};
use crate::caps::{Caps, DeviceClass};

/// Elements of a cache line of 64 bytes.
const CACHE_LINE: usize = 16;

/// Columns and vectors of a tile, and lanes that move it: fewer on CPU adapters.
const TILE: (u32, u32) = (16, 16);
const GPU_TILE: (u32, u32) = (32, 256);

/// Lanes that transpose 4 x 4 numbers each.
const PAIR_LANES: usize = 8;

/// x, columns first, in scratch.
pub(super) struct Turned {
    /// Words from one column to the next: the vectors of whole tiles, and some to spare.
    pub stride: usize,
    /// Bytes of scratch that it takes.
    pub scratch_bytes: u64,
}

impl Turned {
    /// For tiles of `tile_batch` vectors.
    pub fn new(problem: &Problem, tile_batch: u32) -> Self {
        // One cache line more: columns a power of two apart would all fall into the same sets.
        let stride = problem.batch.next_multiple_of(tile_batch as usize) + CACHE_LINE;
        let bytes = (stride as u64).saturating_mul(problem.cols as u64);
        Self {
            stride,
            scratch_bytes: bytes.saturating_mul(4),
        }
    }

    /// Where products find it.
    pub const OPERAND: Operand = Operand::read("xt", 1, Role::Scratch);

    /// The launch that writes it, with 64-bit integers where `pairs` asks for them and rows of x are whole quads.
    pub fn launch(&self, problem: &Problem, pairs: bool, caps: &Caps) -> Dispatch {
        let dispatch = Dispatch {
            name: format!("transpose x of {problem}"),
            params: vec![
                problem.batch as u32,
                problem.cols as u32,
                self.stride as u32,
            ],
            operands: vec![problem::X, Operand::write("xt", 2, Role::Scratch)],
            scratch_bytes: self.scratch_bytes,
            ..Dispatch::default()
        };
        if pairs && problem.cols % 4 == 0 {
            let blocks = (self.stride / 4) as u64 * problem.cols.div_ceil(4 * PAIR_LANES) as u64;
            return Dispatch {
                consts: vec![("LANES", Const::U32(PAIR_LANES as u32))],
                fragments: vec![shader!("transpose_pairs")],
                invocations: PAIR_LANES as u32,
                int64: true,
                grid: super::fold(blocks, caps.max_workgroups),
                ..dispatch
            };
        }
        let (tile, wanted) = match caps.class {
            DeviceClass::Cpu => TILE,
            DeviceClass::Gpu => GPU_TILE,
        };
        let lanes = wanted.min(caps.max_invocations / tile * tile);
        let tiles = |n: usize| n.div_ceil(tile as usize) as u64;
        Dispatch {
            consts: vec![("TILE", Const::U32(tile)), ("LANES", Const::U32(lanes))],
            fragments: vec![shader!("transpose")],
            invocations: lanes,
            workgroup_bytes: tile * (tile + 1) * 4,
            grid: super::fold(
                tiles(self.stride) * tiles(problem.cols),
                caps.max_workgroups,
            ),
            ..dispatch
        }
    }
}
