//! `calibrate`: gathers statistics of the inputs of a model's weights over a text.
//!
//! The model runs layer by layer. Memory holds the residual streams of all windows, one layer, and
//! the statistics gathered from it.

mod dump;
mod layer;

use crate::{
    device::{self, Where},
    error::{Error, Result},
    interrupt,
    model::context,
    out, weights,
};
use dump::Dump;
use lacuna_io::{check_place, printable};
use lacuna_llm::{
    Checkpoint, Config, Gate, Recipe, Site,
    blocks::{Blocks, embed},
    perplexity::Windows,
};
use lacuna_prune::{Gated, Shared, StatisticsWriter};
use layer::{Layer, channels};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes of text, rounded up to whole lines, that are tokenised at a time.
const PIECE: usize = 1 << 17;

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags are")]
pub struct Args {
    /// A Hugging Face folder, a .safetensors beside its config.json, or a .gguf
    model: PathBuf,
    /// Texts of the kind the model is used for, UTF-8; never the one it is evaluated on
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,
    /// The file to write, for `compress --stats` and `thresholds`; it appears complete or not at all
    #[arg(short, long, value_name = "STATS")]
    output: PathBuf,
    /// Tokens to run, in windows spread evenly over all the text; with fewer, Hessians are poorer
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    tokens: usize,
    /// Tokens per window [default: 512, or the model's limit or --tokens if that is less]
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Keeps the Hessian E[x xᵀ] of every input, which sparsegpt and --recover need: 2 · cols²
    /// bytes each in the file [default]
    #[arg(long, overrides_with = "no_hessian")]
    hessian: bool,
    /// Keeps means and mean squares only, which wanda and ria need
    #[arg(long)]
    no_hessian: bool,
    /// Leaves out what `thresholds` needs, so that every layer runs once, not twice
    #[arg(long)]
    no_thresholds: bool,
    /// Writes all activations to this folder: one safetensors file per layer, 4 bytes per element
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    #[command(flatten)]
    reading: weights::Args,
    /// Where to compute; cpu is the reference, slow and exact
    #[arg(long, value_enum, default_value_t = Where::Auto)]
    device: Where,
    /// Prints JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    model: PathBuf,
    statistics: PathBuf,
    adapter: String,
    layers: usize,
    samples: u64,
    windows: usize,
    context: usize,
    hessian: bool,
    thresholds: bool,
    bytes: u64,
    seconds: f64,
    /// The part of `seconds` spent on adding up the inputs.
    summing_seconds: f64,
    /// Of the process, if the system reports it.
    peak_memory_bytes: Option<u64>,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let begin = Instant::now();
    check_place(&args.output)?;
    let checkpoint = args.reading.model(&args.model)?;
    let config = checkpoint.config();
    let texts = args.text.iter().map(PathBuf::as_path);
    out::differs(&args.output, checkpoint.files().into_iter().chain(texts))?;
    if args.tokens < 2 {
        let tokens = args.tokens;
        return Err(Error::Usage(format!(
            "--tokens is {tokens}, at least 2 are needed"
        )));
    }
    let mut context = context(args.context, config)?;
    if args.context.is_none() {
        context = context.min(args.tokens);
    }
    let windows = windows(args, &checkpoint, context)?;
    let samples = windows.iter().map(|ids| ids.len() as u64).sum();
    let gpu = device::open_at(args.device, device)?;
    let mut blocks = Blocks::new(gpu.as_ref(), config, context)?;
    let layers = config.layers.len();

    interrupt::defer();
    let hessian = !args.no_hessian;
    let gates = (!args.no_thresholds).then(|| gates(config));
    let shared = shared(config);
    let mut writer =
        StatisticsWriter::create(&args.output, samples, hessian, &shared, gates.as_deref())?;
    if let Some(dir) = &args.dump {
        fs::create_dir_all(dir).map_err(|reason| lacuna_io::Error::Write {
            file: dir.clone(),
            reason,
        })?;
    }
    let recipe = Recipe::default();
    let mut streams = embed(&checkpoint, &recipe, &windows)?;
    let mut summing = Duration::ZERO;
    for number in 0..layers {
        interrupt::check()?;
        let begin = Instant::now();
        let mut block = blocks.load(&checkpoint, &recipe, number)?;
        let mut layer = Layer::new(config, number, hessian);
        if gates.is_some() {
            let channels = channels(&mut block, &checkpoint, &streams, number)?;
            layer = layer.with_thresholds(channels);
        }
        let dump = |dir: &PathBuf| Dump::create(dir, config, number, samples);
        layer = layer.with_dump(args.dump.as_ref().map(dump).transpose()?);
        layer.observe(&mut block, &mut streams)?;
        summing += layer.time;
        layer.finish(&mut writer)?;
        let (n, seconds) = (number + 1, begin.elapsed().as_secs_f64());
        crate::note!("layer {n} of {layers}: {seconds:.1} s");
    }
    interrupt::check()?;
    writer.finish()?;
    let report = Report {
        tool: "lacuna calibrate",
        version: env!("CARGO_PKG_VERSION"),
        model: args.model.clone(),
        statistics: args.output.clone(),
        adapter: gpu.map_or("CPU reference".into(), |gpu| {
            device::Adapter::from(&gpu.info()).to_string()
        }),
        layers,
        samples,
        windows: windows.len(),
        context,
        hessian,
        thresholds: !args.no_thresholds,
        bytes: fs::metadata(&args.output).map_or(0, |m| m.len()),
        seconds: begin.elapsed().as_secs_f64(),
        summing_seconds: summing.as_secs_f64(),
        peak_memory_bytes: peak_memory(),
    };
    if args.json {
        out::json(&report)
    } else {
        out::write(&report.text())
    }
}

