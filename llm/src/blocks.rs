//! Runs a model layer by layer and shows the inputs of its products.
//!
//! Calibration and recovery look at one layer at a time: the residual streams of all windows of text lie
//! on the host, and the weights of one layer are loaded. Running the layer over a window replaces the
//! window's stream by the layer's output. So a model of any depth needs the memory of one layer.
//!
//! ```no_run
//! use lacuna_llm::{Checkpoint, Recipe, blocks::{Blocks, embed}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gpu = lacuna::Gpu::new_blocking(&Default::default())?;
//! let (checkpoint, recipe) = (Checkpoint::open("assets/shakespeare")?, Recipe::default());
//! let windows = vec![checkpoint.tokenizer()?.encode("To be, or not to be")?];
//! let mut streams = embed(&checkpoint, &recipe, &windows)?;
//! let mut blocks = Blocks::new(Some(&gpu), checkpoint.config(), 256)?;
//! for layer in 0..checkpoint.config().layers.len() {
//!     let mut block = blocks.load(&checkpoint, &recipe, layer)?;
//!     for stream in &mut streams {
//!         block.observe(stream, &mut |site, x| {
//!             println!("{}: {} elements", site.module(layer), x.len());
//!             Ok(())
//!         })?;
//!     }
//! }
//! # Ok(()) }
//! ```

use crate::{
    config::{Activation, Config, EMBEDDING, Linear, Site},
    decoder::plans::{Activations, Builder},
    error::{Error, Result},
    glue::{Glue, KvType, Residual},
    model::{LayerOnDevice, check_device, map_slices},
    recipe::Recipe,
    source::Source,
    thresholds::{ActivationThresholds, Gate, GatesOnDevice},
    twin::Twin,
    weights::{LayerWeights, Weights, expect},
};
use lacuna::{
    Gpu, Plan, PlanBuilder, Tensor,
    caps::DeviceClass,
    format::{Dense, Precision},
    gpu::ReadBack,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Called with the input of a layer's products, `[tokens, cols]`, at each [`Site`], for some consecutive
/// tokens of the window at a time, in order. An error ends the run.
pub type Inputs<'a> = dyn FnMut(Site, &[f32]) -> Result<()> + 'a;

/// What a layer shows of some consecutive tokens of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen<'a> {
    /// The input of a layer's products, `[tokens, cols]`.
    Input(Site, &'a [f32]),
    /// The outputs of gate and up, `[tokens, ffn]` each.
    FeedForward {
        /// `act(gate · h)`.
        gate: &'a [f32],
        /// `up · h`.
        up: &'a [f32],
    },
}

/// Called with all that a layer shows, for some consecutive tokens of the window at a time, in order. An
/// error ends the run.
pub type Watcher<'a> = dyn FnMut(Seen<'_>) -> Result<()> + 'a;

