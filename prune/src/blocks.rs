//! Rows processed on all threads, one block at a time.

use crate::error::Result;
use rayon::prelude::*;
use std::ops::Range;

/// Rows in a block, rounded up to a multiple of the rows that belong together.
pub(crate) const ROWS: usize = 32;

/// Concatenates what `block` returns for each block of `rows`, in order. A set of `together`
/// consecutive rows is never split. Block boundaries, and so results, do not depend on the
/// number of threads.
pub(crate) fn in_blocks<T: Send>(
    rows: usize,
    together: usize,
    block: impl Fn(Range<usize>) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    let height = ROWS.div_ceil(together) * together;
    let blocks = (0..rows).into_par_iter().step_by(height);
    let done: Result<Vec<Vec<T>>> = blocks
        .map(|first| block(first..rows.min(first + height)))
        .collect();
    Ok(done?.into_iter().flatten().collect())
}
