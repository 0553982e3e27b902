//! A matrix product in double precision, and the error that a single-precision one may have.

use crate::safetensors::Matrix;

pub struct Product {
    values: Vec<f64>,
    /// The largest error that single-precision sums of the same terms can explain.
    allowed: Vec<f64>,
    shape: (usize, usize),
}

impl Product {
    /// `x · wᵀ`, with the error bound that the engine promises: (16 + cols / 32) roundings of the sum
    /// of the terms' magnitudes, for each output.
    pub fn of(weight: &Matrix, x: &Matrix) -> Self {
        let mut product = Self {
            values: Vec::new(),
            allowed: Vec::new(),
            shape: (x.rows, weight.rows),
        };
        let roundings = 16.0 + weight.cols as f64 / 32.0;
        let tiniest = weight.cols as f64 * f64::from(f32::MIN_POSITIVE);
        for input in 0..x.rows {
            for output in 0..weight.rows {
                let pairs = weight.row(output).iter().zip(x.row(input));
                let terms = pairs.map(|(&w, &x)| f64::from(w) * f64::from(x));
                let (sum, magnitude) = terms.fold((0.0, 0.0), |(s, a), t| (s + t, a + t.abs()));
                product.values.push(sum);
                product
                    .allowed
                    .push(roundings * 2_f64.powi(-24) * magnitude + tiniest);
            }
        }
        product
    }

    /// The same error bounds around values computed elsewhere.
    pub fn around(&self, values: &Matrix) -> Self {
        Self {
            values: values.values.iter().copied().map(f64::from).collect(),
            allowed: self.allowed.clone(),
            shape: (values.rows, values.cols),
        }
    }

    /// The worst ratio of an error to its bound; up to 1 is right. Infinite for a wrong shape or a
    /// NaN.
    pub fn worst(&self, got: &Matrix) -> f64 {
        if (got.rows, got.cols) != self.shape || self.values.len() != self.allowed.len() {
            return f64::INFINITY;
        }
        let outputs = got.values.iter().zip(&self.values).zip(&self.allowed);
        outputs.fold(0.0, |worst, ((&got, value), allowed)| {
            let share = (f64::from(got) - value).abs() / allowed;
            if share.is_nan() {
                f64::INFINITY
            } else {
                worst.max(share)
            }
        })
    }
}

/// Inputs between -1 and 1, the same on every machine (a 64-bit linear congruence).
pub fn inputs(batch: usize, cols: usize) -> Matrix {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    Matrix {
        rows: batch,
        cols,
        values: (0..batch * cols).map(next).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Product, inputs};

    #[test]
    fn a_right_product_passes_and_a_wrong_one_does_not() {
        let weight = Matrix {
            rows: 2,
            cols: 2,
            values: vec![1.0, 2.0, 3.0, 4.0],
        };
        let x = Matrix {
            rows: 1,
            cols: 2,
            values: vec![1.0, 10.0],
        };
        let product = Product::of(&weight, &x);
        let worst = |values: &[f32]| {
            product.worst(&Matrix {
                rows: 1,
                cols: values.len(),
                values: values.to_vec(),
            })
        };
        assert!(worst(&[21.0, 43.0]) < 1e-6);
        assert!(worst(&[21.0, 43.001]) > 1.0);
        assert!(worst(&[21.0, f32::NAN]).is_infinite());
        assert!(worst(&[21.0]).is_infinite());
    }

    #[test]
    fn inputs_fill_their_range() {
        let x = inputs(4, 1000).values;
        let (least, most) = x
            .iter()
            .fold((0_f32, 0_f32), |(a, b), &v| (a.min(v), b.max(v)));
        assert!((-1.0..-0.99).contains(&least) && (0.99..=1.0).contains(&most));
    }
}
