//! `Σ x xᵀ`, the expensive part of calibration: a symmetric rank-k update in tiles.
//!
//! ```text
//! columns    0…127  128…255  …      Tiles of 128 x 128 on and below the diagonal are kept in f64,
//!    0…127     0                    one row of tiles after another. A block of samples adds
//!  128…255     1       2            xᵢᵀ · xⱼ to tile (i, j), where xᵢ are its columns in row i
//!    …         3       4     5      of the table and xⱼ those in column j.
//! ```

use ndarray::{ArrayView2, s};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a tile.
const TILE: usize = 128;
const TILE_LEN: usize = TILE * TILE;

/// Sums of products of pairs of columns.
#[derive(Debug, Clone)]
pub struct Gram {
    cols: usize,
    /// The tiles on and below the diagonal. Elements past the last column stay 0.
    tiles: Vec<f64>,
}

impl Gram {
    /// All sums zero.
    pub fn new(cols: usize) -> Self {
        Self {
            cols,
            tiles: vec![0.0; TILE_LEN * triangle(cols.div_ceil(TILE))],
        }
    }

    /// Bytes that the sums for `cols` columns take.
    pub fn bytes(cols: usize) -> u64 {
        8 * TILE_LEN as u64 * triangle(cols.div_ceil(TILE)) as u64
    }

    /// Adds a block of samples `x`, `[n, cols]`. Products are summed in f32 within the block, and
    /// the sum is added in f64.
    pub fn add(&mut self, x: &ArrayView2<f32>) {
        let columns =
            |tile: usize| -> Range<usize> { tile * TILE..self.cols.min((tile + 1) * TILE) };
        let tiles = self.tiles.par_chunks_exact_mut(TILE_LEN).enumerate();
        tiles.for_each(|(t, tile)| {
            let (i, j) = place(t);
            let products = x
                .slice(s![.., columns(i)])
                .t()
                .dot(&x.slice(s![.., columns(j)]));
            for (sums, products) in tile.chunks_exact_mut(TILE).zip(products.rows()) {
                for (sum, &product) in sums.iter_mut().zip(products) {
                    *sum += f64::from(product);
                }
            }
        });
    }

    /// The sum of products of the columns `row` and `col`; `col` is at most `row`.
    pub fn at(&self, row: usize, col: usize) -> f64 {
        let tile = triangle(row / TILE) + col / TILE;
        self.tiles[tile * TILE_LEN + row % TILE * TILE + col % TILE]
    }
}

/// 1 + 2 + … + n.
const fn triangle(n: usize) -> usize {
    n * (n + 1) / 2
}

/// Row and column of tile `t`.
fn place(t: usize) -> (usize, usize) {
    // There are far too few tiles for the root to be inexact.
    let row = (((8 * t + 1) as f64).sqrt() as usize - 1) / 2;
    (row, t - triangle(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_numbered_row_by_row() {
        let mut t = 0;
        for row in 0..1000 {
            for col in 0..=row {
                assert_eq!(place(t), (row, col));
                t += 1;
            }
        }
    }
}
