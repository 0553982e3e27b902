//! What dropping part of an input costs in the output of a product.

use crate::error::{Error, Result};
use rayon::prelude::*;

/// Steps between the shares of channels at which a curve is measured.
const STEPS: usize = 100;

/// Measures how much of the output of `y = W · x` is lost when the least important inputs are
/// dropped: CETT, the mean over tokens of `‖Σ_dropped W[:, i] xᵢ‖ / ‖y‖`
/// (<https://arxiv.org/abs/2411.02335>).
#[derive(Debug, Clone)]
pub struct Tails {
    /// The transposed weight, `[cols, rows]`.
    columns: Vec<f32>,
    rows: usize,
    /// For the shares 0, 0.01 … 1, the importance up to which channels are dropped. Ascending.
    limits: Vec<f32>,
    /// For each token, the norm of y and, at each limit, the norm of what is dropped.
    tokens: Vec<(f64, Vec<f64>)>,
}

impl Tails {
    /// For `weight`, `[rows, cols]` row-major. `limit` maps a share to the importance up to which
    /// channels are dropped.
    ///
    /// # Errors
    /// [`Error::Inputs`] unless `weight` is a whole number of rows, at least one.
    pub fn new(weight: &[f32], cols: usize, limit: impl Fn(f64) -> f32) -> Result<Self> {
        let rows = weight.len() / cols.max(1);
        if rows == 0 || rows * cols != weight.len() {
            return Err(Error::Inputs {
                what: "elements of a weight",
                got: weight.len().to_string(),
                expected: format!("some rows of {cols}"),
            });
        }
        let mut columns = vec![0.0; weight.len()];
        for (r, row) in weight.chunks_exact(cols).enumerate() {
            for (c, &w) in row.iter().enumerate() {
                columns[c * rows + r] = w;
            }
        }
        let share = |step: usize| step as f64 / STEPS as f64;
        Ok(Self {
            columns,
            rows,
            limits: (0..=STEPS).map(|step| limit(share(step))).collect(),
            tokens: vec![],
        })
    }

    /// Adds tokens: inputs `[n, cols]`, and the importance of each of their elements.
    ///
    /// # Errors
    /// [`Error::Inputs`] if the lengths differ or are no whole number of vectors.
    pub fn add(&mut self, x: &[f32], importances: &[f32]) -> Result<()> {
        let cols = self.columns.len() / self.rows;
        if x.len() != importances.len() || x.len() % cols != 0 {
            return Err(Error::Inputs {
                what: "elements of inputs and importances",
                got: format!("{} and {}", x.len(), importances.len()),
                expected: format!("vectors of {cols}"),
            });
        }
        let vectors = x
            .par_chunks_exact(cols)
            .zip(importances.par_chunks_exact(cols));
        let tails: Vec<_> = vectors.map(|(x, by)| self.tails(x, by)).collect();
        self.tokens.extend(tails);
        Ok(())
    }

