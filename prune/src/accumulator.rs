//! Sums over the inputs of a weight: samples in, moments out.

mod gram;

use crate::{
    error::{Error, Result},
    inputs::Inputs,
};
use gram::Gram;
use ndarray::ArrayView2;
use rayon::prelude::*;

/// Samples whose products are summed in f32 before that sum is added in f64.
const BLOCK: usize = 128;

/// Sums over the inputs `x` of a weight: `Σ x`, `Σ x²` and, on request, `Σ x xᵀ`.
///
/// The first two are summed in f64. Products are summed in f32 over 128 samples and then in f64,
/// so an element of `E[x xᵀ]` is off by at most `129 · 2⁻²⁴ · E|xᵢ xⱼ|`; its diagonal is `E[x²]`
/// itself. The result depends on the order of the samples, but neither on how calls divide them
/// nor on the number of threads.
#[derive(Debug, Clone)]
pub struct Accumulator {
    cols: usize,
    samples: u64,
    sum: Vec<f64>,
    squares: Vec<f64>,
    products: Option<Gram>,
    /// Samples that do not yet fill a block.
    pending: Vec<f32>,
}

impl Accumulator {
    /// For vectors of `cols` elements; with `hessian` it also sums `x xᵀ`.
    pub fn new(cols: usize, hessian: bool) -> Self {
        Self {
            cols,
            samples: 0,
            sum: vec![0.0; cols],
            squares: vec![0.0; cols],
            products: hessian.then(|| Gram::new(cols)),
            pending: Vec::with_capacity(BLOCK * cols),
        }
    }

    /// Bytes that an accumulator takes: about `4 · cols²` with the Hessian, next to nothing
    /// without it.
    pub fn bytes(cols: usize, hessian: bool) -> u64 {
        let vectors = (2 * 8 + 4 * BLOCK as u64) * cols as u64;
        vectors + if hessian { Gram::bytes(cols) } else { 0 }
    }

    /// Elements of a vector.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Number of vectors added.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds samples `[n, cols]`.
    ///
    /// # Errors
    /// [`Error::Inputs`] if `x` is no whole number of vectors.
    pub fn add(&mut self, x: &[f32]) -> Result<()> {
        let n = x.len() / self.cols.max(1);
        if x.len() != n * self.cols {
            return Err(Error::Inputs {
                what: "elements of samples",
                got: x.len().to_string(),
                expected: format!("a multiple of {}", self.cols),
            });
        }
        self.samples += n as u64;
        let full = BLOCK * self.cols;
        let mut rest = x;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rest.len().min(full - self.pending.len()));
            self.pending.extend_from_slice(some);
            rest = others;
            if self.pending.len() == full {
                self.flush();
            }
        }
        Ok(())
    }

    /// The moments of what was added.
    ///
    /// # Errors
    /// [`Error::Inputs`] if nothing was added or a moment is not finite.
    pub fn finish(mut self) -> Result<Inputs> {
        self.flush();
        let n = self.samples.max(1) as f64;
        let mean = |sums: &[f64]| -> Vec<f32> { sums.iter().map(|s| (s / n) as f32).collect() };
        let (first, second) = (mean(&self.sum), mean(&self.squares));
        let hessian = self.products.map(|products| {
            let mut full = vec![0f32; self.cols * self.cols];
            let rows = full.par_chunks_exact_mut(self.cols.max(1)).enumerate();
            rows.for_each(|(r, row)| {
                for (c, element) in row.iter_mut().enumerate() {
                    *element = if r == c {
                        second[r]
                    } else {
                        (products.at(r.max(c), r.min(c)) / n) as f32
                    };
                }
            });
            full
        });
        Inputs::new(self.samples, first, second, hessian)
    }

    fn flush(&mut self) {
        for x in self.pending.chunks_exact(self.cols.max(1)) {
            for ((sum, square), &x) in self.sum.iter_mut().zip(&mut self.squares).zip(x) {
                let x = f64::from(x);
                *sum += x;
                *square += x * x;
            }
        }
        let shape = (self.pending.len() / self.cols.max(1), self.cols);
        if let Some(products) = &mut self.products
            && let Ok(block) = ArrayView2::from_shape(shape, &self.pending)
        {
            products.add(&block);
        }
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests;
