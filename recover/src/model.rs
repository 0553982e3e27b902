//! The second stage, end to end: GQSA's optimisation of the quantisation parameters (E2E-OQP).

use crate::{
    error::{Error, Result},
    head::Heads,
    job::{Job, Listener, load},
    journal::{Journal, State},
    layer::Layer,
    network::Frame,
    streams::{Split, Streams},
    trainable::{Rates, Trained},
    training::{Run, Trainee},
};
use burn_tensor::Tensor;
use lacuna::format::Matrix;
use lacuna_llm::Linear;
use std::collections::BTreeMap;

/// Trains the scales and zeros of all layers against the dense model's predictions. Codes and masks stay;
/// in weights without codes, the kept values are trained.
///
/// `packed` are the products to start from: those that [`recover_blocks`](crate::recover_blocks)
/// returned, or the compressed model's ([`Job::packed_layers`]). The loss is the Kullback-Leibler
/// divergence of the predictions from the dense model's. On the held-out windows the result is never
/// worse than the start. With a journal, the state is stored at every check, and an interrupted run
/// resumes there, with the same result.
///
/// Memory: two residual streams `[tokens, hidden]` for each window, the head, four copies of the
/// parameters, and what a step keeps: one stream per layer for each of its windows, all intermediate
/// values of *one* layer (layers run a second time for their gradients), and 2²⁴ logits of each model.
///
/// # Errors
/// Those of [`recover_blocks`](crate::recover_blocks), and [`Error::Shape`] for another number
/// of layers.
pub fn recover_model(
    job: &Job,
    packed: &[[Matrix; 7]],
    journal: Option<&Journal>,
    listener: &mut Listener,
) -> Result<Vec<[Matrix; 7]>> {
    let split = job.check()?;
    if packed.len() != job.layers() {
        return Err(Error::Shape {
            what: "layers given",
            got: packed.len(),
            expected: job.layers(),
        });
    }
    let mut stage = Stage::new(job, packed, split, journal)?;
    let stored = journal.map(Journal::state).transpose()?.flatten();
    let run = if let Some(state) = stored {
        stage.take_up(state)?
    } else {
        Run::new(&stage)?
    };
    let options = job.options;
    let best = run.finish(&mut stage, &options.model, options, None, listener)?;
    stage.finish(best)
}

/// The model in training.
struct Stage<'a> {
    job: &'a Job<'a>,
    split: Split,
    layers: Vec<Layer>,
    heads: Heads,
    /// The compressed model's streams before its first layer.
    input: Streams,
    /// The dense model's streams after its last layer.
    target: Streams,
    journal: Option<&'a Journal>,
}

/// The parameters of each product of each layer.
type Parameters = Vec<Vec<Vec<f32>>>;

impl<'a> Stage<'a> {
    fn new(
        job: &'a Job<'a>,
        packed: &[[Matrix; 7]],
        split: Split,
        journal: Option<&'a Journal>,
    ) -> Result<Self> {
        let (config, tokens, device) = (job.packed.config(), job.tokens(), job.device);
        let mut target = Streams::embed(job.dense, job.windows)?;
        let mut layers = vec![];
        for (n, matrices) in packed.iter().enumerate() {
            target.run(&Layer::dense(job, n)?, device)?;
            let frame = Frame::new(config, n, &load(job.packed, n)?, tokens, device);
            let layer = Layer::new(frame, matrices, Trained::Scales, device)?;
            layers.push(layer);
        }
        Ok(Self {
            job,
            split,
            layers,
            heads: Heads::load(job.packed, job.dense, device)?,
            input: Streams::embed(job.packed, job.windows)?,
            target,
            journal,
        })
    }

    fn state(&self, run: &Run<Parameters>) -> State {
        let mut vectors = BTreeMap::new();
        for (n, (layer, best)) in self.layers.iter().zip(&run.parameters).enumerate() {
            let parts = layer.parts.iter().zip(best);
            for (linear, (part, best)) in Linear::ALL.into_iter().zip(parts) {
                for (kind, values) in [
                    ("parameters", part.trainable.parameters()),
                    ("first", &part.adam.first),
                    ("second", &part.adam.second),
                    ("best", best),
                ] {
                    vectors.insert(name(n, linear, kind), values.to_vec());
                }
            }
        }
        State {
            done: run.done,
            start: run.start,
            best: run.best,
            vectors,
        }
    }

