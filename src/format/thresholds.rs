//! Activation thresholds: which channels of a vector are worth multiplying.
//!
//! ```text
//! thresholds  0   0.5   +∞    0.5  0.5     one a channel, or one for all
//! values      0  −0.7    9    NaN  0.5
//! active      –    ×     –     ×    –      unless |value| ≤ threshold
//! ```
//! A threshold of 0 drops exact zeros alone, one of +∞ every number. NaN is never dropped, so that a product that
//! failed shows it.

use crate::error::{Error, Result};

/// Thresholds of the channels of an activation, 0 to +∞ each.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    values: Vec<f32>,
    active: Option<f32>,
}

impl Thresholds {
    /// One threshold for each channel, or a single one for all.
    ///
    /// # Errors
    /// [`Error::Shape`] for none, [`Error::Threshold`] for NaN and what is below 0.
    pub fn new(mut values: Vec<f32>) -> Result<Self> {
        if values.is_empty() {
            return Err(Error::Shape {
                what: "thresholds",
                got: 0,
                expected: 1,
            });
        }
        for (channel, value) in values.iter_mut().enumerate() {
            if value.is_nan() || *value < 0.0 {
                let value = *value;
                return Err(Error::Threshold { channel, value });
            }
            // −0 is 0: thresholds order as their bits do.
            *value = value.abs();
        }
        Ok(Self {
            values,
            active: None,
        })
    }

    /// The same, with the share of activations, 0 to 1, that is expected to be active. It only decides which way
    /// of computing is expected to be faster.
    ///
    /// # Errors
    /// [`Error::Share`].
    pub fn expecting(mut self, active: f32) -> Result<Self> {
        if !(0.0..=1.0).contains(&active) {
            return Err(Error::Share(active));
        }
        self.active = Some(active);
        Ok(self)
    }

    /// The share of activations that is expected to be active, where it is known.
    pub fn expected(&self) -> Option<f32> {
        self.active
    }

    /// One threshold for all channels.
    ///
    /// # Errors
    /// [`Error::Threshold`].
    pub fn scalar(value: f32) -> Result<Self> {
        Self::new(vec![value])
    }

    /// As many as there are channels, or one.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Refuses thresholds of another number of channels.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check_channels(&self, channels: usize) -> Result<()> {
        match self.values.len() {
            1 => Ok(()),
            len if len == channels => Ok(()),
            got => Error::expect("thresholds", got, channels),
        }
    }

    /// The threshold of each of `channels` channels.
    ///
    /// # Errors
    /// Those of [`check_channels`](Self::check_channels).
    pub fn expand(&self, channels: usize) -> Result<Vec<f32>> {
        self.check_channels(channels)?;
        Ok(match self.values[..] {
            [value] => vec![value; channels],
            _ => self.values.clone(),
        })
    }

    /// Whether `value` of `channel` counts.
    ///
    /// # Panics
    /// For a channel that is not there, unless one threshold serves all.
    pub fn is_active(&self, channel: usize, value: f32) -> bool {
        let threshold = match self.values[..] {
            [one] => one,
            _ => self.values[channel],
        };
        // As kernels do it: with the sign gone floats order as their bits, NaN above +∞.
        value.to_bits() & 0x7fff_ffff > threshold.to_bits()
    }

    /// Zeroes the elements of a vector `x` where those of `by` are not active. Returns how many are active.
    ///
    /// # Panics
    /// As [`is_active`](Self::is_active).
    pub fn apply(&self, by: &[f32], x: &mut [f32]) -> usize {
        let mut active = 0;
        for (channel, (x, &by)) in x.iter_mut().zip(by).enumerate() {
            if self.is_active(channel, by) {
                active += 1;
            } else {
                *x = 0.0;
            }
        }
        active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_or_under_its_threshold_is_dropped() {
        let t = Thresholds::new(vec![0.0, 0.5, f32::INFINITY, -0.0]).unwrap();
        let tiny = f32::from_bits(1);
        for (channel, value, active) in [
            (0, 0.0, false),
            (0, -0.0, false),
            (0, tiny, true),
            (0, -tiny, true),
            (1, 0.5, false),
            (1, -0.5, false),
            (1, -0.500_000_1, true),
            (1, f32::INFINITY, true),
            (2, f32::MAX, false),
            (2, f32::NEG_INFINITY, false),
            (2, f32::NAN, true),
            (2, -f32::NAN, true),
            (3, -0.0, false),
            (3, tiny, true),
        ] {
            assert_eq!(t.is_active(channel, value), active, "{channel} {value}");
            // The rule as it is written.
            assert_eq!(
                active,
                !matches!(
                    value.abs().partial_cmp(&t.values()[channel]),
                    Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
                )
            );
        }
    }

    #[test]
    fn thresholds_are_numbers_from_zero_up() {
        for (channel, value) in [(0, f32::NAN), (2, -1.0), (1, f32::NEG_INFINITY)] {
            let mut values = vec![1.0; 3];
            values[channel] = value;
            let Err(Error::Threshold {
                channel: c,
                value: v,
            }) = Thresholds::new(values)
            else {
                panic!("{value} was taken");
            };
            assert_eq!((c, v.to_bits()), (channel, value.to_bits()));
        }
        assert!(matches!(
            Thresholds::new(vec![]),
            Err(Error::Shape { got: 0, .. })
        ));
    }

    #[test]
    fn one_serves_all_channels_and_others_must_be_as_many() {
        let one = Thresholds::scalar(2.0).unwrap();
        assert_eq!(one.expand(3).unwrap(), [2.0; 3]);
        assert!(one.is_active(17, 2.5) && !one.is_active(17, 2.0));
        let two = Thresholds::new(vec![1.0, 2.0]).unwrap();
        assert_eq!(two.expand(2).unwrap(), [1.0, 2.0]);
        assert!(matches!(
            two.expand(3),
            Err(Error::Shape {
                got: 2,
                expected: 3,
                ..
            })
        ));
    }
}
