//! Language models: what `eval`, `generate` and `bench-model` share.

pub mod bench;
pub mod eval;
pub mod generate;
pub mod thresholds;

use crate::{
    activations::Activations,
    device::{self, Where},
    error::{Error, Result},
    interrupt, progress, weights,
};
use lacuna::{Gpu, format::Precision};
use lacuna_io::{ThresholdFile, printable};
use lacuna_llm::{
    ActivationThresholds, Checkpoint, Config, Decoder, KvType, Model, Options, Recipe, Source,
    Tally, Tokenizer, Twin, Weights, perplexity,
    sampling::{self, Sampling},
};
use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(clap::Args)]
pub struct ModelArgs {
    /// A Hugging Face folder, a .safetensors beside its config.json, or a .gguf
    model: PathBuf,
    /// Format of the layers' products, or @FILE with a recipe: lines GLOB = FORMAT | dense
    #[arg(long, value_name = "FORMAT|@FILE")]
    format: Option<String>,
    #[command(flatten)]
    reading: weights::Args,
    #[command(flatten)]
    run: RunArgs,
}

/// How a model is run.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Where to compute; cpu is the reference, slow and exact
    #[arg(long, value_enum, default_value_t = Where::Auto)]
    device: Where,
    /// Type in which keys and values are kept
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    kv: Kv,
    /// Drops activations below the thresholds in this file
    #[arg(long, value_name = "FILE")]
    thresholds: Option<PathBuf>,
    /// Precision of activations in the layers' products, for weight formats that have such products
    #[arg(long, value_enum, default_value_t = Activations::F32)]
    activations: Activations,
}

