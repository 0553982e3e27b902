//! Logarithmic axes of plots.

/// A logarithmic axis from `low` to `high`, drawn from pixel `start` to pixel `end`.
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub start: f64,
    pub end: f64,
}

impl Axis {
    /// An axis that covers all values, with room around them.
    pub fn around(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min) / 1.7;
        let high = values.fold(0.0, f64::max) * 1.7;
        Self {
            low,
            high,
            start,
            end,
        }
    }

    pub fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.start + share * (self.end - self.start)
    }

    /// 1, 2 and 5 times powers of ten; every other power of two would crowd the axis.
    pub fn ticks(&self) -> Vec<f64> {
        let powers = -6..9;
        let ticks =
            powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let ticks: Vec<f64> = ticks
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect();
        if ticks.len() > 8 {
            ticks
                .into_iter()
                .filter(|&tick| is_power_of_ten(tick))
                .collect()
        } else {
            ticks
        }
    }
}

fn is_power_of_ten(value: f64) -> bool {
    (value.log10() - value.log10().round()).abs() < 1e-9
}

#[cfg(test)]
mod tests {
    use super::Axis;

    #[test]
    fn axes_are_logarithmic() {
        let axis = Axis {
            low: 1.0,
            high: 100.0,
            start: 0.0,
            end: 200.0,
        };
        assert!((axis.at(10.0) - 100.0).abs() < 1e-9);
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }
}
