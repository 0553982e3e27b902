//! `bench-model`: prefill and decoding, formats side by side and round by round.

mod drawn;

use super::{Kv, load, recipe, warn_of_idle_lines};
use crate::{
    activations::Activations,
    bench::{
        bandwidth::{Bandwidth, Copier},
        machine,
    },
    device,
    error::{Error, Result},
    interrupt, out,
    table::Table,
};
use drawn::Drawn;
use lacuna::format::{Dtype, Format, Precision};
use lacuna_io::ThresholdFile;
use lacuna_llm::{
    ActivationThresholds, Checkpoint, Config, Decoder, Options, Source, Weights, sampling::Sampling,
};
use serde::Serialize;
use std::{collections::BTreeMap, ops::ControlFlow, path::PathBuf, sync::Arc, time::Instant};

#[derive(clap::Args)]
pub struct Args {
    /// A Hugging Face folder, a .safetensors beside its config.json, or a .gguf
    #[arg(required_unless_present = "config")]
    model: Option<PathBuf>,
    /// A config.json: the model gets random f16 weights of its shapes
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "model",
        requires = "random"
    )]
    config: Option<PathBuf>,
    /// Confirms that --config stands for random weights
    #[arg(long, requires = "config")]
    random: bool,
    /// Formats of the layers' products, or @FILE with a recipe; dense is the file's own
    #[arg(
        long = "format",
        value_name = "FORMAT|@FILE",
        value_delimiter = ',',
        default_value = "dense,2:4"
    )]
    formats: Vec<String>,
    /// Also runs each format with the thresholds of each of these files
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    thresholds: Vec<PathBuf>,
    /// Also runs each format with PERCENT of the channels, drawn at random, dropped; WAY is chess
    /// (the feed-forward), chess-attention, or teal (every product)
    #[arg(long, value_name = "WAY@PERCENT", value_delimiter = ',')]
    drawn: Vec<Drawn>,
    /// Also runs each format with activations in this precision, if it has such products
    #[arg(long, value_enum, default_value_t = Activations::F32)]
    activations: Activations,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128)]
    prompt_tokens: usize,
    /// Tokens decoded per round
    #[arg(long, value_name = "N", default_value_t = 16)]
    tokens: usize,
    /// Number of rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Type in which keys and values are kept
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    kv: Kv,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Lists on stderr where the time of one token goes, launch by launch
    #[arg(long)]
    profile: bool,
}

impl Args {
    fn precisions(&self) -> Vec<Precision> {
        match self.activations.into() {
            Precision::F32 => vec![Precision::F32],
            other => vec![Precision::F32, other],
        }
    }

    /// The thresholds with which each format is also run, and their names.
    fn all_thresholds(&self, config: &Config) -> Result<Vec<(String, ActivationThresholds)>> {
        let mut all = vec![];
        for file in &self.thresholds {
            let modules = ThresholdFile::open(file)?.modules;
            let name = file.file_stem().unwrap_or(file.as_os_str());
            let thresholds = ActivationThresholds::new(config, &modules)?;
            all.push((name.to_string_lossy().into_owned(), thresholds));
        }
        for drawn in &self.drawn {
            all.push((drawn.to_string(), drawn.thresholds(config)?));
        }
        Ok(all)
    }
}

/// One format and its measurements.
struct Contender {
    format: String,
    decoder: Decoder,
    /// Seconds of each decoded token, round by round.
    decode: Vec<Vec<f64>>,
    /// Seconds of recording and submitting, of each decoded token.
    host: Vec<f64>,
    /// Seconds of each prefill.
    prefill: Vec<f64>,
    /// Seconds of the layers and of the head for one token per round, if the device can time them.
    parts: Vec<[f64; 2]>,
}

