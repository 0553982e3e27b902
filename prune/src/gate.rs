//! The importance of each channel of a feed-forward block, by which gates are thresholded.

use crate::{
    error::{Error, Result},
    quantiles::{QuantileTable, Quantiles},
};
use lacuna::format::Thresholds;
use rayon::prelude::*;

/// How much channel i of a feed-forward block matters: `|gᵢ| · Uᵢ`, where g is the gate after its
/// activation function and Uᵢ is known beforehand. Each variant says what U is; u is the output of
/// `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Importance {
    /// 1: CATS (<https://arxiv.org/abs/2404.08763>).
    Cats,
    /// `E|u|`: CHESS (<https://arxiv.org/abs/2409.01366>).
    Chess,
    /// `√E[u²]`.
    Chess2,
    /// `E|u| · ‖W_down[:, i]‖₂`: what the channel adds to the block's output.
    ChessDown,
}

impl Importance {
    /// Every importance.
    pub const ALL: [Self; 4] = [Self::Cats, Self::Chess, Self::Chess2, Self::ChessDown];

    /// Its name in files and arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cats => "cats",
            Self::Chess => "chess",
            Self::Chess2 => "chess2",
            Self::ChessDown => "chess-down",
        }
    }
}

/// What calibration knows of the channels of a feed-forward block, whatever their gates are.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels {
    samples: u64,
    mean_abs: Vec<f32>,
    mean_square: Vec<f32>,
    down_norm: Vec<f32>,
}

impl Channels {
    /// From `E|u|`, `E[u²]` and `‖W_down[:, i]‖₂`, each with one number per channel.
    ///
    /// # Errors
    /// [`Error::Inputs`] if there are no samples or no channels, if lengths differ, or if a number is
    /// not finite or below 0.
    pub fn new(
        samples: u64,
        mean_abs: Vec<f32>,
        mean_square: Vec<f32>,
        down_norm: Vec<f32>,
    ) -> Result<Self> {
        let refused = |what, got: String, expected: String| {
            Err(Error::Inputs {
                what,
                got,
                expected,
            })
        };
        if samples == 0 || mean_abs.is_empty() {
            return refused("samples or channels", "0".into(), "at least 1".into());
        }
        for (what, values) in [
            ("mean of |up|", &mean_abs),
            ("mean square of up", &mean_square),
            ("norm of a column of down", &down_norm),
        ] {
            if values.len() != mean_abs.len() {
                let (got, expected) = (values.len(), mean_abs.len());
                return refused(what, format!("{got} of them"), expected.to_string());
            }
            if let Some(bad) = values.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                return refused(what, bad.to_string(), "a finite number from 0 up".into());
            }
        }
        Ok(Self {
            samples,
            mean_abs,
            mean_square,
            down_norm,
        })
    }

    /// Number of vectors that the means were taken over.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// `E|u|`.
    pub fn mean_abs(&self) -> &[f32] {
        &self.mean_abs
    }

    /// `E[u²]`.
    pub fn mean_square(&self) -> &[f32] {
        &self.mean_square
    }

    /// `‖W_down[:, i]‖₂`.
    pub fn down_norm(&self) -> &[f32] {
        &self.down_norm
    }

    /// U of every channel for this importance.
    pub fn scales(&self, importance: Importance) -> Vec<f32> {
        match importance {
            Importance::Cats => vec![1.0; self.mean_abs.len()],
            Importance::Chess => self.mean_abs.clone(),
            Importance::Chess2 => self.mean_square.iter().map(|s| s.sqrt()).collect(),
            Importance::ChessDown => {
                let pairs = self.mean_abs.iter().zip(&self.down_norm);
                pairs.map(|(u, norm)| u * norm).collect()
            }
        }
    }

    /// The thresholds of the gate that drop all importances up to `least`: `least / U`, or ∞ where U
    /// is 0. For [`Importance::Cats`] one threshold serves all channels.
    ///
    /// # Errors
    /// [`Error::Engine`] if `least` is NaN or below 0.
    pub fn thresholds(&self, importance: Importance, least: f32) -> Result<Thresholds> {
        if importance == Importance::Cats {
            return Ok(Thresholds::scalar(least)?);
        }
        let scales = self.scales(importance).into_iter();
        let of = |scale: f32| match scale {
            0.0 => f32::INFINITY,
            scale => least / scale,
        };
        Ok(Thresholds::new(scales.map(of).collect())?)
    }
}

