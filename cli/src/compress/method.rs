//! How one weight is compressed, and what that needs.

use super::plan::Plan;
use crate::error::{Error, Result};
use lacuna::{
    compress,
    format::{Dense, Format, Matrix},
};
use std::{fmt, path::PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// What decides which weights are kept, and how the others make up for the lost ones
    #[arg(long, value_enum, default_value_t = Score::Magnitude)]
    score: Score,
    /// What `calibrate` wrote about the inputs of this model
    #[arg(long, value_name = "FILE", conflicts_with = "activations")]
    stats: Option<PathBuf>,
    /// Inputs of the weights: a .safetensors file with x [samples, cols], for weights that all
    /// have so many columns
    #[arg(long, value_name = "FILE")]
    activations: Option<PathBuf>,
    /// How much is done to make up for the loss
    #[arg(long, value_enum, default_value_t = Recover::None)]
    recover: Recover,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Score {
    /// The largest sums of squares
    Magnitude,
    /// The largest sums of squares times the mean squares of the inputs
    Wanda,
    /// The least loss by the Hessian of the inputs; columns that follow make up for it
    Sparsegpt,
    /// Relative importance in row and column, times the inputs' norms
    Ria,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Recover {
    /// Nothing
    None,
    /// Each weight: kept values by least squares, then scales
    Layer,
    /// Each block by gradient, against the dense block's output
    Block,
    /// Then scales and zeros of the whole model, against the dense model's logits
    Model,
}

/// The name as the command line has it.
impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(value_name(self).as_str())
    }
}

/// The name as the command line has it.
impl fmt::Display for Recover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(value_name(self).as_str())
    }
}

fn value_name(value: &impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |v| v.get_name().to_owned())
}

/// Score, statistics and recovery together.
pub struct Method {
    pub score: Score,
    pub recover: Recover,
    /// What tells the statistics from others, where there are any.
    pub statistics: Option<String>,
}

impl Method {
    /// Checks that everything is there that the weights of `plan` need.
    pub fn new(args: &Args, plan: &Plan) -> Result<Self> {
        let usage = |reason: String| Err(Error::Usage(reason));
        let lacks = args.stats.is_none() && args.activations.is_none();
        if args.score != Score::Magnitude && lacks {
            let score = args.score;
            return usage(format!("--score {score} needs --stats or --activations"));
        }
        if args.recover != Recover::None && lacks {
            let recover = args.recover;
            return usage(format!(
                "--recover {recover} needs --stats or --activations"
            ));
        }
        if !lacks {
            let weights = plan.compressed().count();
            return usage(format!(
                "this build compresses by magnitude alone; inputs of {weights} weights would \
                 change nothing"
            ));
        }
        Ok(Self {
            score: args.score,
            recover: args.recover,
            statistics: None,
        })
    }

    /// `dense` in `format`, and how far its outputs are from the dense ones, where inputs are
    /// known. `module` is the weight's name in the statistics.
    pub fn compress(
        &self,
        module: &str,
        dense: &Dense,
        format: Format,
    ) -> Result<(Matrix, Option<f64>)> {
        let packed = compress::compress(dense, format).map_err(|reason| Error::Weight {
            module: module.into(),
            reason,
        })?;
        debug_assert_eq!(
            (self.score, self.recover),
            (Score::Magnitude, Recover::None)
        );
        Ok((packed, None))
    }
}