    /// The norm of a token's output and, at each limit, the norm of what the dropped inputs add to it.
    fn tails(&self, x: &[f32], by: &[f32]) -> (f64, Vec<f64>) {
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_unstable_by(|&a, &b| by[a].total_cmp(&by[b]));
        let mut sum = vec![0f32; self.rows];
        let norm = |sum: &[f32]| {
            sum.iter()
                .map(|&v| f64::from(v).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let add = |channel: usize, sum: &mut [f32]| {
            let column = &self.columns[channel * self.rows..][..self.rows];
            for (sum, w) in sum.iter_mut().zip(column) {
                *sum += w * x[channel];
            }
        };
        let (mut next, mut tails) = (0, Vec::with_capacity(self.limits.len()));
        for &limit in &self.limits {
            while next < order.len() && by[order[next]] <= limit {
                add(order[next], &mut sum);
                next += 1;
            }
            tails.push(norm(&sum));
        }
        for &channel in &order[next..] {
            add(channel, &mut sum);
        }
        (norm(&sum), tails)
    }

    /// The means over all tokens, leaving out those whose output is almost zero: a norm below 10⁻⁶ of
    /// the mean norm.
    ///
    /// # Errors
    /// [`Error::Inputs`] if no token is left.
    pub fn finish(self) -> Result<TailCurve> {
        let n = self.tokens.len().max(1) as f64;
        let mean = self.tokens.iter().map(|(y, _)| y).sum::<f64>() / n;
        let counted = self
            .tokens
            .iter()
            .filter(|(y, _)| *y > 0.0 && *y >= 1e-6 * mean);
        let (mut sums, mut count) = (vec![0.0; self.limits.len()], 0.0);
        for (y, tails) in counted {
            count += 1.0;
            for (sum, tail) in sums.iter_mut().zip(tails) {
                *sum += tail / y;
            }
        }
        if count == 0.0 {
            return Err(Error::Inputs {
                what: "tokens with an output",
                got: "none".into(),
                expected: "at least one".into(),
            });
        }
        Ok(TailCurve {
            cett: sums.into_iter().map(|sum| sum / count).collect(),
        })
    }
}

/// CETT as a function of the share of channels dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct TailCurve {
    cett: Vec<f64>,
}

impl TailCurve {
    /// The largest share up to which CETT does not exceed `cett`, interpolated linearly between
    /// measured shares.
    pub fn share(&self, cett: f64) -> f64 {
        let within = self.cett.iter().take_while(|&&c| c <= cett).count();
        let share = |step: f64| step / STEPS as f64;
        match within {
            0 => 0.0,
            n if n == self.cett.len() => 1.0,
            n => {
                let (a, b) = (self.cett[n - 1], self.cett[n]);
                share((n - 1) as f64 + (cett - a) / (b - a))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these are exact")]
mod tests {
    use super::*;
    use lacuna::verify::Random;

    #[test]
    fn tails_are_the_norms_of_what_is_dropped() {
        let (rows, cols, tokens) = (5, 40, 30);
        let mut random = Random(8);
        let weight = random.vector(rows * cols);
        let mut x = random.vector(tokens * cols);
        // A token with a zero output has no ratio, and one with almost none a ratio of roundings: both are left out.
        x[..cols].fill(0.0);
        for x in &mut x[cols..2 * cols] {
            *x *= 1e-9;
        }
        let by: Vec<f32> = x
            .iter()
            .enumerate()
            .map(|(i, v)| v.abs() * (i % 3 + 1) as f32)
            .collect();
        let limit = |share: f64| (share * 3.0) as f32;
        let mut tails = Tails::new(&weight, cols, limit).unwrap();
        tails.add(&x[..7 * cols], &by[..7 * cols]).unwrap();
        tails.add(&x[7 * cols..], &by[7 * cols..]).unwrap();
        let curve = tails.finish().unwrap();
        for (step, &got) in curve.cett.iter().enumerate() {
            let limit = limit(step as f64 / STEPS as f64);
            let norm = |token: usize, most: f32| {
                let row = |r: usize| -> f64 {
                    let dropped = (0..cols).filter(|c| by[token * cols + c] <= most);
                    let term = |c: usize| f64::from(weight[r * cols + c] * x[token * cols + c]);
                    dropped.map(term).sum()
                };
                (0..rows).map(|r| row(r).powi(2)).sum::<f64>().sqrt()
            };
            let ratios = (2..tokens).map(|t| norm(t, limit) / norm(t, f32::INFINITY));
            let expected = ratios.sum::<f64>() / (tokens - 2) as f64;
            assert!((got - expected).abs() < 1e-5, "{step}: {got} {expected}");
        }
        for share in [0.0, 0.3, 0.99] {
            let step = (share * STEPS as f64) as usize;
            let most = curve.cett[..=step].iter().fold(0f64, |a, &b| a.max(b));
            assert!(curve.share(most) >= share - 1e-9);
        }
    }

    #[test]
    fn shares_lie_on_the_curve_and_stop_where_it_is_first_crossed() {
        let mut cett = vec![1.0; STEPS + 1];
        cett[..4].copy_from_slice(&[0.0, 0.1, 0.3, 0.2]);
        let curve = TailCurve { cett };
        for (cett, share) in [
            (0.0, 0.0),
            (0.05, 0.005),
            (0.1, 0.01),
            (0.2, 0.015),
            (1.0, 1.0),
        ] {
            assert!((curve.share(cett) - share).abs() < 1e-12, "{cett}");
        }
        assert_eq!(curve.share(-1.0), 0.0);
        assert!(Tails::new(&[1.0; 7], 3, |_| 0.0).is_err());
        let mut tails = Tails::new(&[1.0; 6], 3, |_| 0.0).unwrap();
        assert!(tails.add(&[1.0; 3], &[1.0; 2]).is_err());
        assert!(tails.add(&[1.0; 4], &[1.0; 4]).is_err());
        assert!(tails.finish().is_err());
    }
}