/// The first pass over a text: sums over the outputs of `up`.
#[derive(Debug, Clone)]
pub struct ChannelSums {
    samples: u64,
    abs: Vec<f64>,
    squares: Vec<f64>,
}

impl ChannelSums {
    /// For a block of `channels` channels.
    pub fn new(channels: usize) -> Self {
        Self {
            samples: 0,
            abs: vec![0.0; channels],
            squares: vec![0.0; channels],
        }
    }

    /// Adds vectors `[n, channels]`.
    pub fn add(&mut self, up: &[f32]) {
        for u in up.chunks_exact(self.abs.len().max(1)) {
            self.samples += 1;
            for ((abs, square), &u) in self.abs.iter_mut().zip(&mut self.squares).zip(u) {
                let u = f64::from(u);
                *abs += u.abs();
                *square += u * u;
            }
        }
    }

    /// The means, together with the norms of the columns of `down`.
    ///
    /// # Errors
    /// Those of [`Channels::new`].
    pub fn finish(self, down_norm: Vec<f32>) -> Result<Channels> {
        let n = self.samples.max(1) as f64;
        let mean = |sums: Vec<f64>| sums.into_iter().map(|s| (s / n) as f32).collect();
        Channels::new(self.samples, mean(self.abs), mean(self.squares), down_norm)
    }
}

/// The second pass over a text: quantiles of the importances.
#[derive(Debug, Clone)]
pub struct GateQuantiles {
    channels: Channels,
    /// The scales U and the quantiles of each of [`Importance::ALL`], in its order.
    importances: Vec<(Vec<f32>, Quantiles)>,
}

impl GateQuantiles {
    /// For a block with these channels.
    pub fn new(channels: Channels) -> Self {
        let scales = |i| (channels.scales(i), Quantiles::default());
        Self {
            importances: Importance::ALL.map(scales).into(),
            channels,
        }
    }

    /// Adds gates after their activation function, `[n, channels]`.
    pub fn add(&mut self, gate: &[f32]) {
        self.importances.par_iter_mut().for_each(|(scales, all)| {
            for g in gate.chunks_exact(scales.len()) {
                all.extend(
                    g.iter()
                        .zip(scales.iter())
                        .map(|(g, scale)| g.abs() * scale),
                );
            }
        });
    }

    /// The statistics of the block.
    ///
    /// # Errors
    /// [`Error::Inputs`] if nothing was added, or a number that is not finite.
    pub fn finish(self) -> Result<GateStatistics> {
        let tables = self
            .importances
            .into_par_iter()
            .map(|(_, all)| all.finish());
        let tables: Vec<_> = tables.collect::<Result<_>>()?;
        GateStatistics::new(self.channels, tables)
    }
}

/// What the thresholds of a feed-forward block are chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct GateStatistics {
    channels: Channels,
    /// In the order of [`Importance::ALL`].
    tables: Vec<QuantileTable>,
}

impl GateStatistics {
    /// From a table of quantiles for each of [`Importance::ALL`], in its order.
    ///
    /// # Errors
    /// [`Error::Inputs`] if the number of tables is another.
    pub fn new(channels: Channels, tables: Vec<QuantileTable>) -> Result<Self> {
        if tables.len() == Importance::ALL.len() {
            return Ok(Self { channels, tables });
        }
        Err(Error::Inputs {
            what: "tables of quantiles",
            got: tables.len().to_string(),
            expected: Importance::ALL.len().to_string(),
        })
    }

    /// What is known of the channels.
    pub const fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The quantiles of this importance.
    pub fn table(&self, importance: Importance) -> &QuantileTable {
        &self.tables[importance as usize]
    }

