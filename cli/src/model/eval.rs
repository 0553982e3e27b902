//! `eval`: perplexity and bits per byte of a text, of one model or a table of them.

use super::{RunArgs, Sequence, context, recipe, text};
use crate::{
    device,
    error::{Error, Result},
    interrupt, out, progress,
    table::{Table, percent},
    weights,
};
use lacuna::format::Format;
use lacuna_io::{RawTensor, printable, save, stored_bytes};
use lacuna_llm::{
    Checkpoint, Recipe, Tally, Tokenizer,
    perplexity::{Perplexity, Windows},
    sampling::Sampling,
    weights_needed,
};
use serde::Serialize;
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

/// Tokens that are decoded before timing starts: the first ones compile shaders.
const WARM_UP: usize = 3;
/// Most prompt tokens before those that are decoded.
const PROMPT: usize = 16;

#[derive(clap::Args)]
pub struct Args {
    /// Hugging Face folders, .safetensors beside their config.json, or .gguf; several give a table
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Formats of the layers' products, or @FILE with a recipe: lines GLOB = FORMAT | dense;
    /// several give a table, in which dense is the file's own
    #[arg(long = "format", value_name = "FORMAT|@FILE", value_delimiter = ',')]
    formats: Vec<String>,
    #[command(flatten)]
    reading: weights::Args,
    #[command(flatten)]
    run: RunArgs,
    /// Tokens decoded to measure the speed; 0 for none [default: 16 for a table, else 0]
    #[arg(long, value_name = "N")]
    speed: Option<usize>,
    /// Text to predict, UTF-8
    #[arg(long, value_name = "FILE", required_unless_present = "tokens")]
    text: Option<PathBuf>,
    /// Tokens to predict: little-endian 32-bit ids, used as they are
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    tokens: Option<PathBuf>,
    /// Tokens per window [default: 512, or the model's limit if that is less]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Tokens between the starts of windows [default: as many text tokens as a window holds]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Prints JSON instead of text
    #[arg(long)]
    json: bool,
    /// Writes logits [positions, vocab] of the first window to this file
    #[arg(long, value_name = "FILE", requires = "positions")]
    dump_logits: Option<PathBuf>,
    /// Positions of tokens in the window; the logits are those of the token that follows each
    #[arg(
        long,
        value_name = "I,J,…",
        value_delimiter = ',',
        requires = "dump_logits"
    )]
    positions: Vec<usize>,
}

#[derive(Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    model: PathBuf,
    format: Option<String>,
    adapter: String,
    ctx: usize,
    stride: Option<usize>,
    windows: usize,
    perplexity: f64,
    bits_per_byte: Option<f64>,
    scored_tokens: usize,
    tokens_per_s: f64,
    /// Bytes of the weights on the device.
    weight_bytes: Option<u64>,
    /// Of the blocks' products only, as a file stores them.
    bits_per_weight: f64,
    /// Of all weights, as a file stores them.
    bytes: u64,
    decode_tokens_per_s: Option<f64>,
    /// The share of the blocks' weights that is needed by products that skip what the thresholds
    /// drop; 1 without thresholds.
    weights_needed: f64,
    /// The share that each gate with thresholds dropped.
    gates: Vec<GateSparsity>,
}

#[derive(Serialize)]
struct GateSparsity {
    module: String,
    sparsity: f64,
}

#[derive(Serialize)]
struct Comparison {
    tool: &'static str,
    version: &'static str,
    rows: Vec<Report>,
}

