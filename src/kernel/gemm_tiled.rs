//! `gemm_tiled`: any batch on GPUs, tiles in workgroup memory and registers.
//!
//! [`Config`]: a workgroup computes `rows` x `batch` of y. Arithmetic is done only where
//! weights are stored; the more rows share an index set, the fewer x are read for it.

use super::{
    Config, Const, Dispatch, Kernel, PartLayout, Problem, fragment, layout,
    packet::{self, Load, gcd},
    problem, shader,
};
use crate::{caps::Caps, error::Result, format::Format};

/// Columns of x staged at a time, rounded to whole windows.
const TILE_COLS: usize = 16;

pub struct GemmTiled;

impl Kernel for GemmTiled {
    fn name(&self) -> &'static str {
        "gemm_tiled"
    }

    fn configs(&self, problem: &Problem, _caps: &Caps) -> Vec<Config> {
        // 8 x 8 a lane where the tile is full, 4 x 4 for small products and small limits.
        let sizes: &[_] = if matches!(problem.format, Format::Gqs { .. }) {
            &[]
        } else if problem.batch > 64 {
            &[(256, 128, 128), (64, 64, 64), (256, 64, 64), (64, 32, 32)]
        } else if problem.batch > 32 {
            &[(64, 64, 64), (256, 64, 64), (64, 32, 32)]
        } else {
            &[(64, 32, 32), (64, 64, 64)]
        };
        let config = |&(workgroup, rows, batch): &(u32, u32, u32)| Config {
            variant: "tiles",
            workgroup,
            rows,
            batch,
            words: 1,
        };
        sizes.iter().map(config).collect()
    }

    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        if problem.batch == 0 {
            return Ok(vec![]);
        }
        // Each lane holds a square of y.
        let (rows, batch) = (config.rows as usize, config.batch as usize);
        let side = (rows * batch / config.workgroup as usize).isqrt();
        let v = layout::sharing(problem.format);
        let coded = problem.format.quant().is_some();
        let (tile_cols, tile_slots) = match problem.format.pattern() {
            None => (TILE_COLS, TILE_COLS),
            Some(pattern) => {
                // Whole windows, whose slots fill whole words of values or half a word of codes.
                let even = if coded || pattern.n() % problem.values_in(1) == 0 {
                    1
                } else {
                    2
                };
                let windows = (TILE_COLS / pattern.m()).next_multiple_of(even).max(even);
                (windows * pattern.m(), windows * pattern.n())
            }
        };
        let sets = if rows % v == 0 {
            rows / v
        } else {
            (rows - 1) / v + 2
        };
        let mut fragments = problem.fragments(caps.class);
        let sparse = problem.format.pattern().is_some();
        let (tile, column_bytes) = if sparse {
            (fragment!("tile_nm"), tile_slots * sets * 4)
        } else {
            (fragment!("tile_dense"), 0)
        };
        fragments.push(tile);
        // Rows of a lane that use the same columns, wherever the lane's rows begin.
        let share = if !sparse || v % side == 0 {
            side
        } else if side % v == 0 {
            v
        } else {
            1
        };
        // Short packets of codes keep more of the workgroup at work.
        let span = if coded {
            gcd(tile_slots, packet::CODES / 2)
        } else {
            problem.values_in(1)
        };
        let (mut consts, decoding) = packet::decoded(problem, span, Load::Words);
        fragments.extend(decoding);
        fragments.push(shader!("gemm_tiled"));
        consts.extend(problem.consts());
        let numbers = [
            ("WORKGROUP", config.workgroup as usize),
            ("TILE_ROWS", rows),
            ("TILE_BATCH", batch),
            ("TILE_COLS", tile_cols),
            ("TILE_SLOTS", tile_slots),
            ("TILE_SETS", sets),
            ("TR", side),
            ("TB", side),
            ("SHARE", share),
        ];
        consts.extend(numbers.map(|(name, value)| (name, Const::U32(value as u32))));
        let across = problem.batch.div_ceil(batch) as u64;
        let dispatches = parts.iter().enumerate().map(|(i, part)| Dispatch {
            name: format!("gemm_tiled/{config} {}", problem.format),
            enables: vec![],
            consts: consts.clone(),
            fragments: fragments.clone(),
            params: problem.params(part, 0, 0),
            operands: problem.operands(problem::X, i, true, false),
            invocations: config.workgroup,
            workgroup_bytes: ((tile_cols * (batch + 4) + tile_slots * (rows + 4)) * 4
                + column_bytes) as u32,
            subgroups: false,
            int64: false,
            scratch_bytes: 0,
            grid: super::fold(
                u64::from(part.rows.div_ceil(config.rows)) * across,
                caps.max_workgroups,
            ),
        });
        Ok(dispatches.collect())
    }
}
