//! Rows on all threads, a block at a time.

use crate::error::Result;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a block, unless more of them belong together.
pub(crate) const ROWS: usize = 32;

/// What `block` makes of all `rows`, in their order. `together` consecutive rows are never
/// parted. Blocks do not depend on the number of threads, and so no result does.
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
