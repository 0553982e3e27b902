//! `eval`: perplexity and bits per byte of a text.

use super::{ModelArgs, Sequence, usual_context};
use crate::{
    device,
    error::{Error, Result},
    interrupt, out, progress,
};
use lacuna_io::{RawTensor, save};
use lacuna_llm::{
    Checkpoint, Tokenizer,
    perplexity::{Perplexity, Windows},
};
use serde::Serialize;
use std::{fs, path::PathBuf, time::Instant};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to predict, UTF-8
    #[arg(long, value_name = "FILE", required_unless_present = "tokens")]
    text: Option<PathBuf>,
    /// Tokens to predict: little-endian 32-bit ids, taken as they are
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    tokens: Option<PathBuf>,
    /// Tokens of a window [default: 512, or the model's limit where that is less]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Tokens between the starts of windows [default: as many of the text as a window holds]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Prints JSON instead of lines
    #[arg(long)]
    json: bool,
    /// Writes logits [positions, vocab] of the first window to this file
    #[arg(long, value_name = "FILE", requires = "positions")]
    dump_logits: Option<PathBuf>,
    /// Of which tokens of the window: the logits of what follows them
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
    weight_bytes: Option<u64>,
}

/// What is to be predicted.
struct Text {
    ids: Vec<u32>,
    /// Put before each window.
    bos: Option<u32>,
    tokenizer: Option<Tokenizer>,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.model.model)?;
    let ctx = args.ctx.unwrap_or(usual_context(checkpoint.config()));
    let text = Text::read(args, &checkpoint)?;
    let windows = Windows::new(&text.ids, ctx, args.stride, text.bos)?;
    if windows.scored() == 0 {
        let reason = format!("{} tokens leave none to predict", text.ids.len());
        return Err(Error::Input(reason));
    }
    if let Some(&last) = args.positions.iter().max() {
        let held = windows.clone().next().map_or(0, |w| w.ids.len());
        if last >= held {
            let reason = format!("position {last} is outside the first window of {held} tokens");
            return Err(Error::Usage(reason));
        }
    }
    let mut sequence = Sequence::open(&args.model, &checkpoint, ctx, device)?;
    if let Some(file) = &args.dump_logits {
        let window = windows.clone().next().map(|w| w.ids).unwrap_or_default();
        let logits = logits_at(&mut sequence, &window, &args.positions)?;
        let shape = [args.positions.len(), checkpoint.config().vocab];
        save(file, [("logits", RawTensor::from_f32(&shape, &logits))])?;
    }

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
        let scored = &window.ids[window.scored];
        bytes = bytes.zip(text.bytes(scored)).map(|(a, b)| a + b);
        bar.inc(scored.len() as u64);
        count += 1;
    }
    bar.finish_and_clear();
    let report = Report {
        tool: "lacuna eval",
        version: env!("CARGO_PKG_VERSION"),
        model: args.model.model.clone(),
        format: args.model.format.clone(),
        adapter: sequence.adapter(),
        ctx,
        stride: args.stride,
        windows: count,
        perplexity: sum.perplexity(),
        bits_per_byte: bytes.filter(|&b| b > 0).map(|b| sum.bits_per_byte(b)),
        scored_tokens: sum.tokens(),
        tokens_per_s: sum.tokens() as f64 / begin.elapsed().as_secs_f64(),
        weight_bytes: match &sequence {
            Sequence::Gpu(decoder) => Some(decoder.model().bytes().total()),
            Sequence::Cpu { .. } => None,
        },
    };
    if args.json {
        out::json(&report)
    } else {
        out::write(&report.text())
    }
}

impl Report {
    fn text(&self) -> String {
        let bits = self
            .bits_per_byte
            .map_or("n/a, the ids do not decode".into(), |b| format!("{b:.4}"));
        format!(
            "{}\nperplexity {:.4}\nbits per byte {bits}\n{} tokens scored in {} windows of {}, \
             {:.1} tokens/s\n",
            self.adapter,
            self.perplexity,
            self.scored_tokens,
            self.windows,
            self.ctx,
            self.tokens_per_s
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
                // Without a tokenizer there are no bytes to count, and that is all.
                tokenizer: checkpoint.tokenizer().ok(),
            });
        }
        let Some(file) = &args.text else {
            return Err(Error::Usage("give --text or --tokens".into()));
        };
        let text = fs::read_to_string(file).map_err(|e| unreadable(file, &e))?;
        let tokenizer = checkpoint.tokenizer()?;
        Ok(Self {
            ids: tokenizer.encode(&text)?,
            bos: tokenizer.bos().filter(|_| tokenizer.add_bos()),
            tokenizer: Some(tokenizer),
        })
    }

    /// Bytes that `ids` spell, where they spell any. A token that is a part of a character
    /// is one byte.
    fn bytes(&self, ids: &[u32]) -> Option<usize> {
        let tokenizer = self.tokenizer.as_ref()?;
        let text = tokenizer.decode(ids);
        let broken = text.matches('\u{fffd}').count();
        Some(text.len() - broken * '\u{fffd}'.len_utf8() + broken)
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