/// The residual streams before the first layer, `[tokens, hidden]` for each of `windows`.
///
/// The embedding is read in slices of rows, each of them once.
///
/// # Errors
/// [`Error::Vocabulary`], [`Error::Choice`] for an embedding that leaves columns out, and those of the
/// source and of [`Recipe::compress`].
pub fn embed(source: &dyn Source, recipe: &Recipe, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    let config = source.config();
    let (vocab, hidden) = (config.vocab, config.hidden);
    if let Some(&id) = windows.iter().flatten().find(|&&id| id as usize >= vocab) {
        return Err(Error::Vocabulary { id, vocab });
    }
    let streams = windows.iter().map(|ids| vec![0.0; ids.len() * hidden]);
    let streams = Mutex::new(streams.collect::<Vec<_>>());
    map_slices(source, EMBEDDING, |base, slice| {
        let slice = recipe.compress(EMBEDDING, slice)?;
        if slice.format().stores_less() {
            return Err(Error::sparse_embedding(slice.format()));
        }
        let rows = base..base + slice.rows();
        let slice = slice.to_dense().values().to_f32();
        let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        for (ids, stream) in windows.iter().zip(streams.iter_mut()) {
            for (&id, x) in ids.iter().zip(stream.chunks_exact_mut(hidden)) {
                let id = id as usize;
                if rows.contains(&id) {
                    let row = &slice[(id - base) * hidden..][..hidden];
                    for (x, w) in x.iter_mut().zip(row) {
                        *x = w * config.embedding_scale;
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(streams.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs the layers of a model one by one, on a device or on the CPU.
///
/// Keys and values are kept in f32.
#[derive(Debug)]
pub struct Blocks {
    config: Config,
    context: usize,
    device: Option<Device>,
}

/// What the layers share on the device.
#[derive(Debug)]
struct Device {
    gpu: Gpu,
    context: usize,
    chunk: usize,
    activations: Activations,
}

impl Blocks {
    /// Runs layers of a model of `config` over windows of up to `context` tokens. Without a device the
    /// CPU twin runs them, slowly.
    ///
    /// # Errors
    /// [`Error::Choice`] for a context or a configuration that is not supported, and the engine's.
    pub fn new(gpu: Option<&Gpu>, config: &Config, context: usize) -> Result<Self> {
        let usual = match gpu.map(|gpu| gpu.caps().class) {
            Some(DeviceClass::Gpu) => 512,
            _ => 128,
        };
        Self::in_chunks(gpu, config, context, usual)
    }

    /// [`Blocks::new`] with at most `chunk` tokens in a submission.
    ///
    /// # Errors
    /// Those of [`Blocks::new`].
    pub fn in_chunks(
        gpu: Option<&Gpu>,
        config: &Config,
        context: usize,
        chunk: usize,
    ) -> Result<Self> {
        let most = config.max_positions;
        if context == 0 || context > most {
            return Err(Error::Choice {
                what: "context",
                value: context.to_string(),
                supported: format!("1 to {most} tokens"),
            });
        }
        let chunk = chunk.clamp(1, context);
        let device = |gpu: &Gpu| {
            check_device(config)?;
            let gates = [Gate::ALL.to_vec()];
            Ok::<_, Error>(Device {
                gpu: gpu.clone(),
                context,
                chunk,
                activations: Activations::new(gpu, config, &gates, chunk, context, KvType::F32)?,
            })
        };
        Ok(Self {
            config: config.clone(),
            context,
            device: gpu.map(device).transpose()?,
        })
    }

    /// Tokens of the longest window that it runs.
    pub const fn context(&self) -> usize {
        self.context
    }

    /// Loads layer `layer` of `source`, each product in the format that `recipe` gives it. Each call may
    /// have another source, as long as its shape is the model's: a layer can be observed dense and then
    /// run compressed.
    ///
    /// # Errors
    /// [`Error::Choice`] for a layer that the model does not have, those of the source and of
    /// [`Recipe::compress`], and the engine's.
    pub fn load(
        &mut self,
        source: &dyn Source,
        recipe: &Recipe,
        layer: usize,
    ) -> Result<Block<'_>> {
        self.load_with(source, recipe, layer, None)
    }

    /// [`Blocks::load`] with thresholded activations.
    ///
    /// # Errors
    /// Those of [`Blocks::load`], and [`Error::Shape`] or [`Error::Module`] for thresholds of another model.
    pub fn load_thresholded(
        &mut self,
        source: &dyn Source,
        recipe: &Recipe,
        layer: usize,
        thresholds: &ActivationThresholds,
    ) -> Result<Block<'_>> {
        thresholds.check(&self.config)?;
        self.load_with(source, recipe, layer, Some(&thresholds.of_layer(layer)))
    }

    fn load_with(
        &mut self,
        source: &dyn Source,
        recipe: &Recipe,
        layer: usize,
        thresholds: Option<&ActivationThresholds>,
    ) -> Result<Block<'_>> {
        let layers = self.config.layers.len();
        if layer >= layers {
            return Err(Error::Choice {
                what: "layer",
                value: layer.to_string(),
                supported: format!("those below {layers}"),
            });
        }
        let runner = if let Some(device) = &self.device {
            let layer = device.load(source, recipe, layer, thresholds)?;
            Runner::Device(device, Box::new(layer))
        } else {
            let mut twin = twin(source, recipe, layer)?;
            if let Some(thresholds) = thresholds {
                twin.set_thresholds(thresholds)?;
            }
            Runner::Twin(Box::new(twin))
        };
        Ok(Block {
            number: layer,
            hidden: self.config.hidden,
            limit: self.context,
            runner,
        })
    }
}

/// One layer, ready to run. It borrows the [`Blocks`] exclusively, because it uses their activations.
#[derive(Debug)]
pub struct Block<'a> {
    number: usize,
    hidden: usize,
    limit: usize,
    runner: Runner<'a>,
}

#[derive(Debug)]
enum Runner<'a> {
    Device(&'a Device, Box<OnDevice>),
    Twin(Box<Twin>),
}

impl Block<'_> {
    /// Replaces `stream`, the residual stream `[tokens, hidden]` of one window from position 0, by the
    /// layer's output.
    ///
    /// # Errors
    /// [`Error::Shape`] if the stream is not a whole number of tokens, [`Error::Context`], and the
    /// engine's, after which the stream may be half done.
    pub fn run(&mut self, stream: &mut [f32]) -> Result<()> {
        self.run_with(stream, None)
    }

    /// [`Block::run`], which also shows the inputs of the products.
    ///
    /// # Errors
    /// Those of [`Block::run`], and those that `inputs` returns.
    pub fn observe(&mut self, stream: &mut [f32], inputs: &mut Inputs<'_>) -> Result<()> {
        self.watch(stream, &mut |seen| match seen {
            Seen::Input(site, x) => inputs(site, x),
            Seen::FeedForward { .. } => Ok(()),
        })
    }

    /// [`Block::run`], which also shows the inputs of the products and the outputs of gate and up.
    ///
    /// # Errors
    /// Those of [`Block::run`], and those that `watcher` returns.
    pub fn watch(&mut self, stream: &mut [f32], watcher: &mut Watcher<'_>) -> Result<()> {
        self.run_with(stream, Some(watcher))
    }

    /// Replaces the layer's thresholds by those that `thresholds` has for it.
    ///
    /// # Errors
    /// On a device, [`Error::Choice`] for thresholds of other gates than those that the layer was loaded
    /// with, and the engine's. On the CPU, [`Error::Shape`] or [`Error::Module`] for thresholds of
    /// another model.
    pub fn set_thresholds(&mut self, thresholds: &ActivationThresholds) -> Result<()> {
        let thresholds = thresholds.of_layer(self.number);
        match &mut self.runner {
            Runner::Device(device, layer) => layer.gates.write(&device.gpu, &thresholds),
            Runner::Twin(twin) => twin.set_thresholds(&thresholds),
        }
    }

    fn run_with(&mut self, stream: &mut [f32], watcher: Option<&mut Watcher<'_>>) -> Result<()> {
        let tokens = stream.len() / self.hidden;
        let expected = tokens * self.hidden;
        expect(
            || "elements of a residual stream".into(),
            stream.len(),
            expected,
        )?;
        if tokens > self.limit {
            let limit = self.limit;
            return Err(Error::Context { tokens, limit });
        }
        match &mut self.runner {
            Runner::Device(device, layer) => device.run(layer, stream, watcher),
            Runner::Twin(twin) => {
                twin.reset();
                match watcher {
                    None => twin.run_layers(stream, &mut |_| Ok(())),
                    Some(watcher) => twin.run_layers(stream, watcher),
                }
            }
        }
    }
}

/// The twin of one layer: a model with that layer only, and a vocabulary that nobody uses.
fn twin(source: &dyn Source, recipe: &Recipe, layer: usize) -> Result<Twin> {
    let mut config = source.config().clone();
    config.layers = vec![config.layers[layer]];
    (config.vocab, config.tied_head) = (1, true);
    let hidden = config.hidden;
    Twin::new(Arc::new(Weights {
        config,
        embedding: Dense::from_f32(1, hidden, vec![0.0; hidden])?.into(),
        head: None,
        final_norm: vec![1.0; hidden],
        layers: vec![LayerWeights::load(source, recipe, layer)?],
    }))
}

/// One layer on the device.
#[derive(Debug)]
struct OnDevice {
    attention: Plan,
    gate_and_up: Plan,
    down: Plan,
    /// Adds the output of the feed-forward to the residual stream.
    settle: Plan,
    activation: Activation,
    gates: GatesOnDevice,
    /// In the order of [`Site::ALL`].
    inputs: [ReadBack; 4],
    /// The outputs of gate, before its activation, and of up.
    gate_and_up_read: [ReadBack; 2],
    output: ReadBack,
}

impl Device {
    fn load(
        &self,
        source: &dyn Source,
        recipe: &Recipe,
        layer: usize,
        thresholds: Option<&ActivationThresholds>,
    ) -> Result<OnDevice> {
        let Self {
            gpu,
            context,
            chunk,
            activations: act,
        } = self;
        let config = source.config();
        let builder = Builder {
            gpu,
            activations: act,
            glue: Glue::new(config, gpu.caps(), *context, KvType::F32),
            chunk: *chunk,
            precision: Precision::F32,
            splits: None,
        };
        // Each product by itself: its output is read, and its input may have thresholds.
        let mut weights = LayerOnDevice::load(gpu, source, recipe, layer, None, true)?;
        if let Some(thresholds) = thresholds {
            weights.gates = GatesOnDevice::load(gpu, config, thresholds, 0)?;
        }
        let [mut attention, mut gate_and_up, mut down, mut settle] =
            [(); 4].map(|()| PlanBuilder::new(gpu));
        let (with, cache) = ((&weights, &config.layers[layer]), &act.cache[0]);
        let nothing = (Residual::None, None);
        builder.attention(&mut attention, *chunk, with, cache, nothing)?;
        builder.feed_forward_in(&mut gate_and_up, *chunk, &weights)?;
        builder.feed_forward_out(&mut down, *chunk, &weights)?;
        // This norm is run for the addition before it: its own output is not used.
        let after = Builder::after_ffn(&weights);
        builder.norm(&mut settle, *chunk, after, &weights.attention_norm)?;
        let read = |tensor: &Tensor| ReadBack::new(gpu, tensor);
        let output = |linear: Linear| {
            let place = weights.place(linear, *chunk);
            read(&act.gate_up.view(gpu, place.first, *chunk, place.stride)?)
        };
        let gate_and_up_read = [output(Linear::Gate)?, output(Linear::Up)?];
        Ok(OnDevice {
            attention: attention.build()?,
            gate_and_up: gate_and_up.build()?,
            down: down.build()?,
            settle: settle.build()?,
            activation: config.activation,
            gates: weights.gates,
            inputs: [
                read(&act.normed)?,
                read(&act.o)?,
                read(&act.normed)?,
                read(&act.inner)?,
            ],
            gate_and_up_read,
            output: read(&act.x)?,
        })
    }

    fn run(
        &self,
        layer: &OnDevice,
        stream: &mut [f32],
        mut watcher: Option<&mut Watcher<'_>>,
    ) -> Result<()> {
        let (gpu, act) = (&self.gpu, &self.activations);
        let hidden = act.x.len();
        let chunks = stream.chunks_mut(self.chunk * hidden);
        for (start, x) in (0..).step_by(self.chunk).zip(chunks) {
            let tokens = x.len() / hidden;
            act.x.view(gpu, 0, tokens, hidden)?.write(gpu, x)?;
            act.state.write(gpu, &[start, tokens as u32, 0, 0])?;
            let [attention, output, feed_forward, down] = &layer.inputs;
            let [gate, up] = &layer.gate_and_up_read;
            let mut encoder = gpu.encoder();
            for (plan, reads) in [
                (&layer.attention, &[attention, output][..]),
                (&layer.gate_and_up, &[feed_forward, gate, up]),
                (&layer.down, &[down]),
            ] {
                plan.encode(&mut encoder)?;
                if watcher.is_some() {
                    for read in reads {
                        read.encode(&mut encoder);
                    }
                }
            }
            layer.settle.encode(&mut encoder)?;
            layer.output.encode(&mut encoder);
            gpu.submit(encoder)?;
            let output: Vec<f32> = layer.output.read_blocking(gpu)?;
            x.copy_from_slice(&output[..x.len()]);
            let Some(watcher) = &mut watcher else {
                continue;
            };
            let read = |read: &ReadBack| {
                let mut values: Vec<f32> = read.read_blocking(gpu)?;
                values.truncate(values.len() / self.chunk * tokens);
                Ok::<_, Error>(values)
            };
            for (site, input) in Site::ALL.into_iter().zip(&layer.inputs) {
                if site == Site::Down {
                    let [mut gate, up] = [read(gate)?, read(up)?];
                    layer.activation.apply(&mut gate);
                    let (gate, up) = (&gate[..], &up[..]);
                    watcher(Seen::FeedForward { gate, up })?;
                }
                watcher(Seen::Input(site, &read(input)?))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
