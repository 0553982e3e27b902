//! `Σ x xᵀ`, the dear part of calibration: a symmetric rank-k update in tiles.
//!
//! ```text
//! columns   0…63  64…127  …        Tiles of 64 x 64 on and below the diagonal are kept, row of
//!   0…63     0                     tiles after row of tiles, in f64. A block of samples is cut
//!  64…127    1      2              into panels of 64 columns first; the tile (i, j) gains
//!   …        3      4     5        panelᵢᵀ · panelⱼ, 4 x 8 products at a time in registers.
//! ```

use rayon::prelude::*;

/// Columns of a tile.
const TILE: usize = 64;
const TILE_LEN: usize = TILE * TILE;
/// Products that are summed in registers together.
const ROWS: usize = 4;
const COLS: usize = 8;

/// Sums of products of columns.
#[derive(Debug, Clone)]
pub struct Gram {
    cols: usize,
    /// The lower triangle of tiles, the diagonal with it. Elements past the last column are 0.
    tiles: Vec<f64>,
}

impl Gram {
    /// Nothing yet.
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

    /// Adds a block of samples `x`, `[n, cols]`. Products of the block are summed in f32 and
    /// their sums in f64, each in the order of the samples.
    pub fn add(&mut self, x: &[f32]) {
        let samples = x.len() / self.cols.max(1);
        let panels = panels(x, self.cols, samples);
        let tiles = self.tiles.par_chunks_exact_mut(TILE_LEN).enumerate();
        tiles.for_each(|(t, tile)| {
            let (i, j) = place(t);
            let panel = |p: usize| &panels[p * samples * TILE..][..samples * TILE];
            add_products(tile, panel(i), panel(j));
        });
    }

    /// The sum of products of the columns `row` and `col`, where `col <= row`.
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
    let row = (((8 * t + 1) as f64).sqrt() as usize - 1) / 2;
    // The root may be off by one where t is huge.
    let row = match () {
        () if triangle(row) > t => row - 1,
        () if triangle(row + 1) <= t => row + 1,
        () => row,
    };
    (row, t - triangle(row))
}

/// `x` as panels of [`TILE`] columns, `[panels, samples, TILE]`, with zeros past the last one.
fn panels(x: &[f32], cols: usize, samples: usize) -> Vec<f32> {
    let mut panels = vec![0.0; cols.div_ceil(TILE) * samples * TILE];
    if samples == 0 {
        return panels;
    }
    for (p, panel) in panels.chunks_exact_mut(samples * TILE).enumerate() {
        let width = TILE.min(cols - p * TILE);
        for (to, from) in panel.chunks_exact_mut(TILE).zip(x.chunks_exact(cols)) {
            to[..width].copy_from_slice(&from[p * TILE..][..width]);
        }
    }
    panels
}

/// `tile += aᵀ · b` for panels of some samples.
fn add_products(tile: &mut [f64], a: &[f32], b: &[f32]) {
    for i in (0..TILE).step_by(ROWS) {
        for j in (0..TILE).step_by(COLS) {
            let mut sums = [[0f32; COLS]; ROWS];
            for (a, b) in a.chunks_exact(TILE).zip(b.chunks_exact(TILE)) {
                let (a, b) = (&a[i..i + ROWS], &b[j..j + COLS]);
                for (sums, a) in sums.iter_mut().zip(a) {
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum += a * b;
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let row = &mut tile[(i + r) * TILE + j..][..COLS];
                for (total, &sum) in row.iter_mut().zip(sums) {
                    *total += f64::from(sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_numbered_row_by_row() {
        let mut t = 0;
        for row in 0..300 {
            for col in 0..=row {
                assert_eq!(place(t), (row, col));
                t += 1;
            }
        }
    }
}
