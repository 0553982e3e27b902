//! Decodes one sequence on the device.

pub(crate) mod plans;
mod saving;
mod scoring;
mod timing;

use crate::{
    error::{Error, Result},
    glue::{Glue, KvType},
    model::Model,
    sampling::{Sampling, no_number},
    thresholds::Tally,
};
use lacuna::{
    Caps, Plan, PlanBuilder, Tensor,
    caps::DeviceClass,
    format::Precision,
    gpu::ReadBack,
    wgpu::{CommandEncoder, SubmissionIndex},
};
use plans::{Activations, Builder};
pub use saving::Saved;
use scoring::Scorer;
use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

/// How a [`Decoder`] is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Tokens that fit into the cache. By default the model's own limit, at most 4096.
    pub context: Option<usize>,
    /// The type of cached keys and values.
    pub kv: KvType,
    /// Precision of the activations in the layers' products, where the weight and the device have a
    /// product of that precision; elsewhere f32. In f16, the products of prompts run on matrix units and
    /// steps are as in f32. In eight bits, a step is faster; on CPU adapters a prompt may be slower,
    /// because its tokens are taken a few at a time there.
    pub precision: Precision,
    /// Tokens of a prompt in one submission. By default 32 on CPU adapters, 128 on GPUs.
    pub chunk: Option<usize>,
}

/// The largest context unless [`Options::context`] asks for more.
const DEFAULT_CONTEXT: usize = 4096;

/// Tokens in the cache from which on a step's attention cuts them into shares, if that is worth a launch more.
const LONG: usize = 256;

/// The layers over one token.
#[derive(Debug)]
struct Step {
    short: Plan,
    /// For a long sequence, if its keys are worth being cut into shares, and what these are handed on in.
    long: Option<(Plan, Tensor)>,
}

impl Step {
    /// The plan for a token that has `position` others before it.
    fn at(&self, position: usize) -> &Plan {
        match &self.long {
            Some((plan, _)) if position >= LONG => plan,
            _ => &self.short,
        }
    }
}

/// What a decoder knows of the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing: a prompt must come first.
    Empty,
    /// The layers have run; the last token's logits are not yet computed.
    Hidden,
    /// The last token's logits are computed.
    Logits,
    /// A token was sampled, but the layers have not run on it.
    Sampled,
}

/// A sequence on the device, which takes prompts and gives tokens.
///
/// A sampled token stays on the device, so the next step needs nothing from the host. A GPU is given it before the
/// host waits for the token, and computes while the host records and whoever asked is busy with the token; if another
/// call than [`next_token`](Self::next_token) with the same sampling follows, the step counts for nothing.
///
/// After the first token it creates no pipeline or bind group, and no buffer but one of 16 bytes, for a
/// moment, by which the engine asks whether the device is still there. A token is three recorded plans
/// and a read-back of four bytes.
#[derive(Debug)]
pub struct Decoder {
    model: Arc<Model>,
    /// The device that the launches between the products are made for.
    caps: Caps,
    context: usize,
    kv: KvType,
    chunk: usize,
    activations: Activations,
    prefill: Plan,
    step: Step,
    head: Plan,
    sample: Plan,
    logits: Tensor,
    sampling: Tensor,
    sampling_set: Option<Sampling>,
    /// Of tokens in turn: while one is read, the next may be on its way.
    sampled: [ReadBack; 2],
    /// The token that was sampled last.
    last: u32,
    /// Whether steps are submitted before they are asked for.
    runs_ahead: bool,
    /// The step behind the last token, if it was.
    ahead: Option<SubmissionIndex>,
    score: Option<Scorer>,
    stage: Stage,
    /// Tokens in the cache.
    position: usize,
    /// Tokens sampled so far.
    steps: u32,
    /// Time that recording and submitting the last token took.
    host_time: Duration,
}

impl Decoder {
    /// A decoder of `model` at position 0.
    ///
    /// # Errors
    /// [`Error::Choice`] for a context of 0 or beyond the model's, and the engine's: a cache larger than
    /// a binding, out of memory.
    pub fn new(model: &Arc<Model>, options: &Options) -> Result<Self> {
        Self::with_caps(model, options, *model.gpu().caps())
    }

