//! Counts how many activations were dropped.

use super::Gate;
use crate::config::{Config, Linear};
use std::collections::BTreeMap;

/// How many activations of a gate were active, over all tokens run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The layer.
    pub layer: usize,
    /// Its gate.
    pub gate: Gate,
    /// Activations that were over their thresholds.
    pub active: u64,
    /// Activations that were compared.
    pub of: u64,
}

impl Tally {
    /// The share of activations that was dropped; NaN before the first token.
    pub fn sparsity(&self) -> f64 {
        1.0 - self.active as f64 / self.of as f64
    }
}

/// The share of the layers' weights that products still need if they skip what `tallies` count as
/// dropped: a product's columns by its input, the rows of `up` by the feed-forward's gate.
pub fn weights_needed(config: &Config, tallies: &[Tally]) -> f64 {
    let (mut needed, mut all) = (0.0, 0.0);
    for layer in 0..config.layers.len() {
        let active = |gate| {
            let mut of_gate = tallies
                .iter()
                .filter(|t| (t.layer, t.gate) == (layer, gate));
            of_gate.next().map_or(1.0, |t| 1.0 - t.sparsity())
        };
        for linear in Linear::ALL {
            let [rows, cols] = config.shape(linear);
            let size = rows as f64 * cols as f64;
            let input = active(Gate::Input(linear));
            let gate = active(Gate::FeedForward);
            all += size;
            needed += size
                * match linear {
                    Linear::Up => input * gate,
                    // A channel that the gate drops is 0, so this input's threshold drops it as well.
                    Linear::Down => input.min(gate),
                    _ => input,
                };
        }
    }
    needed / all
}

/// Adds up tallies of the CPU twin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tallies(BTreeMap<(usize, Gate), (u64, u64)>);

impl Tallies {
    pub fn add(&mut self, layer: usize, gate: Gate, active: usize, of: usize) {
        let sum = self.0.entry((layer, gate)).or_default();
        *sum = (sum.0 + active as u64, sum.1 + of as u64);
    }

    pub fn all(&self) -> Vec<Tally> {
        let tally = |(&(layer, gate), &(active, of))| Tally {
            layer,
            gate,
            active,
            of,
        };
        self.0.iter().map(tally).collect()
    }
}
