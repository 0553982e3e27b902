//! `thresholds`: chooses below which magnitude a model's activations are dropped.

mod choose;
mod greedy;
mod search;

use super::{Kv, RunArgs, Sequence, text};
use crate::{
    activations::Activations,
    bench::record::share,
    device::{self, Where},
    error::{Error, Result},
    interrupt, out,
};
use choose::{Chooser, Method};
use lacuna_io::{ThresholdFile, printable};
use lacuna_llm::Gate;
use lacuna_prune::Statistics;
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// The statistics that `calibrate` wrote
    statistics: PathBuf,
    /// How much an activation matters
    #[arg(long, value_enum)]
    method: Method,
    /// The share of the activations to drop, such as 0.5 or 50%, the same in every layer
    #[arg(long, value_name = "SHARE", required_unless_present = "ppl_increase", value_parser = share)]
    sparsity: Option<f64>,
    /// Instead finds the largest shares that raise the perplexity of --text by this much, such as 1%;
    /// each layer's outputs then change by about the same share
    #[arg(long, value_name = "PERCENT", conflicts_with_all = ["sparsity", "allocate"])]
    ppl_increase: Option<String>,
    /// How teal divides the sparsity among the products of a layer; greedy needs --model, --text
    #[arg(long, value_enum, default_value_t = Allocate::Uniform)]
    allocate: Allocate,
    /// Also drops inputs of the query and attention output products; teal always does
    #[arg(long)]
    attention: bool,
    /// The file to write, for `--thresholds`; it appears complete or not at all
    #[arg(short, long, value_name = "T")]
    output: PathBuf,
    /// The calibrated model, if it has to run
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// A text for it to run on, UTF-8
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// A held-out text on which the result is judged, UTF-8
    #[arg(long, value_name = "FILE", requires = "ppl_increase")]
    heldout: Option<PathBuf>,
    /// Tokens per window [default: 512, or the model's limit if that is less]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Tokens of --text, spread evenly over it, on which errors of layers are measured
    #[arg(long, value_name = "N", default_value_t = 2048)]
    tokens: usize,
    /// Where to compute; cpu is the reference, slow and exact
    #[arg(long, value_enum, default_value_t = Where::Auto)]
    device: Where,
    /// Prints JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Allocate {
    /// The same share of every product's input
    Uniform,
    /// A larger share where the layer's output changes least
    Greedy,
}

#[derive(Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    thresholds: PathBuf,
    method: &'static str,
    /// The share that each gate drops on the calibration text.
    gates: Vec<GateShare>,
    #[serde(flatten)]
    found: Option<search::Found>,
}

#[derive(Serialize)]
struct GateShare {
    module: String,
    sparsity: f64,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let run_on = [&args.model, &args.text, &args.heldout];
    let inputs = run_on.into_iter().flatten().chain([&args.statistics]);
    out::is_file(&args.output, inputs)?;
    let share = args.sparsity.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::Usage(format!(
            "--sparsity is {share:?}, allowed is 0 to 1, or 0% to 100%"
        )));
    }
    let greedy = args.allocate == Allocate::Greedy;
    if greedy && args.method != Method::Teal {
        let reason = "--allocate greedy is for --method teal: the others have one gate a layer";
        return Err(Error::Usage(reason.into()));
    }
    let statistics = Statistics::open(&args.statistics)?;
    let chooser = Chooser::new(&statistics, args.method, args.attention)?;
    let (mut found, mut origin) = (None, chooser.origin());
    let shares = if let Some(increase) = &args.ppl_increase {
        let (shares, what) = search::run(args, percent(increase)?, &chooser, device)?;
        origin.cett = Some(what.cett);
        origin.ppl_increase = Some([what.wanted, what.increase]);
        found = Some(what);
        shares
    } else {
        origin.sparsity = Some(share);
        if greedy {
            origin.allocate = Some("greedy".into());
            greedy::run(args, share, &chooser, device)?
        } else {
            chooser.uniform(share)
        }
    };
    interrupt::defer();
    interrupt::check()?;
    let modules = chooser.modules(&shares)?;
    ThresholdFile { origin, modules }.save(&args.output)?;
    let gate = |(&(layer, gate), &sparsity): (&(usize, Gate), &f64)| GateShare {
        module: gate.module(layer),
        sparsity,
    };
    let report = Report {
        tool: "lacuna thresholds",
        version: env!("CARGO_PKG_VERSION"),
        thresholds: args.output.clone(),
        method: args.method.name(),
        gates: shares.iter().map(gate).collect(),
        found,
    };
    if args.json {
        out::json(&report)
    } else {
        out::write(&report.text())
    }
}

/// `1%` or `0.01`.
fn percent(text: &str) -> Result<f64> {
    let increase = share(text).ok().filter(|&n| n > 0.0 && n <= 10.0);
    increase.ok_or_else(|| {
        Error::Usage(format!(
            "--ppl-increase is \"{}\", expected 1%, up to 1000%, or 0.01, below 1",
            printable(text)
        ))
    })
}

impl Args {
    /// The model and the text, or an error that says that `what` needs them.
    fn model_and_text(&self, what: &str) -> Result<(&PathBuf, &PathBuf)> {
        match (&self.model, &self.text) {
            (Some(model), Some(text)) => Ok((model, text)),
            _ => Err(Error::Usage(format!("{what} needs --model and --text"))),
        }
    }

    fn run_args(&self) -> RunArgs {
        RunArgs {
            device: self.device,
            kv: Kv::F16,
            thresholds: None,
            activations: Activations::F32,
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let name = printable(&self.thresholds.to_string_lossy());
        let found = self
            .found
            .as_ref()
            .map_or(String::new(), search::Found::text);
        let sum: f64 = self.gates.iter().map(|g| g.sparsity).sum();
        let mean = sum / self.gates.len().max(1) as f64;
        format!(
            "{found}{name}: {} of {} gates, which drop {:.1} % on average\n",
            self.method,
            self.gates.len(),
            100.0 * mean
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_may_be_percent() {
        for (text, value) in [
            ("1%", 0.01),
            ("0.01", 0.01),
            ("2.5 %", 0.025),
            ("900%", 9.0),
        ] {
            assert!((percent(text).unwrap() - value).abs() < 1e-12, "{text}");
        }
        for text in ["", "%", "0", "-1%", "NaN", "inf", "x%", "2000%"] {
            assert_eq!(percent(text).unwrap_err().code(), 2, "{text}");
        }
    }
}
