//! How a weight is compressed, and which statistics that needs.

use super::{input::Weight, plan::Plan};
use crate::error::{Error, Result};
use lacuna::format::{Dense, Format};
use lacuna_io::{Fingerprint, WeightFile, printable};
use lacuna_prune::{Accumulator, Compressed, Inputs, Statistics};
use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
// See `weights::Args`.
#[group(skip)]
pub struct Args {
    /// How the weights to keep are chosen, and how they make up for the others
    #[arg(long, value_enum, default_value_t = Score::Magnitude)]
    score: Score,
    /// The statistics that `calibrate` wrote about the inputs of this model; with any score they also
    /// decide the scales, and the report gives the error of the outputs
    #[arg(long, value_name = "FILE", conflicts_with = "activations")]
    stats: Option<PathBuf>,
    /// Sample inputs of the weights: a .safetensors file with x [samples, cols], for weights that all
    /// have this many columns
    #[arg(long, value_name = "FILE")]
    activations: Option<PathBuf>,
    /// What is adjusted to make up for the loss
    #[arg(long, value_enum, default_value_t = Recover::None)]
    recover: Recover,
}

impl Args {
    /// The files that it reads.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.stats, &self.activations]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Score {
    /// The largest sums of squares
    Magnitude,
    /// The largest sums of squares times the mean squares of the inputs
    Wanda,
    /// The least loss by the Hessian of the inputs; later columns make up for it. For codes this is GPTQ
    #[value(alias = "gptq")]
    Sparsegpt,
    /// Importance relative to row and column, times the inputs' norms
    Ria,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Recover {
    /// Nothing
    None,
    /// Each weight: kept values by least squares, then scales
    Layer,
    /// Each block by gradient: `lacuna recover` does that
    #[value(hide = true)]
    Block,
    /// Scales and zeros of the whole model by gradient: `lacuna recover` does that
    #[value(hide = true)]
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

impl From<Score> for lacuna_prune::Score {
    fn from(score: Score) -> Self {
        match score {
            Score::Magnitude => Self::Magnitude,
            Score::Wanda => Self::Wanda,
            Score::Sparsegpt => Self::SparseGpt,
            Score::Ria => Self::Ria,
        }
    }
}

/// What is known about the inputs of weights.
enum Known {
    Nothing,
    /// Statistics of each module.
    Statistics(Statistics),
    /// The same inputs for all modules.
    Activations(Inputs),
}

/// Score, statistics and recovery together.
pub struct Method {
    pub score: Score,
    pub recover: Recover,
    /// Fingerprint of the statistics, if there are any.
    pub statistics: Option<String>,
    /// Score and recovery in the library's terms.
    by: lacuna_prune::Method,
    known: Known,
}

impl Method {
    /// Checks that the weights of `plan` have everything that the method needs.
    pub fn new(args: &Args, plan: &Plan) -> Result<Self> {
        let (score, recover) = (args.score, args.recover);
        if matches!(recover, Recover::Block | Recover::Model) {
            return Err(Error::Usage(format!(
                "--recover {recover} trains several weights at a time: compress with --recover layer, \
                 then `lacuna recover DENSE PACKED --stage {recover}`, built with --features recover"
            )));
        }
        let known = args.files().next();
        if known.is_none() {
            let lacks = |what: String| {
                let reason = format!("{what} needs --stats or --activations");
                Err(Error::Usage(reason))
            };
            if score != Score::Magnitude {
                return lacks(format!("--score {score}"));
            }
            if recover != Recover::None {
                return lacks(format!("--recover {recover}"));
            }
        }
        let method = Self {
            score,
            recover,
            statistics: known
                .map(Fingerprint::of)
                .transpose()?
                .map(|f| f.to_string()),
            by: lacuna_prune::Method {
                score: score.into(),
                recover: recover == Recover::Layer,
            },
            known: match (&args.stats, &args.activations) {
                (Some(file), _) => Known::Statistics(Statistics::open(file)?),
                (None, Some(file)) => Known::Activations(activations(file, plan)?),
                (None, None) => Known::Nothing,
            },
        };
        for (weight, format) in plan.compressed() {
            method.check(weight, *format)?;
        }
        Ok(method)
    }

    /// Checks from headers alone that the statistics have what `weight` needs.
    fn check(&self, weight: &Weight, format: Format) -> Result<()> {
        let Known::Statistics(statistics) = &self.known else {
            return Ok(());
        };
        let hessian = statistics.check(&weight.module, weight.cols)?;
        if hessian || !self.by.needs_hessian(format) {
            return Ok(());
        }
        let (score, recover) = (self.score, self.recover);
        Err(Error::Usage(format!(
            "--score {score} --recover {recover} needs Hessians, {} has none of \"{}\": \
             calibrate without --no-hessian",
            printable(&statistics.path().to_string_lossy()),
            printable(&weight.module)
        )))
    }

    /// Compresses `dense`. `module` is the weight's name in the statistics.
    pub fn compress(&self, module: &str, dense: &Dense, format: Format) -> Result<Compressed> {
        let inputs = match &self.known {
            Known::Nothing => None,
            Known::Statistics(statistics) => Some(Cow::Owned(statistics.inputs(module)?)),
            Known::Activations(inputs) => Some(Cow::Borrowed(inputs)),
        };
        let compressed = self.by.compress(dense, format, inputs.as_deref());
        compressed.map_err(|reason| Error::Compress {
            module: module.into(),
            reason: reason.into(),
        })
    }

    /// Approximate bytes that compressing a weight takes: its values as read, in f32 and compressed;
    /// the statistics of its inputs, and its Hessian and the Hessian's factor in f64; and, with least
    /// squares, another matrix of that size per thread.
    pub fn cost(&self, weight: &Weight) -> u64 {
        let (rows, cols) = (weight.rows as u64, weight.cols as u64);
        let squares = match self.known {
            Known::Nothing => 0,
            _ if self.by.recover => 24 + 8 * rayon::current_num_threads() as u64,
            _ => 24,
        };
        12 * rows * cols + squares * cols * cols
    }
}

/// Statistics of the file's `x`, which are used for every weight of `plan`.
fn activations(path: &Path, plan: &Plan) -> Result<Inputs> {
    let x = WeightFile::open(path)?.f32_tensor("x")?;
    let wrong = |expected: String| {
        let file = printable(&path.to_string_lossy());
        let shape = &x.shape;
        Error::Input(format!(
            "{file}: tensor \"x\": shape is {shape:?}, expected {expected}"
        ))
    };
    let [samples, cols] = *x.shape else {
        return Err(wrong("[samples, cols]".into()));
    };
    if samples == 0 || cols == 0 {
        return Err(wrong("at least one of both".into()));
    }
    let mut weights = plan.compressed().map(|(weight, _)| weight);
    if let Some(other) = weights.find(|weight| weight.cols != cols) {
        let (name, cols) = (printable(&other.name), other.cols);
        return Err(wrong(format!(
            "[samples, {cols}] for the weight \"{name}\"; weights of other columns are left out \
             with --tensor"
        )));
    }
    let mut sums = Accumulator::new(cols, true);
    sums.add(&x.values)?;
    Ok(sums.finish()?)
}