/// Windows spread evenly over all texts, enough for the requested number of tokens.
fn windows(args: &Args, checkpoint: &Checkpoint, context: usize) -> Result<Vec<Vec<u32>>> {
    let mut all = vec![];
    for file in &args.text {
        all.extend(windows_of(file, checkpoint, context)?);
    }
    if all.is_empty() {
        let files = args.text.iter().map(|f| printable(&f.to_string_lossy()));
        let files = files.collect::<Vec<_>>().join(", ");
        return Err(Error::Input(format!("{files}: fewer than 2 tokens")));
    }
    if args.tokens < context {
        let tokens = args.tokens;
        return Err(Error::Usage(format!(
            "--tokens is {tokens}, less than the {context} of a window"
        )));
    }
    Ok(spread(all, args.tokens, context))
}

/// All windows of a text file, which may be large.
pub fn windows_of(file: &Path, checkpoint: &Checkpoint, context: usize) -> Result<Vec<Vec<u32>>> {
    let tokenizer = checkpoint.tokenizer()?;
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let unreadable = |e| Error::Input(format!("{}: {e}", printable(&file.to_string_lossy())));
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let mut ids = vec![];
    for piece in pieces(&text) {
        ids.extend(tokenizer.encode(piece)?);
    }
    let windows = Windows::new(&ids, context, None, bos)?;
    Ok(windows.map(|window| window.ids).collect())
}

/// As many windows of `context` tokens as make up `tokens`, spread evenly over `all`.
pub fn spread(mut all: Vec<Vec<u32>>, tokens: usize, context: usize) -> Vec<Vec<u32>> {
    let (found, wanted) = (all.len(), (tokens / context).min(all.len()));
    let evenly = (0..wanted).map(|i| std::mem::take(&mut all[i * found / wanted]));
    evenly.collect()
}

/// `text` in pieces that end with a line. A tokenizer needs a hundred times the memory of its text,
/// and a cut at the end of a line hardly changes the tokens.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let ends = rest.bytes().skip(PIECE).position(|byte| byte == b'\n');
        let (piece, others) = rest.split_at(ends.map_or(rest.len(), |i| PIECE + i + 1));
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The distinct inputs of all layers' products.
fn shared(config: &Config) -> Vec<Shared> {
    let sites = (0..config.layers.len()).flat_map(|layer| Site::ALL.map(|site| (layer, site)));
    sites
        .map(|(layer, site)| Shared {
            modules: site.linears().iter().map(|l| l.module(layer)).collect(),
            cols: config.width(site),
        })
        .collect()
}

/// The feed-forward blocks of all layers.
fn gates(config: &Config) -> Vec<Gated> {
    let gated = |layer| Gated {
        module: Gate::FeedForward.module(layer),
        channels: config.ffn,
    };
    (0..config.layers.len()).map(gated).collect()
}

/// Peak memory of this process, as Linux reports it.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

impl Report {
    fn text(&self) -> String {
        let with = if self.hessian { "with" } else { "without" };
        let memory = self.peak_memory_bytes.map_or(String::new(), |bytes| {
            format!(", peak memory {:.0} MB", bytes as f64 / 1e6)
        });
        format!(
            "{}\n{} samples in {} windows of up to {}, {} layers, {with} Hessians\n\
             {}: {} bytes\n{:.1} s, of them {:.1} s summing{memory}\n",
            self.adapter,
            self.samples,
            self.windows,
            self.context,
            self.layers,
            printable(&self.statistics.to_string_lossy()),
            self.bytes,
            self.seconds,
            self.summing_seconds,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text_and_end_with_lines() {
        let lines = "Thou art more lovely — and more temperate.\n".repeat(9000);
        for text in [&lines, &(lines.clone() + "no end"), "", "\n", "short"] {
            let all: Vec<&str> = pieces(text).collect();
            assert_eq!(all.concat(), *text);
            for (i, piece) in all.iter().enumerate() {
                assert!(piece.len() < PIECE + 100);
                assert!(i + 1 == all.len() || piece.len() > PIECE && piece.ends_with('\n'));
            }
        }
        let long = "a".repeat(3 * PIECE);
        assert_eq!(pieces(&long).count(), 1, "one line");
    }
}
