//! The products of a decoder whose model has thresholds.
//!
//! The decoder calls [`Builder::product`], [`Builder::gate_and_up`] and [`Builder::down`]. Over many tokens,
//! activations that are not over their thresholds are set to 0, and whole products follow. A step lists
//! the active channels instead, and its products skip the others, if their weights are laid out for that.

use super::{ActivationThresholds, Gate, Tally};
use crate::{
    config::{Config, Linear, Site},
    decoder::plans::Builder,
    error::{Error, Result},
    model::{LayerOnDevice, Stack},
};
use lacuna::{Active, Gpu, PlanBuilder, Tensor, gpu::ReadBack, kernel::Layout};

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

    /// Replaces the thresholds by others for the same gates.
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

/// What a decoder has in addition if its model has thresholds.
#[derive(Debug)]
pub(crate) struct Sparse {
    /// `[chunk, widest input]`: a product's input without what was dropped.
    left: Tensor,
    /// `[layers · gates, 4]` words, see `threshold.wgsl`.
    tallies: Tensor,
    read: ReadBack,
    /// Layer, gate, and what is active there in a step.
    gates: Vec<(usize, Gate, Active)>,
}

/// Words of a tally.
const TALLY: usize = 4;

impl Sparse {
    /// For layers with these gates; `None` if there are no gates.
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

    /// The active channels of a gate in a step.
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
    /// `y = W · x` of a stack of a layer's products, without those of `x` that are not over their thresholds.
    pub fn product(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        stack: &Stack,
        [x, y]: [&Tensor; 2],
    ) -> Result<()> {
        let gate = stack.single().map(Gate::Input);
        let thresholds = gate.and_then(|gate| Some((gate, layer.gates.get(gate)?)));
        let act = self.activations;
        let (Some((gate, thresholds)), Some(sparse)) = (thresholds, &act.sparse) else {
            return self.linear(plan, stack, [x, y]);
        };
        if let Some(active) = self.skips(tokens, layer, gate) {
            let plain = lacuna::Activation::None;
            plan.threshold(x, thresholds, plain, active)?;
            plan.input_sparse(&stack.weight, active, stack.bias.as_ref(), y)?;
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
        self.linear(plan, stack, [&left, y])
    }

    /// The active channels of a gate, if the others are skipped: in a step, where the weights allow it.
    fn skips(&self, tokens: usize, layer: &LayerOnDevice, gate: Gate) -> Option<&Active> {
        layer.gates.get(gate)?;
        let can = match gate {
            Gate::Input(linear) => layer.stack(linear).weight.layout() == Layout::Bands,
            Gate::FeedForward => layer.masks,
        };
        let sparse = self.activations.sparse.as_ref()?;
        sparse
            .active(layer.gates.layer, gate)
            .filter(|_| can && tokens == 1)
    }

    /// `gate = W_gate · x` and `up = W_up · x`. Where the feed-forward skips, `act(gate) ⊙ (W_up · x)` of the
    /// active channels, which goes to the gate's `kept` in place of `up`.
    pub fn gate_and_up(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        x: &Tensor,
    ) -> Result<()> {
        let outputs = &self.activations.gate_up;
        let Some(active) = self.skips(tokens, layer, Gate::FeedForward) else {
            return self.products(plan, tokens, layer, Site::FeedForward, [x, outputs]);
        };
        let [gate, up] = [Linear::Gate, Linear::Up].map(|linear| layer.stack(linear));
        let y = outputs.view(self.gpu, 0, tokens, gate.weight.rows())?;
        self.product(plan, tokens, layer, gate, [x, &y])?;
        if let Some(thresholds) = layer.gates.get(Gate::FeedForward) {
            let activation = self.glue.activation().into();
            plan.threshold(&y, thresholds, activation, active)?;
            plan.masked(&up.weight, x, up.bias.as_ref(), active)?;
        }
        Ok(())
    }

    /// `y = W_down · (act(gate) ⊙ up)`, with 0 in channels where `act(gate)` is not over its threshold.
    /// Where nothing skips, the input of the product is left in `inner`.
    pub fn down(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        y: &Tensor,
    ) -> Result<()> {
        let stack = layer.stack(Linear::Down);
        if let Some(active) = self.skips(tokens, layer, Gate::FeedForward) {
            let (weight, bias) = (&stack.weight, stack.bias.as_ref());
            match weight.layout() {
                Layout::Bands => plan.input_sparse(weight, active, bias, y)?,
                Layout::Rows => plan.linear(weight, active.kept(), bias, y)?,
            };
            return Ok(());
        }
        let act = self.activations;
        let inner = self.rows(&act.inner, tokens)?;
        let places = [Linear::Gate, Linear::Up].map(|linear| layer.place(linear, self.chunk));
        let tensors = [act.gate_up.clone(), inner.clone()];
        match (layer.gates.get(Gate::FeedForward), &act.sparse) {
            (Some(thresholds), Some(sparse)) => {
                let row = row(layer.gates.layer, Gate::FeedForward);
                let before = [&act.state, thresholds, &sparse.tallies].map(Clone::clone);
                let tensors = [&before[..], &tensors[..]].concat();
                plan.dispatch(self.glue.threshold_gated(tokens, places, row), &tensors)?;
            }
            _ => {
                plan.dispatch(self.glue.gated(tokens, places), &tensors)?;
            }
        }
        self.product(plan, tokens, layer, stack, [&inner, y])
    }
}
