//! The linear product, with f64 sums in an order that does not depend on the batch.

use lacuna::format::{Matrix, Values};
use rayon::prelude::*;

/// Weight rows held at once.
const TILE: usize = 4;
/// Partial sums of a dot product: column c is added to sum c mod 4.
const LANES: usize = 4;

/// A weight, and its dense f32 copy if there is one.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub matrix: &'a Matrix,
    pub decoded: Option<&'a [f32]>,
}

impl Rows<'_> {
    /// Writes row `row`, zeros where nothing is stored, into the start of `out`.
    pub fn read(&self, row: usize, out: &mut [f64]) {
        let cols = self.matrix.cols();
        let stored = match self.matrix {
            Matrix::Dense(w) => match w.values() {
                Values::F32(values) => Some(values.as_slice()),
                _ => self.decoded,
            },
            _ => self.decoded,
        };
        if let Some(values) = stored {
            let values = &values[row * cols..][..cols];
            for (out, &value) in out.iter_mut().zip(values) {
                *out = f64::from(value);
            }
        } else {
            out[..cols].fill(0.0);
            for entry in self.matrix.entries(row) {
                out[entry.col] = f64::from(entry.value);
            }
        }
    }
}

/// `y [batch, rows] = x [batch, cols] · Wᵀ + bias`, each element rounded to f32 once.
pub(super) fn linear(weight: Rows, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (rows, cols) = (weight.matrix.rows(), weight.matrix.cols());
    let batch = x.len() / cols;
    let width = cols.next_multiple_of(LANES);
    let mut wide = vec![0.0; batch * width];
    for (to, from) in wide.chunks_exact_mut(width).zip(x.chunks_exact(cols)) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = f64::from(from);
        }
    }
    // [rows / TILE, batch, TILE]
    let mut tiles = vec![0.0; rows.div_ceil(TILE) * batch * TILE];
    tiles
        .par_chunks_mut((batch * TILE).max(1))
        .with_min_len(8)
        .enumerate()
        .for_each_init(
            || vec![0.0; TILE * width],
            |weights, (tile, y)| {
                let first = tile * TILE;
                let count = TILE.min(rows - first);
                for (row, weights) in weights.chunks_exact_mut(width).take(count).enumerate() {
                    weight.read(first + row, weights);
                }
                let biases: [f64; TILE] = std::array::from_fn(|row| {
                    bias.and_then(|b| b.get(first + row))
                        .map_or(0.0, |&b| f64::from(b))
                });
                for (x, y) in wide.chunks_exact(width).zip(y.chunks_exact_mut(TILE)) {
                    let sums = dot(weights, x);
                    for ((y, sum), bias) in y.iter_mut().zip(sums).zip(biases) {
                        *y = (sum + bias) as f32;
                    }
                }
            },
        );
    if batch == 1 {
        tiles.truncate(rows);
        return tiles;
    }
    let mut y = vec![0.0; batch * rows];
    for (b, y) in y.chunks_exact_mut(rows).enumerate() {
        for (tile, y) in y.chunks_mut(TILE).enumerate() {
            let from = (tile * batch + b) * TILE;
            y.copy_from_slice(&tiles[from..from + y.len()]);
        }
    }
    y
}

/// The dot products of `x` with the rows of a tile.
fn dot(weights: &[f64], x: &[f64]) -> [f64; TILE] {
    let (a, rest) = weights.split_at(x.len());
    let (b, rest) = rest.split_at(x.len());
    let (c, d) = rest.split_at(x.len());
    let mut sums = [[0.0; LANES]; TILE];
    let rows = a
        .chunks_exact(LANES)
        .zip(b.chunks_exact(LANES))
        .zip(c.chunks_exact(LANES).zip(d.chunks_exact(LANES)));
    for (x, ((a, b), (c, d))) in x.chunks_exact(LANES).zip(rows) {
        for lane in 0..LANES {
            sums[0][lane] += a[lane] * x[lane];
            sums[1][lane] += b[lane] * x[lane];
            sums[2][lane] += c[lane] * x[lane];
            sums[3][lane] += d[lane] * x[lane];
        }
    }
    sums.map(|[a, b, c, d]| (a + b) + (c + d))
}