#[derive(Serialize)]
struct Row {
    format: String,
    weight_bytes: u64,
    bytes_per_token: u64,
    decode_tokens_per_s: f64,
    decode_ms_p10: f64,
    decode_ms_p90: f64,
    /// Median over rounds of the ratio to the first format.
    x_first: f64,
    prefill_tokens_per_s: f64,
    gb_per_s: f64,
    percent_of_copy: f64,
    launches_per_token: usize,
    host_us_per_launch: f64,
    host_percent: f64,
    /// Milliseconds that a token's layers take, without the head; `layers_x_first` is the median over
    /// rounds of the ratio to those of the first format.
    #[serde(skip_serializing_if = "Option::is_none")]
    layers_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers_x_first: Option<f64>,
    /// Milliseconds of the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    head_ms: Option<f64>,
    /// The share of the activations compared with the blocks' thresholds that was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    adapter: device::Adapter,
    model: PathBuf,
    prompt_tokens: usize,
    tokens: usize,
    rounds: usize,
    copy_gb_per_s: f64,
    copy_method: String,
    rows: Vec<Row>,
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    for (what, value) in [
        ("--prompt-tokens", args.prompt_tokens),
        ("--tokens", args.tokens),
        ("--rounds", args.rounds),
    ] {
        if value == 0 {
            return Err(Error::Usage(format!("{what} is 0, it must be at least 1")));
        }
    }
    let (path, source): (_, Box<dyn Source>) = match (&args.model, &args.config) {
        (Some(model), _) => (model, Box::new(Checkpoint::open(model)?)),
        (None, Some(file)) => {
            let config = Config::from_json_file(file)?;
            let weights = Weights::random(config, 1, Format::Dense(Dtype::F16))?;
            (file, Box::new(weights))
        }
        (None, None) => return Err(Error::Usage("give a model, or --config".into())),
    };
    // The tokens that warm decoding up come on top.
    let (prompt, tokens) = (args.prompt_tokens, args.tokens);
    let context = prompt.saturating_add(tokens).saturating_add(3);
    let most = source.config().max_positions;
    if context > most {
        return Err(Error::Usage(format!(
            "--prompt-tokens {prompt} and --tokens {tokens} need a context of {context} tokens, the model has {most}"
        )));
    }
    let gpu = device::open(device)?;
    args.activations.check(&gpu)?;
    let bandwidth = Copier::new(&gpu)?.measure()?;
    let sparse = args.all_thresholds(source.config())?;
    let all_or_some = || std::iter::once(None).chain(sparse.iter().map(Some));
    let mut contenders = vec![];
    for format in &args.formats {
        let recipe = recipe(Some(format.as_str()).filter(|f| *f != "dense"))?;
        warn_of_idle_lines(&recipe, source.config());
        for some in all_or_some() {
            let thresholds = some.map(|(_, thresholds)| thresholds);
            let model = Arc::new(load(&gpu, source.as_ref(), &recipe, thresholds)?);
            for precision in args.precisions() {
                let options = Options {
                    context: Some(context),
                    kv: args.kv.into(),
                    precision,
                    ..Options::default()
                };
                let of = some.iter().map(|(name, _)| format!(", {name}"));
                let taken = (precision != Precision::F32)
                    .then(|| format!(", {} activations", args.activations.name()));
                contenders.push(Contender {
                    format: of
                        .chain(taken)
                        .fold(format.clone(), |all, part: String| all + &part),
                    decoder: Decoder::new(&model, &options)?,
                    decode: vec![],
                    host: vec![],
                    prefill: vec![],
                    parts: vec![],
                });
            }
        }
    }
    drop(source);
    // Not counted are the first round, which compiles shaders, and those during which an idle GPU
    // reaches its full clock.
    let mut round = |counted| contenders.iter_mut().try_for_each(|c| c.run(args, counted));
    round(false)?;
    let begin = Instant::now();
    while begin.elapsed() < machine::warm_up(&gpu) {
        round(false)?;
    }
    for _ in 0..args.rounds {
        round(true)?;
    }
    if args.profile {
        for contender in &mut contenders {
            contender.profile()?;
        }
    }
    let first = &contenders[0];
    let report = Report {
        tool: "lacuna bench-model",
        version: env!("CARGO_PKG_VERSION"),
        adapter: device::Adapter::from(&gpu.info()),
        model: path.clone(),
        prompt_tokens: args.prompt_tokens,
        tokens: args.tokens,
        rounds: args.rounds,
        copy_gb_per_s: bandwidth.gb_per_s,
        rows: contenders
            .iter()
            .map(|c| c.row(args, first, &bandwidth))
            .collect::<Result<_>>()?,
        copy_method: bandwidth.method,
    };
    if args.json {
        out::json(&report)
    } else {
        out::write(&report.text())
    }
}

impl Contender {
    fn run(&mut self, args: &Args, counted: bool) -> Result<()> {
        interrupt::check()?;
        let vocab = self.decoder.model().config().vocab as u32;
        let prompt: Vec<u32> = (0..args.prompt_tokens as u32)
            .map(|i| i.wrapping_mul(2_654_435_761) % vocab)
            .collect();
        let greedy = Sampling::default();
        self.decoder.rewind(0)?;
        let begin = Instant::now();
        let go_on = &mut |_| ControlFlow::Continue(());
        self.decoder.prefill(&prompt, go_on)?;
        self.decoder.next_token(&greedy)?;
        let prefill = begin.elapsed().as_secs_f64();
        let mut decode = vec![];
        for _ in 0..args.tokens {
            let begin = Instant::now();
            self.decoder.next_token(&greedy)?;
            decode.push(begin.elapsed().as_secs_f64());
            if counted {
                self.host.push(self.decoder.host_time().as_secs_f64());
            }
        }
        if counted {
            if self.decoder.model().gpu().caps().timestamps {
                let [layers, head, _] = self.decoder.spans()?;
                self.parts.push([layers.as_secs_f64(), head.as_secs_f64()]);
            }
            self.prefill.push(prefill);
            self.decode.push(decode);
        }
        // A step may have run ahead: it is not to take the time of the next format.
        Ok(self.decoder.model().gpu().wait()?)
    }

