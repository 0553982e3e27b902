//! Activation thresholds of a model: what is compared with them, where, and how much of it is
//! dropped. CHESS (<https://arxiv.org/abs/2409.01366>), CATS and TEAL are ways to choose them.

mod skipping;
mod tally;

use crate::{
    config::{Config, Linear},
    error::{Error, Result},
    weights::expect,
};
use lacuna::{
    Gpu,
    format::{Matrix, Precision, Thresholds},
    kernel::{Layout, Problem, Skip},
    verify::Random,
};
pub(crate) use skipping::{GatesOnDevice, Sparse};
use std::collections::BTreeMap;
pub(crate) use tally::Tallies;
pub use tally::{Tally, weights_needed};

/// What thresholds are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gate {
    /// The input of a product, for that product alone.
    Input(Linear),
    /// `act(gate · h)`, whose channels switch off rows of up and columns of down.
    FeedForward,
}

impl Gate {
    /// All of them: those of the products in [`Linear::ALL`]'s order, then the feed-forward's.
    pub const ALL: [Self; 8] = [
        Self::Input(Linear::Q),
        Self::Input(Linear::K),
        Self::Input(Linear::V),
        Self::Input(Linear::O),
        Self::Input(Linear::Gate),
        Self::Input(Linear::Up),
        Self::Input(Linear::Down),
        Self::FeedForward,
    ];

    const fn index(self) -> usize {
        match self {
            Self::Input(linear) => linear as usize,
            Self::FeedForward => 7,
        }
    }

    /// The module that a file of thresholds names: that of the product, or `….mlp`.
    pub fn module(self, layer: usize) -> String {
        match self {
            Self::Input(linear) => linear.module(layer),
            Self::FeedForward => format!("model.layers.{layer}.mlp"),
        }
    }

    /// Channels compared.
    pub const fn channels(self, config: &Config) -> usize {
        match self {
            Self::Input(linear) => config.shape(linear)[1],
            Self::FeedForward => config.ffn,
        }
    }
}

/// Thresholds of a model's layers: of each [`Gate`] one for every channel, one for all, or none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivationThresholds {
    /// By layer, in the order of [`Gate::ALL`].
    layers: Vec<[Option<Thresholds>; 8]>,
}

impl ActivationThresholds {
    /// Those of a model of `config`, by module; what is not named is not thresholded.
    ///
    /// # Errors
    /// [`Error::UnknownModule`] for a name that is no gate of the model, [`Error::Module`] for
    /// thresholds of another number of channels.
    pub fn new(config: &Config, modules: &BTreeMap<String, Thresholds>) -> Result<Self> {
        let layers = config.layers.len();
        let gates = (0..layers).flat_map(|layer| Gate::ALL.map(|gate| (layer, gate)));
        let gates: BTreeMap<String, (usize, Gate)> = gates
            .map(|(layer, gate)| (gate.module(layer), (layer, gate)))
            .collect();
        let mut found = Self {
            layers: vec![Default::default(); layers],
        };
        for (module, thresholds) in modules {
            let Some(&(layer, gate)) = gates.get(module) else {
                return Err(Error::UnknownModule {
                    what: "gate",
                    name: module.clone(),
                });
            };
            check(thresholds, layer, gate, config)?;
            found.layers[layer][gate.index()] = Some(thresholds.clone());
        }
        Ok(found)
    }

    /// Thresholds that drop a `share` of the channels of these gates of every layer, whatever they
    /// hold: drawn, the same for the same `seed`. They show speed, not quality.
    ///
    /// # Errors
    /// Never; what is made here is checked as all thresholds are.
    pub fn drawn(config: &Config, gates: &[Gate], share: f64, seed: u64) -> Result<Self> {
        let mut random = Random(seed);
        let mut modules = BTreeMap::new();
        for layer in 0..config.layers.len() {
            for &gate in gates {
                let mut draw = || {
                    if f64::from(random.signed() + 1.0) < 2.0 * share {
                        f32::INFINITY
                    } else {
                        0.0
                    }
                };
                let values = (0..gate.channels(config)).map(|_| draw()).collect();
                let thresholds = Thresholds::new(values)?.expecting(1.0 - share as f32)?;
                modules.insert(gate.module(layer), thresholds);
            }
        }
        Self::new(config, &modules)
    }

    /// Refuses those of a model of another shape.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Module`].
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        expect(
            || "layers of thresholds".into(),
            self.layers.len(),
            config.layers.len(),
        )?;
        for layer in 0..self.layers.len() {
            for gate in Gate::ALL {
                if let Some(thresholds) = self.get(layer, gate) {
                    check(thresholds, layer, gate, config)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a step of a layer is to skip rows of `up`, its weight, by the feed-forward's gate.
    pub(crate) fn masks(&self, gpu: &Gpu, layer: usize, up: &Matrix) -> bool {
        // Two gates of one product have no list in common.
        let has_own = |linear| self.get(layer, Gate::Input(linear)).is_some();
        let can = !up.format().stores_less() && !has_own(Linear::Up) && !has_own(Linear::Down);
        let gate = self.get(layer, Gate::FeedForward);
        can && gate.is_some_and(|gate| pays(gpu, up, Skip::Rows, gate))
    }

    /// Whether it is to skip columns of the weight of a product, where `masks` is what
    /// [`masks`](Self::masks) said.
    pub(crate) fn skips_columns(
        &self,
        gpu: &Gpu,
        layer: usize,
        linear: Linear,
        weight: &Matrix,
        masks: bool,
    ) -> bool {
        let gate = match linear {
            Linear::Down if masks => Gate::FeedForward,
            _ => Gate::Input(linear),
        };
        let gate = self.get(layer, gate);
        gate.is_some_and(|gate| pays(gpu, weight, Skip::Cols, gate))
    }

    /// Those of one layer, as of a model that has no other.
    pub(crate) fn of_layer(&self, layer: usize) -> Self {
        Self {
            layers: self.layers.get(layer).cloned().into_iter().collect(),
        }
    }

    /// Those of one gate.
    pub fn get(&self, layer: usize, gate: Gate) -> Option<&Thresholds> {
        self.layers.get(layer)?[gate.index()].as_ref()
    }
}

fn check(thresholds: &Thresholds, layer: usize, gate: Gate, config: &Config) -> Result<()> {
    let fits = thresholds.check_channels(gate.channels(config));
    fits.map_err(|reason| Error::Module {
        module: gate.module(layer),
        reason,
    })
}

/// Whether a product with one vector is faster where it skips what is not active, as far as it was
/// measured. Of a gate that nobody measured half is taken to be active.
fn pays(gpu: &Gpu, weight: &Matrix, skip: Skip, gate: &Thresholds) -> bool {
    let problem = Problem {
        rows: weight.rows(),
        cols: weight.cols(),
        batch: 1,
        format: weight.format(),
        bias: false,
        layout: match skip {
            Skip::Cols => Layout::Bands,
            Skip::Nothing | Skip::Rows => Layout::Rows,
        },
        skip,
        precision: Precision::F32,
    };
    let active = f64::from(gate.expected().unwrap_or(0.5));
    active <= gpu.tuning().break_even(&problem, gpu.caps().class)
}

#[cfg(test)]
mod tests;
