//! `bench`: checks every candidate, then times it.
//!
//! All formats of a product run in the same rounds, one sample each, so that whatever else the
//! machine does affects all of them; ratios are taken within a round.

pub mod bandwidth;
mod clock;
mod group;
mod layers;
pub mod machine;
mod peak;
mod product;
pub mod record;
mod report;
mod rotation;
mod row;
mod subject;
pub mod tune;

use crate::{
    activations::Activations,
    device,
    error::{Error, Result},
    interrupt, progress,
};
use bandwidth::Copier;
use group::{Bench, Floor, Formats};
use lacuna::{
    compress::compress,
    format::{Dense, Dtype, Format},
    kernel::Skip,
    wgpu,
};
use layers::{Layer, Preset, Shape, Source};
use rayon::prelude::*;
use record::Record;
use report::{Header, Report, Style};
use row::Row;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// What to time
    #[arg(long, value_enum, default_value_t = Op::Linear)]
    op: Op,
    /// Percentages of rows or columns that are active, where --op skips the others
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "10,30,50,70,100",
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    active: Vec<u8>,
    /// Shapes of random weights [default: 4096x4096]
    #[arg(long = "shape", value_name = "ROWSxCOLS", value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// The layer shapes of a model
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Numbers of vectors
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = at_least_one)]
    batch: Vec<usize>,
    /// Weight formats
    #[arg(
        long = "format",
        value_name = "FORMAT",
        value_delimiter = ',',
        default_value = "f32,2:4,2:4x4,2:4x8,1:8",
        default_value_ifs = [
            ("op", "masked", "f32,f16,w4g128"),
            ("op", "input_sparse", "f32,f16,w4g128"),
        ]
    )]
    formats: Vec<Format>,
    /// Precision of activations; others than f32 add rows to --op linear, for formats that have such products
    #[arg(long, value_enum, default_value_t = Activations::F32)]
    activations: Activations,
    /// Whether weights are read from memory or may still be in a cache
    #[arg(long, value_enum, default_value_t = Cache::Cold)]
    cache: Cache,
    /// How to print the rows
    #[arg(short, long, value_enum, default_value_t = Style::Md)]
    output: Style,
    /// The same as -o json
    #[arg(long)]
    json: bool,
    /// Samples of each row
    #[arg(long, value_name = "N", default_value = "25", value_parser = at_least_one)]
    rounds: usize,
    /// Makes the first half of the rows of random weights larger, so that -ragged formats keep
    /// their groups there
    #[arg(long, conflicts_with = "weights")]
    unbalanced: bool,
    /// Times the candidates whose name contains this instead of the default ones
    #[arg(long, value_name = "NAME", conflicts_with = "all_candidates")]
    candidate: Option<String>,
    /// Times every legal candidate
    #[arg(long)]
    all_candidates: bool,
    /// Compares with what -o json or jsonl printed in another run on this adapter
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Ends with exit code 1 if a product takes longer than in the baseline by more than this share
    #[arg(long, value_name = "SHARE", requires = "baseline", value_parser = record::share)]
    fail_above: Option<f64>,
    /// Times the weights of this file, compressed to each format
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shapes", "preset"])]
    weights: Option<PathBuf>,
    /// Selects among them by module name; !GLOB excludes
    #[arg(long = "tensor", value_name = "GLOB")]
    tensors: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Op {
    /// y = x · Wᵀ
    Linear,
    /// The same, but only for active rows of W
    Masked,
    /// The same, but only over active columns of W
    #[value(name = "input_sparse", alias = "input-sparse")]
    InputSparse,
}

impl Op {
    const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Masked => "masked",
            Self::InputSparse => "input_sparse",
        }
    }

    const fn skip(self) -> Skip {
        match self {
            Self::Linear => Skip::Nothing,
            Self::Masked => Skip::Rows,
            Self::InputSparse => Skip::Cols,
        }
    }
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Cache {
    /// Between two uses of a weight so much other memory is touched that no cache holds it
    Cold,
    /// One copy of the weight is used again and again
    Hot,
}

