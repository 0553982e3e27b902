//! The text on which a model is recovered, and for how long.

use crate::{
    calibrate::{spread, windows_of},
    error::{Error, Result},
};
use lacuna_llm::Checkpoint;
use lacuna_recover::Options;
use std::path::PathBuf;

/// How a model is recovered.
#[derive(clap::Args)]
pub struct How {
    /// Texts of the kind the model is used for, UTF-8; never the one it is evaluated on
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// What is trained
    #[arg(long, value_enum, default_value_t = Stage::All)]
    pub stage: Stage,
    /// Tokens to train on, in windows spread evenly over all the text
    #[arg(long, value_name = "N", default_value_t = 131_072)]
    tokens: usize,
    /// Tokens per window [default: 256, or the model's limit if that is less]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Tokens per step, in whole windows
    #[arg(long, value_name = "N", default_value_t = 2048)]
    batch: usize,
    /// Steps for each block
    #[arg(long, value_name = "N", default_value_t = Options::default().blocks.steps)]
    block_steps: usize,
    /// Steps for the model
    #[arg(long, value_name = "N", default_value_t = Options::default().model.steps)]
    model_steps: usize,
    /// Seed of the order of the windows
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Values, scales and zeros of each block, against the dense block's output
    Block,
    /// Scales and zeros of all blocks, against the dense model's predictions
    Model,
    /// Block, then model
    All,
}

impl How {
    /// Whole windows from all texts, enough for the requested number of tokens.
    pub fn windows(&self, model: &Checkpoint) -> Result<Vec<Vec<u32>>> {
        let context = self
            .context
            .unwrap_or(model.config().max_positions.min(256));
        let mut all = vec![];
        for file in &self.text {
            let windows = windows_of(file, model, context)?;
            all.extend(windows.into_iter().filter(|ids| ids.len() == context));
        }
        let found = all.len();
        let chosen = spread(all, self.tokens, context);
        if chosen.is_empty() {
            let reason = format!(
                "the text has {found} windows of {context} tokens, and --tokens is {}: that \
                 leaves none",
                self.tokens
            );
            return Err(Error::Input(reason));
        }
        Ok(chosen)
    }

    /// The training options for windows of `context` tokens.
    pub fn options(&self, context: usize) -> Options {
        let mut options = Options {
            seed: self.seed,
            ..Options::default()
        };
        let windows = (self.batch / context).max(1);
        (options.blocks.windows, options.model.windows) = (windows, windows);
        (options.blocks.steps, options.model.steps) = (self.block_steps, self.model_steps);
        options
    }
}