/// The text to predict, as tokens.
struct Text {
    ids: Vec<u32>,
    /// The token put before each window.
    bos: Option<u32>,
    tokenizer: Option<Tokenizer>,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let formats: Vec<Option<&str>> = if args.formats.is_empty() {
        vec![None]
    } else {
        args.formats.iter().map(|f| Some(f.as_str())).collect()
    };
    // A misspelt format, model or output should fail before hours of work, not after.
    for format in &formats {
        recipe(*format)?;
    }
    for model in &args.models {
        fs::metadata(model)
            .map_err(|e| Error::Input(format!("{}: {e}", printable(&model.to_string_lossy()))))?;
    }
    let one = args.models.len() * formats.len() == 1;
    if let Some(file) = &args.dump_logits {
        if !one {
            let reason = "--dump-logits is for one model in one format";
            return Err(Error::Usage(reason.into()));
        }
        let texts = [&args.text, &args.tokens].into_iter().flatten();
        out::is_file(file, args.models.iter().chain(texts))?;
    }
    if one {
        let report = evaluate(args, &args.models[0], formats[0], 0, device)?;
        return if args.json {
            out::json(&report)
        } else {
            out::write(&report.text())
        };
    }
    // One model is in memory at a time.
    let mut rows = vec![];
    for model in &args.models {
        for &format in &formats {
            let row = evaluate(args, model, format, PROMPT, device)?;
            let name = printable(&model.to_string_lossy());
            let format = format.unwrap_or("as stored");
            crate::note!("{name}, {format}: perplexity {:.4}", row.perplexity);
            rows.push(row);
        }
    }
    let table = Comparison {
        tool: "lacuna eval",
        version: env!("CARGO_PKG_VERSION"),
        rows,
    };
    if args.json {
        out::json(&table)
    } else {
        out::write(&table.text())
    }
}

/// `usual_speed` is the number of tokens to decode if the arguments give none.
fn evaluate(
    args: &Args,
    model: &Path,
    format: Option<&str>,
    usual_speed: usize,
    device: &device::Args,
) -> Result<Report> {
    let checkpoint = args.reading.model(model)?;
    let recipe = recipe(format)?;
    let ctx = context(args.ctx, checkpoint.config())?;
    let text = Text::read(args, &checkpoint)?;
    let windows = Windows::new(&text.ids, ctx, args.stride, text.bos)?;
    if windows.scored() == 0 {
        let file = args.text.as_ref().or(args.tokens.as_ref());
        let file = file.map_or(String::new(), |f| printable(&f.to_string_lossy()));
        let tokens = text.ids.len();
        let reason =
            format!("{file}: {tokens} tokens leave none to predict, at least 2 are needed");
        return Err(Error::Input(reason));
    }
    if let Some(&last) = args.positions.iter().max() {
        let held = windows.clone().next().map_or(0, |w| w.ids.len());
        if last >= held {
            let reason = format!("position {last} is outside the first window of {held} tokens");
            return Err(Error::Usage(reason));
        }
    }
    let thresholds = args.run.thresholds(checkpoint.config())?;
    let mut sequence = Sequence::open(
        &args.run,
        &checkpoint,
        &recipe,
        thresholds.as_ref(),
        ctx,
        device,
    )?;
    if let Some(file) = &args.dump_logits {
        let window = windows.clone().next().map(|w| w.ids).unwrap_or_default();
        let logits = logits_at(&mut sequence, &window, &args.positions)?;
        let shape = [args.positions.len(), checkpoint.config().vocab];
        let logits = RawTensor::from_f32(&shape, &logits);
        interrupt::deferred(|| Ok(save(file, [("logits", logits)])?))?;
    }

    sequence.clear_tallies()?;
    let prompt = windows.clone().next().map(|w| w.ids).unwrap_or_default();
    let bar = progress::bar(windows.scored());
    let begin = Instant::now();
    let (mut sum, mut count, mut bytes) = (Perplexity::default(), 0, Some(0));
    for window in windows {
        interrupt::check()?;
        sequence.reset()?;
        let scores = sequence.score(window.inputs(), &window.ids[1..])?;
        for &score in &scores[window.scored.start - 1..] {
            sum.add(score);
        }
        bytes = bytes
            .zip(text.bytes(&window.ids, &window.scored))
            .map(|(a, b)| a + b);
        bar.inc(window.scored.len() as u64);
        count += 1;
    }
    bar.finish_and_clear();
    let tokens_per_s = sum.tokens() as f64 / begin.elapsed().as_secs_f64();
    let (bits_per_weight, stored) = size(&checkpoint, &recipe)?;
    let tallies = sequence.tallies()?;
    let gate = |tally: &Tally| GateSparsity {
        module: tally.gate.module(tally.layer),
        sparsity: tally.sparsity(),
    };
    Ok(Report {
        tool: "lacuna eval",
        version: env!("CARGO_PKG_VERSION"),
        model: model.into(),
        format: format.map(str::to_owned),
        adapter: sequence.adapter(),
        ctx,
        stride: args.stride,
        windows: count,
        perplexity: sum.perplexity(),
        bits_per_byte: bytes.filter(|&b| b > 0).map(|b| sum.bits_per_byte(b)),
        scored_tokens: sum.tokens(),
        tokens_per_s,
        weight_bytes: match &sequence {
            Sequence::Gpu(decoder) => Some(decoder.model().bytes().total()),
            Sequence::Cpu { .. } => None,
        },
        bits_per_weight,
        bytes: stored,
        weights_needed: weights_needed(checkpoint.config(), &tallies),
        gates: tallies.iter().map(gate).collect(),
        decode_tokens_per_s: match (&sequence, args.speed) {
            // The reference is slow, so its speed is measured only on request.
            (Sequence::Cpu { .. }, None) => None,
            (_, speed) => decode(&mut sequence, &prompt, ctx, speed.unwrap_or(usual_speed))?,
        },
    })
}