impl Cache {
    const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Hot => "hot",
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("it must be a number, at least 1".into()),
    }
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let (source, layers) = Source::open(args)?;
    let gpu = device::open(device)?;
    args.activations.check(&gpu)?;
    let adapter = (&gpu.info()).into();
    let record = args.baseline.as_deref();
    let record = record
        .map(|file| Record::open(file, &adapter))
        .transpose()?;
    interrupt::defer();

    let bar = progress::bar(layers.len() * args.batch.len());
    bar.set_message("copy bandwidth");
    let on_cpu = gpu.info().device_type == wgpu::DeviceType::Cpu;
    let copier = Copier::new(&gpu)?;
    let copy = copier.measure()?;
    let timestamps = gpu.caps().timestamps && clock::trustworthy(&gpu, &copier.work(&copy)?)?;
    drop(copier);
    let host_read_gb_per_s = on_cpu.then(bandwidth::host_read).transpose()?;
    let peak_gflop_per_s = peak::measure(&gpu)?;
    let style = if args.json { Style::Json } else { args.output };
    let header = Header {
        tool: "lacuna",
        version: env!("CARGO_PKG_VERSION"),
        op: args.op,
        schema: report::SCHEMA,
        adapter,
        copy_gb_per_s: copy.gb_per_s,
        copy_method: copy.method,
        host_read_gb_per_s,
        peak_gflop_per_s,
        cold_bytes: machine::cold_bytes(&gpu),
        rounds: args.rounds,
    };
    let mut report = Report::begin(style, header)?;
    let bench = Bench {
        gpu: &gpu,
        args,
        timestamps,
        copy_gb_per_s: copy.gb_per_s,
        floor: Floor {
            gb_per_s: host_read_gb_per_s.unwrap_or(copy.gb_per_s),
            gflop_per_s: peak_gflop_per_s,
        },
    };
    let mut all = || -> Result<()> {
        for layer in &layers {
            let formats = formats(layer, &source.dense(layer)?, args)?;
            for &batch in &args.batch {
                let Shape { rows, cols } = layer.shape;
                bar.set_message(format!("{rows}x{cols} batch {batch}"));
                for row in rows_of(&bench, &formats, batch)? {
                    bar.suspend(|| report.row(row))?;
                }
                bar.inc(1);
            }
        }
        Ok(())
    };
    let result = all();
    bar.finish_and_clear();
    let unmatched = args.candidate.as_deref().filter(|name| !report.has(name));
    let timed = report.has_times();
    match result {
        // The rows measured so far are still worth printing.
        Err(Error::Interrupted) => report.end().and(Err(Error::Interrupted)),
        Err(e) => Err(e),
        Ok(()) => {
            let changes = record.map(|r| r.compare(report.rows())).transpose();
            let slower = match &changes {
                Ok(Some(changes)) => {
                    report.changes(changes)?;
                    too_slow(changes, args.fail_above)
                }
                _ => None,
            };
            let wrong = report.end()?;
            changes?;
            match (wrong, unmatched, slower) {
                (0, None, None) if !timed => Err(Error::Check("nothing could be timed".into())),
                (0, None, None) => Ok(()),
                (0, None, Some(slower)) => Err(Error::Check(slower)),
                (0, Some(name), _) => {
                    let reason = format!("no legal candidate is called {name:?}");
                    Err(Error::Usage(reason))
                }
                (wrong, ..) => Err(Error::Check(format!("{wrong} rows failed their check"))),
            }
        }
    }
}

/// The message for the product that became slowest, if `--fail-above` forbids that much.
fn too_slow(changes: &[record::Change], limit: Option<f64>) -> Option<String> {
    let worst = changes
        .iter()
        .max_by(|a, b| a.slower().total_cmp(&b.slower()))?;
    (worst.slower() > limit?).then(|| {
        format!(
            "{}: {:.1} µs, {:.1} µs in the baseline: {:+.1} %",
            worst.product,
            worst.now,
            worst.before,
            100.0 * worst.slower()
        )
    })
}

/// The rows of one product; if not even its vectors fit into memory, each row says so.
fn rows_of(bench: &Bench<'_>, formats: &Formats, batch: usize) -> Result<Vec<Row>> {
    use lacuna::Error as E;
    match group::measure(bench, formats, batch) {
        Err(Error::Engine(e @ (E::Limit { .. } | E::OutOfMemory { .. }))) => {
            let row = |format: &Format| Row {
                reason: Some(e.to_string()),
                ..group::blank(bench, formats, *format, batch)
            };
            Ok(formats.asked.iter().map(row).collect())
        }
        other => other,
    }
}

/// The format that `format` is compared with: dense in its value type, or the same format without
/// skipping where the operation skips.
fn baseline_of(op: Op, format: Format) -> Format {
    match op {
        Op::Linear => Format::Dense(format.dense_dtype()),
        Op::Masked | Op::InputSparse => format,
    }
}

/// The weight in every requested format and in those they are compared with.
fn formats(layer: &Layer, dense: &Dense, args: &Args) -> Result<Formats> {
    let own = dense.values().dtype();
    let mut unique: Vec<Format> = vec![];
    for format in args.formats.iter().map(|f| f.or_dtype(own)) {
        if !unique.contains(&format) {
            unique.push(format);
        }
    }
    let baselines = Dtype::ALL
        .into_iter()
        .filter(|d| {
            unique
                .iter()
                .any(|f| baseline_of(args.op, *f) == Format::Dense(*d))
        })
        .map(Format::Dense);
    let mut wanted: Vec<Format> = vec![];
    for format in baselines.chain(unique.iter().copied()) {
        if !wanted.contains(&format) {
            wanted.push(format);
        }
    }
    interrupt::check()?;
    let packed = |&format: &Format| {
        let packed = compress(dense, format).map_err(|reason| Error::Weight {
            module: layer.tensor.clone().unwrap_or_default(),
            reason,
        })?;
        Ok((format, packed))
    };
    let weights = wanted.par_iter().map(packed).collect::<Result<_>>()?;
    Ok(Formats {
        tensor: layer.tensor.clone(),
        shape: (dense.rows(), dense.cols()),
        weights,
        asked: unique,
    })
}
