//! The file of statistics on a model's inputs; `docs/container.md` is the specification.
//!
//! ```text
//! __metadata__:  lacuna_statistics.version = "1"
//!                lacuna_statistics.P = {"modules":["P","Q"],"samples":65536}
//! tensors:       P.mean F32 [cols]   P.mean_square F32 [cols]
//!                P.hessian F32 [cols · (cols + 1) / 2], the lower triangle row by row
//!                P.quantiles F32 [1001]
//!
//! __metadata__:  lacuna_gates.P = {"samples":65536}
//! tensors:       P.up_mean_abs P.up_mean_square P.down_norm F32 [channels]
//!                P.cats P.chess P.chess2 P.chess-down F32 [1001]
//! ```
//!
//! Modules with the same input share one entry, named after the first of them. Keys do not begin
//! with `lacuna.`, because each such key is a weight.

mod reader;
mod writer;

pub use reader::Statistics;
pub use writer::{Gated, Shared, StatisticsWriter};

use serde::{Deserialize, Serialize};

/// The version this crate writes, and the newest it reads.
const VERSION: u64 = 1;
const VERSION_KEY: &str = "lacuna_statistics.version";
const KEY_PREFIX: &str = "lacuna_statistics.";

const MEAN: &str = ".mean";
const MEAN_SQUARE: &str = ".mean_square";
const HESSIAN: &str = ".hessian";
const QUANTILES: &str = ".quantiles";

/// Prefix of the entry of a feed-forward block, which stands beside the entries of inputs.
const GATE_PREFIX: &str = "lacuna_gates.";
const UP_MEAN_ABS: &str = ".up_mean_abs";
const UP_MEAN_SQUARE: &str = ".up_mean_square";
const DOWN_NORM: &str = ".down_norm";

/// What the header says of one feed-forward block.
#[derive(Debug, Serialize, Deserialize)]
struct GateEntry {
    samples: u64,
}

/// What the header says of one input.
#[derive(Debug, Deserialize)]
struct Entry {
    samples: u64,
    modules: Vec<String>,
}

/// Elements of a lower triangle, its diagonal included.
const fn triangle(cols: usize) -> Option<usize> {
    match cols.checked_add(1) {
        // One of two neighbouring numbers is even, so halving it first is exact.
        Some(next) if cols % 2 == 0 => (cols / 2).checked_mul(next),
        Some(next) => cols.checked_mul(next / 2),
        None => None,
    }
}

#[cfg(test)]
mod tests;