    /// Times the launches of one token and sums them by name.
    fn profile(&mut self) -> Result<()> {
        self.decoder.rewind(self.decoder.position() - 1)?;
        self.decoder
            .prefill(&[0], &mut |_| ControlFlow::Continue(()))?;
        self.decoder.next_token(&Sampling::default())?;
        let mut sums = BTreeMap::<String, (usize, f64)>::new();
        for (name, time) in self.decoder.profile()?.concat() {
            let sum = sums.entry(name).or_default();
            *sum = (sum.0 + 1, sum.1 + time.as_secs_f64());
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        crate::note!("{}:", self.format);
        for (name, (count, seconds)) in sums {
            crate::note!("{:9.3} ms  {count:4} x {name}", 1e3 * seconds);
        }
        Ok(())
    }

    fn row(&self, args: &Args, first: &Self, bandwidth: &Bandwidth) -> Result<Row> {
        let model = self.decoder.model();
        let seconds = quantile(&self.decode.concat(), 0.5);
        let part = |i: usize| -> Vec<f64> { self.parts.iter().map(|p| p[i]).collect() };
        let timed = |samples: &[f64], scale: f64| {
            (!samples.is_empty()).then(|| scale * quantile(samples, 0.5))
        };
        let layers_x_first: Vec<f64> = first
            .parts
            .iter()
            .zip(&self.parts)
            .map(|(first, own)| first[0] / own[0])
            .collect();
        let ratios: Vec<f64> = first
            .decode
            .iter()
            .zip(&self.decode)
            .map(|(first, own)| quantile(first, 0.5) / quantile(own, 0.5))
            .collect();
        let host = quantile(&self.host, 0.5);
        let launches = self.decoder.launches_per_token();
        let gb_per_s = model.bytes_per_token() as f64 / seconds / 1e9;
        let tallies = self.decoder.tallies()?;
        let (active, of) = tallies
            .iter()
            .fold((0, 0), |(a, o), t| (a + t.active, o + t.of));
        Ok(Row {
            format: self.format.clone(),
            weight_bytes: model.bytes().total(),
            bytes_per_token: model.bytes_per_token(),
            decode_tokens_per_s: 1.0 / seconds,
            decode_ms_p10: 1e3 * quantile(&self.decode.concat(), 0.1),
            decode_ms_p90: 1e3 * quantile(&self.decode.concat(), 0.9),
            x_first: quantile(&ratios, 0.5),
            prefill_tokens_per_s: args.prompt_tokens as f64 / quantile(&self.prefill, 0.5),
            gb_per_s,
            percent_of_copy: 100.0 * gb_per_s / bandwidth.gb_per_s,
            launches_per_token: launches,
            host_us_per_launch: 1e6 * host / launches as f64,
            host_percent: 100.0 * host / seconds,
            layers_ms: timed(&part(0), 1e3),
            layers_x_first: timed(&layers_x_first, 1.0),
            head_ms: timed(&part(1), 1e3),
            dropped: (of > 0).then(|| 1.0 - active as f64 / of as f64),
        })
    }
}

fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (q * (sorted.len().max(1) - 1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

impl Report {
    fn text(&self) -> String {
        let optional = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.2}"));
        let mut table = Table::new([
            "format",
            "dropped %",
            "MB a token",
            "decode tokens/s",
            "ms p10",
            "p90",
            "x first",
            "layers ms",
            "x first",
            "head ms",
            "GB/s",
            "% copy",
            "prefill tokens/s",
            "launches",
            "host µs each",
            "host %",
        ]);
        for row in &self.rows {
            table.row([
                row.format.clone(),
                row.dropped
                    .map_or(String::new(), |d| format!("{:.1}", 100.0 * d)),
                format!("{:.1}", row.bytes_per_token as f64 / 1e6),
                format!("{:.2}", row.decode_tokens_per_s),
                format!("{:.2}", row.decode_ms_p10),
                format!("{:.2}", row.decode_ms_p90),
                format!("{:.2}", row.x_first),
                optional(row.layers_ms),
                optional(row.layers_x_first),
                optional(row.head_ms),
                format!("{:.2}", row.gb_per_s),
                format!("{:.1}", row.percent_of_copy),
                format!("{:.1}", row.prefill_tokens_per_s),
                row.launches_per_token.to_string(),
                format!("{:.2}", row.host_us_per_launch),
                format!("{:.1}", row.host_percent),
            ]);
        }
        format!(
            "{}\ncopy {:.2} GB/s ({})\nprompt of {} tokens, {} tokens decoded, {} rounds\n\n{}",
            self.adapter,
            self.copy_gb_per_s,
            self.copy_method,
            self.prompt_tokens,
            self.tokens,
            self.rounds,
            table.text()
        )
    }
}