/// Bits per weight of the blocks' products, and bytes of all weights, as a file stores them in the
/// formats of `recipe`.
fn size(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<(f64, u64)> {
    let (mut weights, mut bytes, mut all) = (0.0, 0, 0);
    for module in checkpoint.modules() {
        let own = checkpoint.format(&module)?;
        let format = recipe.format_for(&module).unwrap_or(own);
        let format: Format = format.or_dtype(own.dense_dtype());
        let [rows, cols] = checkpoint.shape(&module)?;
        let stored = stored_bytes(format, rows, cols).unwrap_or_default();
        all += stored;
        if module.contains(".layers.") {
            bytes += stored;
            weights += rows as f64 * cols as f64;
        }
    }
    Ok((8.0 * bytes as f64 / weights.max(1.0), all))
}

/// Decodes up to `count` tokens after a prompt and returns tokens per second; `None` if the
/// context has no room for any.
fn decode(sequence: &mut Sequence, ids: &[u32], ctx: usize, count: usize) -> Result<Option<f64>> {
    let prompt = &ids[..ids.len().min(PROMPT).min(ctx / 2)];
    let count = count.min(ctx.saturating_sub(prompt.len() + WARM_UP));
    if count == 0 || prompt.is_empty() {
        return Ok(None);
    }
    let greedy = Sampling::default();
    sequence.reset()?;
    sequence.prefill(prompt, &mut |_| {})?;
    for _ in 0..WARM_UP {
        sequence.next_token(&greedy)?;
    }
    let begin = Instant::now();
    for _ in 0..count {
        interrupt::check()?;
        sequence.next_token(&greedy)?;
    }
    Ok(Some(count as f64 / begin.elapsed().as_secs_f64()))
}

impl Comparison {
    fn text(&self) -> String {
        let headings = [
            "model",
            "format",
            "bits/weight",
            "bytes",
            "perplexity",
            "bits/byte",
            "decode tokens/s",
        ];
        let thresholds = self.rows.iter().any(|row| !row.gates.is_empty());
        let more = thresholds.then_some("weights needed");
        let mut table = Table::new(headings.into_iter().chain(more));
        let number =
            |value: Option<f64>, digits| value.map_or("n/a".into(), |v| format!("{v:.digits$}"));
        for row in &self.rows {
            let cells = [
                printable(&row.model.to_string_lossy()),
                row.format.clone().unwrap_or_else(|| "as stored".into()),
                format!("{:.3}", row.bits_per_weight),
                row.bytes.to_string(),
                format!("{:.4}", row.perplexity),
                number(row.bits_per_byte, 4),
                number(row.decode_tokens_per_s, 2),
            ];
            let needed = more.map(|_| percent(row.weights_needed));
            table.row(cells.into_iter().chain(needed));
        }
        let first = &self.rows[0];
        format!(
            "{}\n{} tokens scored in windows of {}; bits/weight of the products in the blocks, \
             bytes of all weights, as stored in a file\n\n{}",
            first.adapter,
            first.scored_tokens,
            first.ctx,
            table.text()
        )
    }
}

impl Report {
    fn text(&self) -> String {
        let bits = self
            .bits_per_byte
            .map_or("n/a, the ids do not decode".into(), |b| format!("{b:.4}"));
        let speed = self.decode_tokens_per_s;
        let speed = speed.map_or(String::new(), |s| format!("decode {s:.2} tokens/s\n"));
        format!(
            "{}\nperplexity {:.4}\nbits per byte {bits}\n{} tokens scored in {} windows of {}, \
             {:.1} tokens/s\n{speed}{}",
            self.adapter,
            self.perplexity,
            self.scored_tokens,
            self.windows,
            self.ctx,
            self.tokens_per_s,
            self.sparsity()
        )
    }
}

impl Report {
    /// A table of what the thresholds dropped, gate by gate; empty without thresholds.
    fn sparsity(&self) -> String {
        if self.gates.is_empty() {
            return String::new();
        }
        let mut table = Table::new(["gate", "sparsity met"]);
        for gate in &self.gates {
            table.row([gate.module.clone(), format!("{:.3}", gate.sparsity)]);
        }
        format!(
            "weights needed {} of those in the blocks\n\n{}",
            percent(self.weights_needed),
            table.text()
        )
    }
}

impl Text {
    fn read(args: &Args, checkpoint: &Checkpoint) -> Result<Self> {
        let unreadable = |file: &PathBuf, e: &dyn std::fmt::Display| {
            Error::Input(format!("{}: {e}", file.display()))
        };
        if let Some(file) = &args.tokens {
            let bytes = fs::read(file).map_err(|e| unreadable(file, &e))?;
            if bytes.len() % 4 != 0 {
                let reason = format!("{} bytes are no whole number of ids", bytes.len());
                return Err(unreadable(file, &reason));
            }
            let id = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            return Ok(Self {
                ids: bytes.chunks_exact(4).map(id).collect(),
                bos: None,
                // Without a tokenizer only the bits per byte are missing.
                tokenizer: checkpoint.tokenizer().ok(),
            });
        }
        let Some(file) = &args.text else {
            return Err(Error::Usage("give --text or --tokens".into()));
        };
        let tokenizer = checkpoint.tokenizer()?;
        let (ids, bos) = text(file, &tokenizer)?;
        Ok(Self {
            ids,
            bos,
            tokenizer: Some(tokenizer),
        })
    }

    /// Number of bytes that those of `ids` in `scored` add to the text of the ones before, of which decoding may
    /// depend; `None` without a tokenizer. A token that is part of a character counts as one byte.
    fn bytes(&self, ids: &[u32], scored: &Range<usize>) -> Option<usize> {
        let tokenizer = self.tokenizer.as_ref()?;
        let bytes = |ids| {
            let text = tokenizer.decode(ids);
            let broken = text.matches('\u{fffd}').count();
            text.len() - broken * '\u{fffd}'.len_utf8() + broken
        };
        Some(bytes(&ids[..scored.end]).saturating_sub(bytes(&ids[..scored.start])))
    }
}

fn logits_at(sequence: &mut Sequence, ids: &[u32], positions: &[usize]) -> Result<Vec<f32>> {
    let mut rows = Vec::new();
    for &position in positions {
        sequence.reset()?;
        sequence.prefill(&ids[..=position], &mut |_| {})?;
        rows.extend(sequence.logits()?);
    }
    Ok(rows)
}