    /// [`Decoder::new`] with the launches between the products made for a device of `caps`, so that a
    /// test can run on one adapter what others would be given.
    fn with_caps(model: &Arc<Model>, options: &Options, caps: Caps) -> Result<Self> {
        let (gpu, config) = (model.gpu(), model.config());
        let most = config.max_positions;
        let context = options.context.unwrap_or(most.min(DEFAULT_CONTEXT));
        if context == 0 || context > most {
            return Err(Error::Choice {
                what: "context",
                value: context.to_string(),
                supported: format!("1 to {most} tokens"),
            });
        }
        let usual = match caps.class {
            DeviceClass::Cpu => 32,
            DeviceClass::Gpu => 128,
        };
        let chunk = options.chunk.unwrap_or(usual).clamp(1, context);
        let gates: Vec<_> = model
            .layers
            .iter()
            .map(|layer| layer.gates.gates())
            .collect();
        let activations = Activations::new(gpu, config, &gates, chunk, context, options.kv)?;
        let logits = gpu.tensor(1, config.vocab)?;
        let sampling = gpu.tensor(1, 5)?;
        let token = gpu.tensor(1, 1)?;
        let mut builder = Builder {
            gpu,
            activations: &activations,
            glue: Glue::new(config, &caps, context, options.kv),
            chunk,
            precision: options.precision,
            splits: None,
        };
        let workspace = builder.workspace(model)?;
        let prefill = builder.layers(model, chunk, Some(&workspace))?.build()?;
        let short = builder.layers(model, 1, Some(&workspace))?.build()?;
        let head = builder.head(model, &logits, Some(&workspace))?.build()?;
        let splits = builder.glue.splits();
        let long = if context > LONG && splits > 1 {
            let splits = gpu.tensor(splits, builder.glue.split_len())?;
            builder.splits = Some(splits.clone());
            let long = builder.layers(model, 1, Some(&workspace))?.build()?;
            Some((long, splits))
        } else {
            None
        };
        let mut sample = PlanBuilder::new(gpu);
        let (state, ids) = (activations.state.clone(), activations.ids.clone());
        sample.dispatch(
            builder.glue.sample(),
            &[logits.clone(), sampling.clone(), state, ids, token.clone()],
        )?;
        Ok(Self {
            model: Arc::clone(model),
            caps,
            context,
            kv: options.kv,
            chunk,
            prefill,
            step: Step { short, long },
            head,
            sample: sample.build()?,
            logits,
            sampling,
            sampling_set: None,
            sampled: [ReadBack::new(gpu, &token)?, ReadBack::new(gpu, &token)?],
            last: 0,
            // On a CPU adapter the step would take the time of the host, and where submissions are limited each is
            // waited for.
            runs_ahead: caps.class == DeviceClass::Gpu && gpu.max_submission().is_none(),
            ahead: None,
            score: None,
            activations,
            stage: Stage::Empty,
            position: 0,
            steps: 0,
            host_time: Duration::ZERO,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens that fit into the cache.
    pub const fn context(&self) -> usize {
        self.context
    }

    /// Tokens in the cache.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Time that recording and submitting the last token took on the host.
    pub const fn host_time(&self) -> Duration {
        self.host_time
    }

    /// Launches that decoding the next token records.
    pub fn launches_per_token(&self) -> usize {
        self.step.at(self.position).steps().len()
            + self.head.steps().len()
            + self.sample.steps().len()
    }

    /// Bytes of activations, caches and parameters, beside the model's weights.
    pub fn bytes(&self) -> u64 {
        let plans = [&self.prefill, &self.step.short, &self.head, &self.sample];
        let long = self.step.long.as_ref();
        let plans = || plans.into_iter().chain(long.map(|(plan, _)| plan));
        let own: u64 = plans().map(|p| p.memory().params).sum();
        let scratch = plans().map(|p| p.memory().scratch).max().unwrap_or(0);
        let splits = long.map_or(0, |(_, splits)| splits.bytes());
        self.activations.bytes() + splits + self.logits.bytes() + own + scratch
    }

    /// How many activations were over their thresholds in all tokens run since the last
    /// [`clear_tallies`](Self::clear_tallies), a step that ran ahead among them. Empty for a model without
    /// thresholds.
    ///
    /// # Errors
    /// The engine's.
    pub fn tallies(&self) -> Result<Vec<Tally>> {
        let sparse = self.activations.sparse.as_ref();
        sparse.map_or(Ok(vec![]), |sparse| sparse.tallies(self.model.gpu()))
    }

    /// Sets all tallies to zero.
    ///
    /// # Errors
    /// The engine's.
    pub fn clear_tallies(&self) -> Result<()> {
        let sparse = self.activations.sparse.as_ref();
        sparse.map_or(Ok(()), |sparse| sparse.clear(self.model.gpu()))
    }

    /// Appends `ids` to the sequence. `progress` is called with the number done so far and may cancel;
    /// what was taken until then stays.
    ///
    /// # Errors
    /// [`Error::Context`] where they do not fit, [`Error::Vocabulary`], [`Error::Empty`],
    /// [`Error::Cancelled`], and the engine's.
    pub fn prefill(
        &mut self,
        ids: &[u32],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check(ids)?;
        let mut done = 0;
        while done < ids.len() {
            let taken = self.take(&ids[done..])?;
            done += taken;
            if progress(done).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::Empty);
        }
        let (tokens, limit) = (self.position + ids.len(), self.context);
        if tokens > limit {
            return Err(Error::Context { tokens, limit });
        }
        let vocab = self.model.config().vocab;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            None => Ok(()),
            Some(&id) => Err(Error::Vocabulary { id, vocab }),
        }
    }

    /// Runs the layers over the first of `ids`, as many as is best in one submission, and returns how many.
    fn take(&mut self, ids: &[u32]) -> Result<usize> {
        // A chunk costs about as much as a quarter of its tokens do one by one.
        let whole = ids.len().min(self.chunk);
        let count = if whole * 4 > self.chunk { whole } else { 1 };
        self.run_layers(&ids[..count])?;
        Ok(count)
    }

    /// Runs the layers over at most a chunk of tokens.
    fn run_layers(&mut self, ids: &[u32]) -> Result<()> {
        self.ahead = None;
        self.set(ids)?;
        match ids.len() {
            1 => self.step.at(self.position).run()?,
            _ => self.prefill.run()?,
        }
        self.position += ids.len();
        self.stage = Stage::Hidden;
        Ok(())
    }

    /// Writes what the device knows of the sequence: the next tokens, and how many came before them.
    fn set(&self, ids: &[u32]) -> Result<()> {
        let gpu = self.model.gpu();
        let mut padded = ids.to_vec();
        padded.resize(self.chunk, 0);
        self.activations.ids.write(gpu, &padded)?;
        let state = [self.position as u32, ids.len() as u32, self.steps, 0];
        self.activations.state.write(gpu, &state)?;
        Ok(())
    }

    /// Takes the device back to the last token that was asked for.
    fn go_back(&mut self) -> Result<()> {
        match self.ahead.take() {
            Some(_) => self.set(&[self.last]),
            None => Ok(()),
        }
    }

    /// Logits of the next token, `[vocab]`.
    ///
    /// # Errors
    /// [`Error::Empty`] before the first prompt, [`Error::Context`] where the cache is full, and the engine's.
    pub fn logits(&mut self) -> Result<Vec<f32>> {
        self.go_back()?;
        match self.stage {
            Stage::Empty => return Err(Error::Empty),
            Stage::Sampled => {
                self.check_room()?;
                self.step.at(self.position).run()?;
                self.head.run()?;
                self.position += 1;
            }
            Stage::Hidden => self.head.run()?,
            Stage::Logits => {}
        }
        self.stage = Stage::Logits;
        Ok(self.logits.read_blocking(self.model.gpu())?)
    }

    fn check_room(&self) -> Result<()> {
        if self.position < self.context {
            return Ok(());
        }
        Err(Error::Context {
            tokens: self.position + 1,
            limit: self.context,
        })
    }

    /// Records `plan` into the token's submission; where the length of submissions is limited, runs it in
    /// its own.
    fn encode_or_run(&self, plan: &Plan, encoder: &mut CommandEncoder) -> Result<()> {
        match self.model.gpu().max_submission() {
            None => plan.encode(encoder)?,
            Some(_) => plan.run()?,
        }
        Ok(())
    }

    /// Samples the next token. It becomes part of the sequence when the next one, or its logits, are asked for; a prompt
    /// that comes before that takes its place.
    ///
    /// # Errors
    /// [`Error::Empty`] before the first prompt, [`Error::Context`] where the cache is full,
    /// [`Error::Sampling`], also where no logit is a number, and the engine's. After these two a prompt must come
    /// first.
    pub fn next_token(&mut self, sampling: &Sampling) -> Result<u32> {
        sampling.check()?;
        let gpu = self.model.gpu().clone();
        if self.sampling_set != Some(*sampling) {
            self.go_back()?;
            self.sampling.write(&gpu, &sampling.words())?;
            self.sampling_set = Some(*sampling);
        }
        let submission = match self.ahead.take() {
            Some(submission) => submission,
            None => self.submit_step()?,
        };
        if self.stage == Stage::Sampled {
            self.position += 1;
        }
        self.stage = Stage::Sampled;
        let sampled = self.steps as usize % 2;
        self.steps += 1;
        if self.runs_ahead && self.position < self.context {
            self.ahead = Some(self.submit_step()?);
        }
        let read = self.sampled[sampled].read_blocking_of(&gpu, submission);
        if let Ok(&[id]) = read.as_deref()
            && id != u32::MAX
        {
            self.last = id;
            return Ok(id);
        }
        // What the device goes on with is no token that anybody knows.
        self.ahead = None;
        self.stage = Stage::Empty;
        Err(read.map_or_else(Error::from, |_| no_number()))
    }

    /// Submits what is left to do until the next token is sampled, and a copy of it.
    fn submit_step(&mut self) -> Result<SubmissionIndex> {
        let begin = Instant::now();
        let gpu = self.model.gpu();
        let mut encoder = gpu.encoder();
        match self.stage {
            Stage::Empty => return Err(Error::Empty),
            Stage::Sampled => {
                self.check_room()?;
                self.encode_or_run(self.step.at(self.position), &mut encoder)?;
                self.encode_or_run(&self.head, &mut encoder)?;
            }
            Stage::Hidden => self.encode_or_run(&self.head, &mut encoder)?,
            Stage::Logits => {}
        }
        self.sample.encode(&mut encoder)?;
        self.sampled[self.steps as usize % 2].encode(&mut encoder);
        let submission = gpu.submit(encoder)?;
        self.host_time = begin.elapsed();
        Ok(submission)
    }
}

#[cfg(test)]
pub(crate) mod tests;
