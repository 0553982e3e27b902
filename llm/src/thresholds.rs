//! Activation thresholds of a model: what is compared with them, where, and how much of it is
//! dropped. CHESS (<https://arxiv.org/abs/2409.01366>), CATS and TEAL are ways to choose them.
//!
//! The seam to the decoder is [`Builder::product`], [`Builder::up`] and [`Builder::down`]. Over
//! many tokens what is under its threshold becomes 0, and whole products follow. A step lists
//! what is active instead, and its products skip the rest, where weights lie so that they can.

use crate::{
    config::{Config, Linear},
    decoder::plans::Builder,
    error::{Error, Result},
    model::LayerOnDevice,
    weights::expect,
};
use lacuna::{
    Active, Gpu, PlanBuilder, Tensor,
    format::{Matrix, Precision, Thresholds},
    gpu::ReadBack,
    kernel::{Layout, Problem, Skip},
    verify::Random,
};
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
    /// In the tallies' order; of each what is active in a step.
    gates: Vec<(usize, Gate, Active)>,
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
        let mut gates = vec![];
        for (layer, of_layer) in layers.iter().enumerate() {
            for &gate in of_layer {
                gates.push((layer, gate, gpu.active(1, gate.channels(config))?));
            }
        }
        let Some(widest) = gates.iter().map(|(.., active)| active.channels()).max() else {
            return Ok(None);
        };
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
        let bytes = |active: &Active| active.kept().bytes() + active.list().bytes();
        let actives = self.gates.iter().map(|(.., active)| bytes(active));
        self.left.bytes() + self.tallies.bytes() + actives.sum::<u64>()
    }

    /// What is active at a gate in a step.
    fn active(&self, layer: usize, gate: Gate) -> Option<&Active> {
        let mut all = self.gates.iter();
        let found = all.find(|(l, g, _)| (*l, *g) == (layer, gate));
        found.map(|(.., active)| active)
    }

    /// What was counted since the last [`clear`](Self::clear).
    pub fn tallies(&self, gpu: &Gpu) -> Result<Vec<Tally>> {
        let mut encoder = gpu.encoder();
        self.read.encode(&mut encoder);
        gpu.submit(encoder)?;
        let words: Vec<u32> = self.read.read_blocking(gpu)?;
        let tally = |(layer, gate, active): &(usize, Gate, Active)| {
            let at = row(*layer, *gate) * TALLY;
            let [low, high, rows] = [0, 1, 2].map(|i| u64::from(words[at + i]));
            let (listed, steps) = active.tally_blocking(gpu)?;
            Ok(Tally {
                layer: *layer,
                gate: *gate,
                active: (high << 32 | low) + listed,
                of: (rows + steps) * active.channels() as u64,
            })
        };
        self.gates.iter().map(tally).collect()
    }

    pub fn clear(&self, gpu: &Gpu) -> Result<()> {
        let zeros = vec![0u32; self.tallies.batch() * TALLY];
        self.tallies.write(gpu, &zeros)?;
        let mut actives = self.gates.iter();
        Ok(actives.try_for_each(|(.., active)| active.clear_tally(gpu))?)
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
            return self.linear(plan, (weight, bias), [x, y]);
        };
        if let Some(active) = self.skips(tokens, layer, gate) {
            let plain = lacuna::Activation::None;
            plan.threshold(x, thresholds, plain, active)?;
            plan.input_sparse(weight, active, bias, y)?;
            return Ok(());
        }
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
        self.linear(plan, (weight, bias), [&left, y])
    }

    /// What is active at a gate, where what is not is skipped: in a step, if the weights allow.
    fn skips(&self, tokens: usize, layer: &LayerOnDevice, gate: Gate) -> Option<&Active> {
        layer.gates.get(gate)?;
        let can = match gate {
            Gate::Input(linear) => layer.linear(linear).0.layout() == Layout::Bands,
            Gate::FeedForward => layer.masks,
        };
        let sparse = self.activations.sparse.as_ref()?;
        sparse
            .active(layer.gates.layer, gate)
            .filter(|_| can && tokens == 1)
    }

    /// `up = W_up · x`; where the feed-forward skips, `act(gate) ⊙ (W_up · x)` in the channels
    /// that `act(gate)` leaves active.
    pub fn up(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        [x, gate, up]: [&Tensor; 3],
    ) -> Result<()> {
        let Some(active) = self.skips(tokens, layer, Gate::FeedForward) else {
            return self.product(plan, tokens, layer, Linear::Up, [x, up]);
        };
        if let Some(thresholds) = layer.gates.get(Gate::FeedForward) {
            let (weight, bias) = layer.linear(Linear::Up);
            let activation = self.glue.activation().into();
            plan.threshold(gate, thresholds, activation, active)?;
            plan.masked(weight, x, bias, active)?;
        }
        Ok(())
    }

    /// `y = W_down · (act(gate) ⊙ up)`, whose factor is 0 in channels where `act(gate)` is under
    /// its threshold; it is left in `gate` where nothing skips.
    pub fn down(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        [gate, up, y]: [&Tensor; 3],
    ) -> Result<()> {
        if let Some(active) = self.skips(tokens, layer, Gate::FeedForward) {
            let (weight, bias) = layer.linear(Linear::Down);
            match weight.layout() {
                Layout::Bands => plan.input_sparse(weight, active, bias, y)?,
                Layout::Rows => plan.linear(weight, active.kept(), bias, y)?,
            };
            return Ok(());
        }
        let act = self.activations;
        let gates = [gate.clone(), up.clone()];
        match (layer.gates.get(Gate::FeedForward), &act.sparse) {
            (Some(thresholds), Some(sparse)) => {
                let row = row(layer.gates.layer, Gate::FeedForward);
                let before = [&act.state, thresholds, &sparse.tallies].map(Clone::clone);
                let tensors = [&before[..], &gates[..]].concat();
                plan.dispatch(self.glue.threshold_gated(tokens, row), &tensors)?;
            }
            _ => {
                plan.dispatch(self.glue.gated(tokens), &gates)?;
            }
        }
        self.product(plan, tokens, layer, Linear::Down, [gate, y])
    }
}

#[cfg(test)]
mod tests;