    /// Thresholds that drop a `share` of all gates, from 0 to 1: those of least importance.
    ///
    /// # Errors
    /// [`Error::Engine`], which finite statistics never cause.
    pub fn thresholds(&self, importance: Importance, share: f64) -> Result<Thresholds> {
        self.channels
            .thresholds(importance, self.table(importance).at(share))
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these are exact")]
mod tests {
    use super::*;
    use lacuna::verify::Random;

    #[test]
    fn a_share_of_the_gates_is_under_the_thresholds_and_it_is_the_least_important() {
        let (channels, samples) = (37, 400);
        let mut random = Random(4);
        let mut vectors = |dead: usize| {
            let one = |i: usize| match i % channels {
                c if c == dead => 0.0,
                c => random.signed() * (c + 1) as f32,
            };
            (0..samples * channels).map(one).collect::<Vec<f32>>()
        };
        let (gate, up) = (vectors(99), vectors(5));
        let norms: Vec<f32> = (0..channels).map(|c| 1.0 / (c + 1) as f32).collect();
        let mut sums = ChannelSums::new(channels);
        up.chunks(64 * channels).for_each(|up| sums.add(up));
        let mut quantiles = GateQuantiles::new(sums.finish(norms.clone()).unwrap());
        gate.chunks(7 * channels)
            .for_each(|gate| quantiles.add(gate));
        let statistics = quantiles.finish().unwrap();
        for importance in Importance::ALL {
            let scale = |c: usize| {
                let of = up
                    .iter()
                    .skip(c)
                    .step_by(channels)
                    .map(|&u| f64::from(u).abs());
                let n = samples as f64;
                match importance {
                    Importance::Cats => 1.0,
                    Importance::Chess => of.sum::<f64>() / n,
                    Importance::Chess2 => (of.map(|u| u * u).sum::<f64>() / n).sqrt(),
                    Importance::ChessDown => of.sum::<f64>() / n * f64::from(norms[c]),
                }
            };
            let scales: Vec<f64> = (0..channels).map(scale).collect();
            for share in [0.1, 0.5, 0.9] {
                let thresholds = statistics.thresholds(importance, share).unwrap();
                let (mut dropped, mut most, mut least) = (0, 0f64, f64::INFINITY);
                for (i, &g) in gate.iter().enumerate() {
                    let important = f64::from(g).abs() * scales[i % channels];
                    if thresholds.is_active(i % channels, g) {
                        least = least.min(important);
                    } else {
                        (dropped, most) = (dropped + 1, most.max(important));
                    }
                }
                assert!(
                    most <= least * (1.0 + 1e-6),
                    "{importance:?}: {most} {least}"
                );
                let met = f64::from(dropped) / gate.len() as f64;
                assert!(
                    (met - share).abs() < 2e-3,
                    "{importance:?}: {met} of {share}"
                );
                if importance != Importance::Cats {
                    assert_eq!(thresholds.values()[5], f32::INFINITY);
                }
            }
        }
    }

    #[test]
    fn moments_that_are_none_are_refused() {
        let sound = || vec![1.0; 3];
        assert!(Channels::new(1, sound(), sound(), sound()).is_ok());
        assert!(Channels::new(0, sound(), sound(), sound()).is_err());
        assert!(Channels::new(1, vec![], vec![], vec![]).is_err());
        for bad in [
            vec![1.0; 2],
            vec![1.0, f32::NAN, 1.0],
            vec![-1.0; 3],
            vec![f32::INFINITY; 3],
        ] {
            assert!(Channels::new(1, sound(), bad.clone(), sound()).is_err());
            assert!(Channels::new(1, sound(), sound(), bad).is_err());
        }
        let channels = Channels::new(1, sound(), sound(), sound()).unwrap();
        assert!(channels.thresholds(Importance::Chess, f32::NAN).is_err());
        assert!(GateStatistics::new(channels, vec![]).is_err());
    }
}
