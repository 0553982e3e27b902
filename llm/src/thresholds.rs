//! Activation thresholds of a model: what is compared with them, where, and how much of it is
//! dropped. CHESS (<https://arxiv.org/abs/2409.01366>), CATS and TEAL are ways to choose them.
//!
//! The seam to the decoder is [`Builder::product`] and [`Builder::gated`]: here what is under
//! its threshold becomes 0, and dense products follow.

use crate::{
    config::{Config, Linear},
    decoder::plans::Builder,
    error::{Error, Result},
    model::LayerOnDevice,
    weights::expect,
};
use lacuna::{Gpu, PlanBuilder, Tensor, format::Thresholds, gpu::ReadBack};
use std::collections::BTreeMap;

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

/// How many channels of a gate were active, over all tokens run.
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
    /// The share that was dropped; NaN before the first token.
    pub fn sparsity(&self) -> f64 {
        1.0 - self.active as f64 / self.of as f64
    }
}

/// The share of the weights in a model's blocks that products need which skip what `tallies`
/// say is dropped: rows of up, columns of the rest.
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
                    // A channel that the gate drops is 0, and so dropped here as well.
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

/// A layer's thresholds on the device.
#[derive(Debug, Default)]
pub(crate) struct GatesOnDevice {
    layer: usize,
    /// `[channels]` each, in the order of [`Gate::ALL`].
    thresholds: [Option<Tensor>; 8],
}

impl GatesOnDevice {
    pub fn load(
        gpu: &Gpu,
        config: &Config,
        all: &ActivationThresholds,
        layer: usize,
    ) -> Result<Self> {
        let mut gates = Self {
            layer,
            ..Self::default()
        };
        for gate in Gate::ALL {
            if let Some(thresholds) = all.get(layer, gate) {
                let values = thresholds.expand(gate.channels(config))?;
                let tensor = gpu.tensor_from(1, values.len(), &values)?;
                gates.thresholds[gate.index()] = Some(tensor);
            }
        }
        Ok(gates)
    }

    /// Replaces the thresholds by others of the same gates.
    pub fn write(&self, gpu: &Gpu, all: &ActivationThresholds) -> Result<()> {
        for gate in Gate::ALL {
            match (&self.thresholds[gate.index()], all.get(self.layer, gate)) {
                (None, None) => {}
                (Some(tensor), Some(new)) => tensor.write(gpu, &new.expand(tensor.len())?)?,
                (_, new) => {
                    return Err(Error::Choice {
                        what: "gate that thresholds are given for or not",
                        value: gate.module(self.layer),
                        supported: match new {
                            None => "one that is thresholded must stay so".into(),
                            Some(_) => "those that the model was loaded with".into(),
                        },
                    });
                }
            }
        }
        Ok(())
    }

    fn get(&self, gate: Gate) -> Option<&Tensor> {
        self.thresholds[gate.index()].as_ref()
    }

    /// The gates that have thresholds.
    pub fn gates(&self) -> Vec<Gate> {
        let has = |&gate: &Gate| self.get(gate).is_some();
        Gate::ALL.into_iter().filter(has).collect()
    }
}

/// What a decoder of a model with thresholds has beside the rest.
#[derive(Debug)]
pub(crate) struct Sparse {
    /// `[chunk, widest input]`: what is left of a product's input.
    left: Tensor,
    /// `[layers · gates, 4]` words, see `threshold.wgsl`.
    tallies: Tensor,
    read: ReadBack,
    /// By the tallies' order.
    gates: Vec<(usize, Gate, usize)>,
}

/// Words of a tally.
const TALLY: usize = 4;

impl Sparse {
    /// For layers with these gates; nothing where there are none.
    pub fn new(
        gpu: &Gpu,
        config: &Config,
        chunk: usize,
        layers: &[Vec<Gate>],
    ) -> Result<Option<Self>> {
        let of_layer = |(layer, gates): (usize, &Vec<Gate>)| {
            let gate = |&gate: &Gate| (layer, gate, gate.channels(config));
            gates.iter().map(gate).collect::<Vec<_>>()
        };
        let gates: Vec<_> = layers.iter().enumerate().flat_map(of_layer).collect();
        if gates.is_empty() {
            return Ok(None);
        }
        let widest = gates
            .iter()
            .map(|&(_, _, channels)| channels)
            .max()
            .unwrap_or(0);
        let rows = layers.len() * Gate::ALL.len();
        let tallies = gpu.tensor_from(rows, TALLY, &vec![0u32; rows * TALLY])?;
        Ok(Some(Self {
            left: gpu.tensor(chunk, widest)?,
            read: ReadBack::new(gpu, &tallies)?,
            tallies,
            gates,
        }))
    }

    pub fn bytes(&self) -> u64 {
        self.left.bytes() + self.tallies.bytes()
    }

    /// What was counted since the last [`clear`](Self::clear).
    pub fn tallies(&self, gpu: &Gpu) -> Result<Vec<Tally>> {
        let mut encoder = gpu.encoder();
        self.read.encode(&mut encoder);
        gpu.submit(encoder)?;
        let words: Vec<u32> = self.read.read_blocking(gpu)?;
        let tally = |&(layer, gate, channels): &(usize, Gate, usize)| {
            let at = row(layer, gate) * TALLY;
            let [low, high, rows] = [0, 1, 2].map(|i| u64::from(words[at + i]));
            Tally {
                layer,
                gate,
                active: high << 32 | low,
                of: rows * channels as u64,
            }
        };
        Ok(self.gates.iter().map(tally).collect())
    }

    pub fn clear(&self, gpu: &Gpu) -> Result<()> {
        let zeros = vec![0u32; self.tallies.batch() * TALLY];
        Ok(self.tallies.write(gpu, &zeros)?)
    }
}

fn row(layer: usize, gate: Gate) -> usize {
    layer * Gate::ALL.len() + gate.index()
}

impl Builder<'_> {
    /// `y = W · x` of a layer's product, without what of `x` is under its threshold.
    pub fn product(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        linear: Linear,
        [x, y]: [&Tensor; 2],
    ) -> Result<()> {
        let (weight, bias) = layer.linear(linear);
        let gate = Gate::Input(linear);
        let act = self.activations;
        let (Some(thresholds), Some(sparse)) = (layer.gates.get(gate), &act.sparse) else {
            plan.linear(weight, x, bias, y)?;
            return Ok(());
        };
        let left = sparse.left.view(self.gpu, 0, tokens, x.len())?;
        let row = row(layer.gates.layer, gate);
        plan.dispatch(
            self.glue.threshold_input(tokens, x.len(), row),
            &[
                act.state.clone(),
                thresholds.clone(),
                sparse.tallies.clone(),
                x.clone(),
                left.clone(),
            ],
        )?;
        plan.linear(weight, &left, bias, y)?;
        Ok(())
    }

    /// `gate = act(gate) ⊙ up`, 0 in channels where `act(gate)` is under its threshold.
    pub fn gated(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        [gate, up]: [&Tensor; 2],
    ) -> Result<()> {
        let act = self.activations;
        let thresholds = layer.gates.get(Gate::FeedForward);
        let (Some(thresholds), Some(sparse)) = (thresholds, &act.sparse) else {
            plan.dispatch(self.glue.gated(tokens), &[gate.clone(), up.clone()])?;
            return Ok(());
        };
        let row = row(layer.gates.layer, Gate::FeedForward);
        plan.dispatch(
            self.glue.threshold_gated(tokens, row),
            &[
                act.state.clone(),
                thresholds.clone(),
                sparse.tallies.clone(),
                gate.clone(),
                up.clone(),
            ],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
