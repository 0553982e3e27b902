//! Quantiles of more numbers than memory holds.

use crate::error::{Error, Result};
use rayon::slice::ParallelSliceMut;

/// Steps between the ranks of a table.
const RANKS: usize = 1000;
/// Numbers that one level holds.
const CAPACITY: usize = 1 << 24;
/// Sorted neighbours that one number stands for on the next level.
const STRIDE: usize = 64;

/// Collects magnitudes for a [`QuantileTable`].
///
/// Fewer than 2²⁴ numbers are all kept, and quantiles are exact. Every full 2²⁴ are sorted, and the
/// middle of each run of 64 neighbours moves up to the next level, which fills and empties in the
/// same way. Each level puts a rank off by at most 32 of 2²⁴, or 2·10⁻⁶ of all, whatever the
/// numbers and their order. A level takes 64 MiB.
#[derive(Debug, Clone)]
pub struct Quantiles {
    capacity: usize,
    count: u64,
    /// Bits of magnitudes, which sort like the magnitudes; one on level l stands for 64ˡ numbers.
    levels: Vec<Vec<u32>>,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Quantiles {
    /// `capacity` must be a multiple of [`STRIDE`].
    fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            count: 0,
            levels: vec![vec![]],
        }
    }

    /// Adds the magnitudes of `values`.
    pub fn extend(&mut self, values: impl IntoIterator<Item = f32>) {
        for value in values {
            self.count += 1;
            self.push(0, value.abs().to_bits());
        }
    }

    fn push(&mut self, level: usize, bits: u32) {
        if level == self.levels.len() {
            self.levels.push(vec![]);
        }
        self.levels[level].push(bits);
        if self.levels[level].len() == self.capacity {
            let mut full = std::mem::take(&mut self.levels[level]);
            full.par_sort_unstable();
            let middle = full.iter().skip(STRIDE / 2).step_by(STRIDE);
            middle.for_each(|&bits| self.push(level + 1, bits));
            full.clear();
            self.levels[level] = full;
        }
    }

    /// The table of the magnitudes that were added.
    ///
    /// # Errors
    /// [`Error::Inputs`] if nothing was added, or a number that is not finite.
    pub fn finish(self) -> Result<QuantileTable> {
        let refused = |what, got: String, expected: &str| {
            Err(Error::Inputs {
                what,
                got,
                expected: expected.into(),
            })
        };
        if self.count == 0 {
            return refused("numbers of a quantile", "none".into(), "at least one");
        }
        let weighed = (0..).zip(self.levels).flat_map(|(level, values)| {
            let weight = (STRIDE as u64).pow(level);
            values.into_iter().map(move |bits| (bits, weight))
        });
        let mut weighed: Vec<(u32, u64)> = weighed.collect();
        weighed.par_sort_unstable();
        let mut values = Vec::with_capacity(RANKS + 1);
        let (mut at, mut seen) = (0, weighed[0].1);
        for k in 0..=RANKS as u64 {
            // The least number such that at least k / RANKS of all do not exceed it.
            let rank = (k * self.count).div_ceil(RANKS as u64);
            while seen < rank && at + 1 < weighed.len() {
                at += 1;
                seen += weighed[at].1;
            }
            values.push(f32::from_bits(weighed[at].0));
        }
        match values.last() {
            Some(last) if !last.is_finite() => {
                refused("magnitude", last.to_string(), "a finite number")
            }
            _ => QuantileTable::new(values),
        }
    }
}

/// Quantiles of magnitudes at the ranks 0, 0.001 … 1.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantileTable {
    values: Vec<f32>,
}

impl QuantileTable {
    /// Number of quantiles in a table.
    pub const LEN: usize = RANKS + 1;

    /// From the quantiles themselves.
    ///
    /// # Errors
    /// [`Error::Inputs`] unless they are 1001 finite numbers, not below 0 and in ascending order.
    pub fn new(values: Vec<f32>) -> Result<Self> {
        let refused = |what, got: String, expected: String| {
            Err(Error::Inputs {
                what,
                got,
                expected,
            })
        };
        if values.len() != Self::LEN {
            let (got, expected) = (values.len().to_string(), Self::LEN.to_string());
            return refused("quantiles of a table", got, expected);
        }
        let mut least = 0.0;
        for &value in &values {
            if !(value >= least && value.is_finite()) {
                let expected = format!("a finite number from {least} up");
                return refused("quantile", value.to_string(), expected);
            }
            least = value;
        }
        Ok(Self { values })
    }

