//! The launch that transposes x: columns first, for kernels whose lanes lie along the batch.

use super::{Const, Dispatch, Operand, Problem, Role, problem, shader};
use crate::caps::{Caps, DeviceClass};

/// Columns and vectors of a tile, and lanes that move it: fewer on CPU adapters.
const TILE: (u32, u32) = (16, 16);
const GPU_TILE: (u32, u32) = (32, 256);

/// Lanes that transpose 4 x 4 numbers each.
const PAIR_LANES: usize = 8;

/// x in scratch, in tiles of vectors, each columns first: what a workgroup reads of x is then contiguous, and where it
/// is read in order, prefetchers follow.
pub(super) struct Turned {
    /// Vectors of a tile.
    wide: u32,
    /// Vectors of all tiles.
    vectors: usize,
    /// Bytes of scratch that it takes.
    pub scratch_bytes: u64,
}

impl Turned {
    /// For tiles of `tile_batch` vectors.
    pub fn new(problem: &Problem, tile_batch: u32) -> Self {
        let vectors = problem.batch.next_multiple_of(tile_batch as usize);
        let bytes = (vectors as u64).saturating_mul(problem.cols as u64);
        Self {
            wide: tile_batch,
            vectors,
            scratch_bytes: bytes.saturating_mul(4),
        }
    }

    /// Where products find it.
    pub const OPERAND: Operand = Operand::read("xt", 1, Role::Scratch);

    /// The launch that writes it, with 64-bit integers where `pairs` asks for them and rows of x are whole quads.
    pub fn launch(&self, problem: &Problem, pairs: bool, caps: &Caps) -> Dispatch {
        let dispatch = Dispatch {
            name: format!("transpose x of {problem}"),
            params: vec![problem.batch as u32, problem.cols as u32, self.wide],
            operands: vec![problem::X, Operand::write("xt", 2, Role::Scratch)],
            scratch_bytes: self.scratch_bytes,
            ..Dispatch::default()
        };
        if pairs && problem.cols % 4 == 0 {
            let blocks = (self.vectors / 4) as u64 * problem.cols.div_ceil(4 * PAIR_LANES) as u64;
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
                tiles(self.vectors) * tiles(problem.cols),
                caps.max_workgroups,
            ),
            ..dispatch
        }
    }
}
