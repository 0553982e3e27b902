//! Activation thresholds of a model: where activations are compared with them, and how many are dropped.
//! CHESS (<https://arxiv.org/abs/2409.01366>), CATS and TEAL are ways to choose them.

mod skipping;
mod tally;

use crate::{
    config::{Config, Linear, Site},
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

/// A place in a layer where activations are compared with thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gate {
    /// The input of one product; other products with the same input are not affected.
    Input(Linear),
    /// `act(gate · h)`: a channel that is dropped switches off a row of `up` and a column of `down`.
    FeedForward,
}

impl Gate {
    /// All gates: those of the products in the order of [`Linear::ALL`], then the feed-forward's.
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

    /// The gate's name in a file of thresholds: the product's module, or `….mlp`.
    pub fn module(self, layer: usize) -> String {
        match self {
            Self::Input(linear) => linear.module(layer),
            Self::FeedForward => format!("model.layers.{layer}.mlp"),
        }
    }

    /// Number of channels that are compared.
    pub const fn channels(self, config: &Config) -> usize {
        match self {
            Self::Input(linear) => config.shape(linear)[1],
            Self::FeedForward => config.ffn,
        }
    }
}

/// The thresholds of a model: for each [`Gate`] of each layer one per channel, one for all channels, or none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivationThresholds {
    /// For each layer, in the order of [`Gate::ALL`].
    layers: Vec<[Option<Thresholds>; 8]>,
}

impl ActivationThresholds {
    /// Thresholds for a model of `config`, by the names that [`Gate::module`] gives. Gates without an
    /// entry are not thresholded.
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

    /// Random thresholds that drop about a `share` of the channels of `gates` in every layer, whatever
    /// their values; the same `seed` gives the same thresholds. They serve to measure speed, not quality.
    ///
    /// # Errors
    /// [`Error::Engine`] for a share outside 0 to 1.
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

    /// Refuses thresholds of a model of another shape.
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

    /// Whether a step skips the rows of the layer's weight `up` that the feed-forward's gate drops.
    pub(crate) fn masks(&self, gpu: &Gpu, layer: usize, up: &Matrix) -> bool {
        // A product skips by one list of channels, so it cannot follow a gate of its own as well.
        let has_own = |linear| self.get(layer, Gate::Input(linear)).is_some();
        let can = !up.format().stores_less() && !has_own(Linear::Up) && !has_own(Linear::Down);
        let gate = self.get(layer, Gate::FeedForward);
        can && gate.is_some_and(|gate| pays(gpu, up, Skip::Rows, gate))
    }

    /// Whether a step skips columns of a product's weight; `masks` is what [`masks`](Self::masks)
    /// returned.
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

    /// Whether thresholds change the input of a product, or what is computed of it: such a product is not
    /// stacked with others.
    pub(crate) fn acts_on(&self, layer: usize, linear: Linear) -> bool {
        let gated =
            linear.site() == Site::FeedForward && self.get(layer, Gate::FeedForward).is_some();
        gated || self.get(layer, Gate::Input(linear)).is_some()
    }

    /// The thresholds of one layer, as those of a model that has only this one.
    pub(crate) fn of_layer(&self, layer: usize) -> Self {
        Self {
            layers: self.layers.get(layer).cloned().into_iter().collect(),
        }
    }

    /// The thresholds of one gate.
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

/// Whether a product with one vector is expected to be faster if it skips what is not active: whether the
/// gate's expected share of active channels is at most the measured break-even. A gate without an
/// expected share counts as half active.
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
