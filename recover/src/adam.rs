//! Adam (<https://arxiv.org/abs/1412.6980>) on plain vectors, and the schedule of its rates.
//!
//! It is not Burn's because its moments belong to a state that is stored and read back bit for bit, and
//! because the parameters are not tensors.

use std::f32::consts::PI;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.99;
/// Far below any gradient that matters: losses are relative and gradients of single weights small.
const EPSILON: f32 = 1e-12;

/// The moments of the gradients of some parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Running mean.
    pub first: Vec<f32>,
    /// Running mean of squares.
    pub second: Vec<f32>,
}

impl Adam {
    /// The moments of `len` parameters before the first step.
    pub fn new(len: usize) -> Self {
        Self {
            first: vec![0.0; len],
            second: vec![0.0; len],
        }
    }

    /// Moves each parameter against its gradient by about its rate. `rates` holds, in order, the ends of
    /// ranges of parameters and the rate of each range. `done` steps went before.
    pub fn step(
        &mut self,
        parameters: &mut [f32],
        gradient: &[f32],
        rates: &[(usize, f32)],
        done: usize,
    ) {
        let steps = (done + 1) as f32;
        let (unbias_1, unbias_2) = (1.0 - BETA_1.powf(steps), 1.0 - BETA_2.powf(steps));
        let mut start = 0;
        for &(end, rate) in rates {
            let moments = self.first[start..end]
                .iter_mut()
                .zip(&mut self.second[start..end]);
            let moved = parameters[start..end].iter_mut().zip(&gradient[start..end]);
            for ((p, &g), (m, v)) in moved.zip(moments) {
                *m += (1.0 - BETA_1) * (g - *m);
                *v += (1.0 - BETA_2) * (g * g - *v);
                *p -= rate * (*m / unbias_1) / ((*v / unbias_2).sqrt() + EPSILON);
            }
            start = end;
        }
    }
}

/// The share of the full rate at step `done` of `steps`: a short linear rise, then half a cosine down to 0.
pub fn schedule(done: usize, steps: usize) -> f32 {
    let rise = (steps / 20).max(1);
    if done < rise {
        return (done + 1) as f32 / (rise + 1) as f32;
    }
    let way = (done - rise) as f32 / (steps - rise).max(1) as f32;
    0.5 * (1.0 + (PI * way).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bowl_is_descended() {
        let target = [3.0, -2.0, 0.5];
        let (mut x, mut adam) = ([0.0f32; 3], Adam::new(3));
        for done in 0..300 {
            let gradient: Vec<f32> = x.iter().zip(target).map(|(x, t)| 1e-6 * (x - t)).collect();
            let rate = 0.1 * schedule(done, 300);
            adam.step(&mut x, &gradient, &[(3, rate)], done);
        }
        for (x, t) in x.iter().zip(target) {
            assert!((x - t).abs() < 1e-2, "{x} is not {t}");
        }
    }

    #[test]
    fn the_first_step_is_the_rate_whatever_the_gradient() {
        for g in [1e-7, 1.0, 1e4] {
            let mut x = [1.0];
            Adam::new(1).step(&mut x, &[g], &[(1, 0.25)], 0);
            assert!((x[0] - 0.75).abs() < 1e-4, "{g}: {}", x[0]);
        }
    }

    #[test]
    fn rates_rise_then_fall_to_nothing() {
        let shares: Vec<f32> = (0..100).map(|done| schedule(done, 100)).collect();
        assert!(shares.iter().all(|s| (0.0..=1.0).contains(s)));
        assert!(shares[..5].is_sorted() && shares[5..].is_sorted_by(|a, b| a >= b));
        assert!(shares[5] > 0.99 && shares[99] < 0.01);
        assert!(schedule(0, 1) > 0.0);
    }
}