    /// Restores a stored state, from which the run then goes on.
    fn take_up(&mut self, mut state: State) -> Result<Run<Parameters>> {
        let mut parameters = vec![];
        for (n, layer) in self.layers.iter_mut().enumerate() {
            let mut best = vec![];
            for (linear, part) in Linear::ALL.into_iter().zip(&mut layer.parts) {
                let expected = part.trainable.parameters().len();
                let mut take = |kind| {
                    let values = state.vectors.remove(&name(n, linear, kind));
                    let values = values.unwrap_or_default();
                    if values.len() == expected {
                        return Ok(values);
                    }
                    Err(Error::Shape {
                        what: "stored parameters of a weight",
                        got: values.len(),
                        expected,
                    })
                };
                part.trainable.set_parameters(take("parameters")?)?;
                part.adam.first = take("first")?;
                part.adam.second = take("second")?;
                best.push(take("best")?);
            }
            parameters.push(best);
        }
        Ok(Run {
            done: state.done,
            start: state.start,
            best: state.best,
            parameters,
        })
    }

    fn finish(mut self, parameters: Parameters) -> Result<Vec<[Matrix; 7]>> {
        let layers = self.layers.iter_mut().zip(parameters);
        layers
            .map(|(layer, parameters)| {
                layer.set_parameters(parameters)?;
                layer.matrices()
            })
            .collect()
    }
}

impl Trainee for Stage<'_> {
    type Parameters = Parameters;

    fn step(&mut self, done: usize, rates: &Rates) -> Result<f64> {
        let of = self.split.batch(done, self.job.options.model.windows);
        let device = self.job.device;
        let mut x = self.input.batch(&of, device);
        let mut inputs = vec![];
        for layer in &self.layers {
            inputs.push(x.clone());
            x = layer.frame.forward(&layer.products(), x);
        }
        let (sum, mut gradient) = self.heads.gradient(x, self.target.batch(&of, device))?;
        let lost = || Error::Device("a stream has no gradient".into());
        for (layer, x) in self.layers.iter_mut().zip(inputs).rev() {
            let products = layer.tracked();
            let x = x.autodiff().require_grad();
            let y = layer.frame.forward(&products, x.clone());
            // The gradient of this sum is that of the loss: `gradient` is the loss's by `y`.
            let gradients = (y * gradient).sum().backward();
            gradient = x.grad(&gradients).ok_or_else(lost)?;
            layer.step(&products, &gradients, rates, done)?;
        }
        Ok(sum / (of.len() * self.job.tokens()) as f64)
    }

    fn judge(&self) -> Result<f64> {
        let device = self.job.device;
        let runs: Vec<&[usize]> = self.split.judges().collect();
        let mut streams: Vec<Tensor<3>> = { runs.iter() }
            .map(|of| self.input.batch(of, device))
            .collect();
        for layer in &self.layers {
            let products = layer.products();
            for x in &mut streams {
                x.inplace(|x| layer.frame.forward(&products, x));
            }
        }
        let mut sum = 0.0;
        for (of, x) in runs.into_iter().zip(streams) {
            sum += self.heads.divergence(x, self.target.batch(of, device))?;
        }
        Ok(sum / (self.split.held_out.len() * self.job.tokens()) as f64)
    }

    fn parameters(&self) -> Parameters {
        self.layers.iter().map(Layer::parameters).collect()
    }

    fn store(&self, run: &Run<Parameters>) -> Result<()> {
        let store = |journal: &Journal| journal.keep_state(&self.state(run));
        self.journal.map_or(Ok(()), store)
    }
}

fn name(layer: usize, linear: Linear, kind: &str) -> String {
    format!("{}.{kind}", linear.module(layer))
}