    /// The quantiles, in ascending order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The magnitude that a `share` of all, from 0 to 1, does not exceed, interpolated linearly
    /// between ranks. For share 0 it is 0, which drops only zeros.
    pub fn at(&self, share: f64) -> f32 {
        if share <= 0.0 {
            return 0.0;
        }
        // A decimal share times RANKS may miss the whole number that is meant by a rounding error.
        let position = (share * RANKS as f64).min(RANKS as f64);
        let nearest = position.round();
        if (position - nearest).abs() < 1e-9 {
            return self.values[nearest as usize];
        }
        let low = position.floor();
        let [a, b] = [low as usize, low as usize + 1].map(|i| f64::from(self.values[i]));
        (a + (position - low) * (b - a)) as f32
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these are exact")]
mod tests {
    use super::*;
    use lacuna::verify::Random;
    use proptest::prelude::*;

    /// Quantile `k` by the definition.
    fn naive(values: &[f32], k: usize) -> f32 {
        let mut sorted: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        sorted.sort_by(f32::total_cmp);
        sorted[(k * sorted.len()).div_ceil(RANKS).max(1) - 1]
    }

    proptest! {
        #[test]
        fn few_numbers_have_exact_quantiles(values in prop::collection::vec(-1e3f32..1e3, 1..3000)) {
            let mut quantiles = Quantiles::default();
            let (some, others) = values.split_at(values.len() / 3);
            quantiles.extend(some.iter().copied());
            quantiles.extend(others.iter().copied());
            let table = quantiles.finish().unwrap();
            for k in 0..=RANKS {
                prop_assert_eq!(table.values()[k], naive(&values, k));
            }
        }
    }

    /// The shares of `values` below `value` and at most `value`.
    fn ranks(values: &[f32], value: f32) -> [f64; 2] {
        let share = |n: usize| n as f64 / values.len() as f64;
        let below = values.iter().filter(|v| v.abs() < value).count();
        let up_to = values.iter().filter(|v| v.abs() <= value).count();
        [share(below), share(up_to)]
    }

    #[test]
    fn of_many_numbers_ranks_are_off_by_little_whatever_their_order() {
        let mut random = Random(1);
        let cubes: Vec<f32> = (0..300_000).map(|_| random.signed().powi(3)).collect();
        let mut ascending = cubes.clone();
        ascending.sort_by(f32::total_cmp);
        let few: Vec<f32> = cubes.iter().map(|v| (v * 4.0).round()).collect();
        for values in [cubes, ascending, few] {
            // Three levels, each off by half a run in 2048.
            let mut quantiles = Quantiles::with_capacity(2048);
            quantiles.extend(values.iter().copied());
            assert_eq!(quantiles.levels.len(), 3);
            assert!(quantiles.levels.iter().all(|l| l.len() < 2048));
            let table = quantiles.finish().unwrap();
            for (k, &value) in table.values().iter().enumerate() {
                let wanted = k as f64 / RANKS as f64;
                let [below, up_to] = ranks(&values, value);
                let slack = 2.0 * 33.0 / 2048.0;
                assert!(
                    below <= wanted + slack && up_to >= wanted - slack,
                    "{k}: {value}"
                );
            }
        }
    }

    #[test]
    fn beyond_the_exact_a_rank_is_right_to_a_thousandth() {
        let mut random = Random(2);
        let values: Vec<f32> = (0..CAPACITY + 3_000_000).map(|_| random.signed()).collect();
        let mut quantiles = Quantiles::default();
        quantiles.extend(values.iter().copied());
        let table = quantiles.finish().unwrap();
        let mut sorted: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        sorted.par_sort_unstable_by(f32::total_cmp);
        for (k, &value) in table.values().iter().enumerate() {
            let rank = sorted.partition_point(|&v| v <= value) as f64 / sorted.len() as f64;
            assert!((rank - k as f64 / 1e3).abs() < 1e-5, "{k}: {rank}");
        }
    }

    #[test]
    fn shares_between_ranks_lie_on_a_line() {
        let values = (0..=RANKS).map(|k| (k * k) as f32).collect();
        let table = QuantileTable::new(values).unwrap();
        assert_eq!(
            [0.0, 0.001, 0.7, 1.0].map(|s| table.at(s)),
            [0.0, 1.0, 490_000.0, 1e6]
        );
        assert!((table.at(0.0105) - 110.5).abs() < 1e-3);
        for k in 0..=RANKS {
            assert_eq!(table.at(k as f64 / 1000.0), (k * k) as f32);
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for (at, value) in [(3, f32::NAN), (0, -1.0), (1000, f32::INFINITY), (7, 0.5)] {
            let mut values = vec![1.0; RANKS + 1];
            values[at] = value;
            assert!(QuantileTable::new(values).is_err(), "{value}");
        }
        assert!(QuantileTable::new(vec![1.0; RANKS]).is_err());
        assert!(Quantiles::default().finish().is_err());
        for bad in [f32::NAN, f32::INFINITY] {
            let mut quantiles = Quantiles::default();
            quantiles.extend([1.0, bad]);
            assert!(quantiles.finish().is_err());
        }
    }
}