impl RunArgs {
    /// The requested thresholds, if any, for a model of `config`.
    fn thresholds(&self, config: &Config) -> Result<Option<ActivationThresholds>> {
        let Some(file) = &self.thresholds else {
            return Ok(None);
        };
        let modules = ThresholdFile::open(file)?.modules;
        Ok(Some(ActivationThresholds::new(config, &modules)?))
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kv {
    F16,
    F32,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> Self {
        match kv {
            Kv::F16 => Self::F16,
            Kv::F32 => Self::F32,
        }
    }
}

/// The recipe that a `--format` argument names; without one every weight stays as it is.
fn recipe(format: Option<&str>) -> Result<Recipe> {
    Ok(format.map_or_else(|| Ok(Recipe::default()), Recipe::from_arg)?)
}

/// Warns of lines that match no weight of the model, as misspelt ones do.
fn warn_of_idle_lines(recipe: &Recipe, config: &Config) {
    for glob in recipe.unmatched(&config.modules()) {
        let glob = printable(glob);
        log::warn!("{glob} in the recipe matches no weight of the model");
    }
}

/// Warns where no product of the layers takes activations in the precision that was asked for.
fn warn_of_idle_activations(asked: Activations, recipe: &Recipe, checkpoint: &Checkpoint) {
    let precision = Precision::from(asked);
    let layers = checkpoint.modules().into_iter();
    let mut layers = layers.filter(|module| module.starts_with("model.layers."));
    let served = |module: String| {
        let format = recipe.format_for(&module);
        let format = format.map_or_else(|| checkpoint.format(&module), Ok);
        format.is_ok_and(|format| precision.changes(format))
    };
    if precision != Precision::F32 && !layers.any(served) {
        let asked = asked.name();
        log::warn!("--activations {asked} changes nothing: no weight has a format that it serves");
    }
}

/// The tokens of a text file, and the token to put before each window, if the model has one.
fn text(file: &Path, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Option<u32>)> {
    let unreadable = |e| Error::Input(format!("{}: {e}", printable(&file.to_string_lossy())));
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    Ok((tokenizer.encode(&text)?, bos))
}

/// Loads a model onto `gpu`, with a progress bar.
fn load(
    gpu: &Gpu,
    source: &dyn Source,
    recipe: &Recipe,
    thresholds: Option<&ActivationThresholds>,
) -> Result<Model> {
    let bar = progress::bar(0);
    let model = Model::load_thresholded(gpu, source, recipe, thresholds, &mut |p| {
        bar.set_length(p.of as u64);
        bar.set_position(p.done as u64);
        bar.set_message(p.module.to_owned());
        match interrupt::check() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    bar.finish_and_clear();
    Ok(model?)
}

/// A sequence, on the device or on the CPU.
enum Sequence {
    Gpu(Box<Decoder>),
    Cpu {
        twin: Box<Twin>,
        logits: Vec<f32>,
        steps: u32,
        /// The last token that was drawn, which the twin takes when another is asked for.
        pending: Option<u32>,
    },
}

impl Sequence {
    /// Opens a checkpoint on the device that `args` select, with weights in the formats of `recipe`,
    /// for `context` tokens.
    fn open(
        args: &RunArgs,
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        thresholds: Option<&ActivationThresholds>,
        context: usize,
        device: &device::Args,
    ) -> Result<Self> {
        warn_of_idle_lines(recipe, checkpoint.config());
        let positions = checkpoint.config().max_positions;
        if context == 0 || context > positions {
            return Err(lacuna_llm::Error::Choice {
                what: "context",
                value: context.to_string(),
                supported: format!("1 to {positions} tokens"),
            }
            .into());
        }
        if let Some(gpu) = device::open_at(args.device, device)? {
            args.activations.check(&gpu)?;
            warn_of_idle_activations(args.activations, recipe, checkpoint);
            let model = load(&gpu, checkpoint, recipe, thresholds)?;
            let options = Options {
                context: Some(context),
                kv: args.kv.into(),
                precision: args.activations.into(),
                ..Options::default()
            };
            let decoder = Decoder::new(&Arc::new(model), &options)?;
            return Ok(Self::Gpu(Box::new(decoder)));
        }
        if args.activations != Activations::F32 {
            return Err(Error::Usage(format!(
                "--activations {} is for an adapter, the reference works in f32",
                args.activations.name()
            )));
        }
        let mut twin = Twin::new(Arc::new(Weights::load(checkpoint, recipe)?))?;
        if let Some(thresholds) = thresholds {
            twin = twin.with_thresholds(thresholds)?;
        }
        let twin = match args.kv {
            Kv::F16 => twin.with_f16_cache(),
            Kv::F32 => twin,
        };
        Ok(Self::Cpu {
            twin: Box::new(twin),
            logits: vec![],
            steps: 0,
            pending: None,
        })
    }

    /// Replaces the thresholds of the gates that have some.
    fn set_thresholds(&mut self, thresholds: &ActivationThresholds) -> Result<()> {
        match self {
            Self::Gpu(decoder) => decoder.model().set_thresholds(thresholds)?,
            Self::Cpu { twin, .. } => twin.set_thresholds(thresholds)?,
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        match self {
            Self::Gpu(decoder) => decoder.rewind(0)?,
            Self::Cpu { twin, pending, .. } => {
                twin.reset();
                *pending = None;
            }
        }
        Ok(())
    }

    /// Processes `ids` as a prompt; `progress` is told how many are done.
    fn prefill(&mut self, ids: &[u32], progress: &mut dyn FnMut(usize)) -> Result<()> {
        let mut go_on = |done| {
            progress(done);
            match interrupt::check() {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        match self {
            Self::Gpu(decoder) => decoder.prefill(ids, &mut go_on)?,
            Self::Cpu {
                twin,
                logits,
                pending,
                ..
            } => {
                if ids.is_empty() {
                    return Err(lacuna_llm::Error::Empty.into());
                }
                let ids: Vec<u32> = pending.take().into_iter().chain(ids.to_vec()).collect();
                *logits = twin.forward_last(&ids)?;
                progress(ids.len());
            }
        }
        Ok(())
    }

    /// −ln p of each of `targets`, which follow the tokens `ids`.
    fn score(&mut self, ids: &[u32], targets: &[u32]) -> Result<Vec<f64>> {
        match self {
            Self::Gpu(decoder) => Ok(decoder.score(ids, targets)?),
            Self::Cpu { twin, .. } => {
                let vocab = twin.weights().config.vocab;
                let logits = twin.forward(ids)?;
                let rows = logits.chunks(vocab).zip(targets);
                let scores = rows.map(|(row, &id)| perplexity::nll(row, id));
                Ok(scores.collect::<lacuna_llm::Result<_>>()?)
            }
        }
    }

    /// Logits of the next token.
    fn logits(&mut self) -> Result<Vec<f32>> {
        match self {
            Self::Gpu(decoder) => Ok(decoder.logits()?),
            Self::Cpu { logits, .. } => Ok(logits.clone()),
        }
    }

    fn next_token(&mut self, sampling: &Sampling) -> Result<u32> {
        match self {
            Self::Gpu(decoder) => Ok(decoder.next_token(sampling)?),
            Self::Cpu {
                twin,
                logits,
                steps,
                pending,
            } => {
                if let Some(id) = pending.take() {
                    *logits = twin.forward_last(&[id])?;
                }
                let id = sampling::sample(logits, sampling, *steps)?;
                *steps += 1;
                *pending = Some(id);
                Ok(id)
            }
        }
    }

    /// How many activations exceeded their thresholds since `clear_tallies`.
    fn tallies(&self) -> Result<Vec<Tally>> {
        match self {
            Self::Gpu(decoder) => Ok(decoder.tallies()?),
            Self::Cpu { twin, .. } => Ok(twin.tallies()),
        }
    }

    fn clear_tallies(&mut self) -> Result<()> {
        match self {
            Self::Gpu(decoder) => decoder.clear_tallies()?,
            Self::Cpu { twin, .. } => twin.clear_tallies(),
        }
        Ok(())
    }

    /// Where it runs, for reports.
    fn adapter(&self) -> String {
        match self {
            Self::Gpu(decoder) => device::Adapter::from(&decoder.model().gpu().info()).to_string(),
            Self::Cpu { .. } => "CPU reference".into(),
        }
    }
}

/// The tokens per window: those asked for, if the model takes so many.
pub fn context(asked: Option<usize>, config: &Config) -> Result<usize> {
    let most = config.max_positions;
    let context = asked.unwrap_or(most.min(512));
    if (2..=most).contains(&context) {
        return Ok(context);
    }
    Err(lacuna_llm::Error::Choice {
        what: "context",
        value: context.to_string(),
        supported: format!("2 to {most} tokens"),
    }
    .into())
}
