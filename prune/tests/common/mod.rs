//! Weights and inputs like those of trained layers: inputs are correlated and of very different
//! size.
#![allow(dead_code)]

use lacuna::format::{Dense, Format, Matrix};
use lacuna_prune::{Compressed, Inputs, Method, Score};

/// Every score.
pub const SCORES: [Score; 4] = [Score::Magnitude, Score::Wanda, Score::SparseGpt, Score::Ria];

/// Formats of every kind.
pub const FORMATS: [&str; 16] = [
    "2:4",
    "1:8@f16",
    "3:5@bf16",
    "2:4x4",
    "w4g16",
    "w2g8-sym",
    "w3row",
    "w2g16-real",
    "2:4+w4g16-real",
    "2:4+w4g16",
    "2:4x4+w3g8",
    "1:3+w4g24",
    "3:5+w4row",
    "w4g16s50",
    "w3g8s30-ragged",
    "w2g8s60-sym",
];

/// Numbers in [−1, 1).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    }

    /// Approximately normal, with variance 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next() / 2.0).sum()
    }
}

pub fn weight(rows: usize, cols: usize, seed: u64) -> Dense {
    let mut random = Random(seed);
    let values = (0..rows * cols).map(|_| random.normal() as f32).collect();
    Dense::from_f32(rows, cols, values).unwrap()
}

/// Samples `[samples, cols]`: mixtures of a few hidden causes and some noise, with columns of
/// very different size.
pub fn samples(samples: usize, cols: usize, seed: u64) -> Vec<f64> {
    let mut random = Random(seed ^ 0x5eed);
    let causes = cols.div_ceil(4).max(2);
    let mixing: Vec<f64> = (0..cols * causes).map(|_| random.normal()).collect();
    let size: Vec<f64> = (0..cols).map(|_| (random.normal() * 0.7).exp()).collect();
    let mut x = vec![];
    for _ in 0..samples {
        let hidden: Vec<f64> = (0..causes).map(|_| random.normal()).collect();
        for col in 0..cols {
            let mixed: f64 = (0..causes)
                .map(|k| mixing[col * causes + k] * hidden[k])
                .sum();
            let noise = random.normal() * (causes as f64).sqrt() * 0.4;
            x.push(f64::from((size[col] * (mixed + noise)) as f32));
        }
    }
    x
}

/// The moments of `x`.
pub fn moments(x: &[f64], cols: usize) -> Inputs {
    let count = x.len() / cols.max(1);
    let (mut mean, mut square) = (vec![0.0; cols], vec![0.0; cols]);
    let mut hessian = vec![0.0; cols * cols];
    for x in x.chunks(cols.max(1)) {
        for i in 0..cols {
            mean[i] += x[i] / count as f64;
            square[i] += x[i] * x[i] / count as f64;
            for j in 0..cols {
                hessian[i * cols + j] += x[i] * x[j] / count as f64;
            }
        }
    }
    let narrow = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect();
    Inputs::new(
        count.max(1) as u64,
        narrow(mean),
        narrow(square),
        Some(narrow(hessian)),
    )
    .unwrap()
}

pub fn inputs(cols: usize, seed: u64) -> Inputs {
    moments(&samples(4 * cols + 8, cols, seed), cols)
}

/// The same inputs without the Hessian.
pub fn without_hessian(inputs: &Inputs) -> Inputs {
    let (mean, square) = (inputs.mean().to_vec(), inputs.mean_square().to_vec());
    Inputs::new(inputs.samples(), mean, square, None).unwrap()
}

pub fn format(name: &str) -> Format {
    name.parse().unwrap()
}

pub fn method(score: Score, recover: bool) -> Method {
    Method { score, recover }
}

pub fn compress(method: Method, dense: &Dense, name: &str, inputs: &Inputs) -> Compressed {
    method.compress(dense, format(name), Some(inputs)).unwrap()
}

/// Whether each weight is stored, row-major.
pub fn mask(matrix: &Matrix) -> Vec<bool> {
    let cols = matrix.cols();
    let mut mask = vec![false; matrix.rows() * cols];
    for row in 0..matrix.rows() {
        matrix
            .entries(row)
            .for_each(|e| mask[row * cols + e.col] = true);
    }
    mask
}
