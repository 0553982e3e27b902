//! `compress`: dense weights in, pruned, quantised and packed ones out.

use crate::{
    error::{Error, Result},
    interrupt, out, progress,
    table::Table,
};
use lacuna::{
    compress::{compress, relative_error},
    format::{Dense, Dtype, Format, Matrix},
};
use lacuna_io::{Module, Output, TensorGlobs, WeightFile, printable};
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// A .safetensors file, a shard index, or a folder with either
    input: PathBuf,
    /// The file to write; it appears complete or not at all
    #[arg(short, long)]
    output: PathBuf,
    /// Weight format: 2:4 or 1:8x16@f16 (N:M pruned), w4g128 or w3row (quantised, a scale for G
    /// columns or the row), 2:4+w4g64 (both), w4g16s50 (50 % of the groups dropped); the
    /// quantised ones take -sym, the last also -ragged
    #[arg(long)]
    format: Format,
    /// What decides which weights are kept
    #[arg(long, value_enum, default_value_t = Score::Magnitude)]
    score: Score,
    /// Weights to compress, by module name; !GLOB excludes
    /// [default: all but embeddings, output heads and norms]
    #[arg(long = "tensor", value_name = "GLOB")]
    tensors: Vec<String>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Score {
    /// The largest sums of squares
    Magnitude,
}

/// One compressed weight.
#[derive(Serialize)]
struct Row {
    name: String,
    from: String,
    to: String,
    rows: usize,
    cols: usize,
    bytes_before: u64,
    bytes_after: u64,
    /// ‖W − W'‖ / ‖W‖
    relative_error: f64,
}

#[derive(Serialize)]
struct Report {
    weights: Vec<Row>,
    /// Tensors that were copied.
    copied: usize,
    bytes_before: u64,
    bytes_after: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let Score::Magnitude = args.score;
    let file = WeightFile::open(&args.input)?;
    file.check_output(&args.output)?;
    let names = file.modules().map(Module::name);
    let selected: BTreeSet<&str> = TensorGlobs::new(&args.tensors)?
        .select(names)?
        .into_iter()
        .collect();
    // A weight that stays as it is keeps its sections.
    let target = |module: &Module| {
        if selected.contains(module.name()) {
            args.format
                .or_dtype(module.format().dtype().unwrap_or(Dtype::F32))
        } else {
            module.format()
        }
    };

    let mut plan = Output::new();
    plan.metadata(file.metadata());
    for module in file.modules() {
        plan.weight(module.name(), target(module), module.rows(), module.cols())?;
    }
    for tensor in file.plain_tensors() {
        plan.tensor(tensor.name, tensor.dtype, tensor.shape)?;
    }

    interrupt::defer();
    let mut writer = plan.create(&args.output)?;
    let bar = progress::bar(file.modules().count());
    let mut report = Report {
        weights: vec![],
        copied: 0,
        bytes_before: 0,
        bytes_after: 0,
    };
    for module in file.modules() {
        interrupt::check()?;
        bar.set_message(printable(module.name()));
        let weight = file.weight(module.name())?;
        if selected.contains(module.name()) {
            let (packed, row) = pack(module, weight, target(module))?;
            writer.weight(module.name(), &packed)?;
            report.bytes_before += row.bytes_before;
            report.bytes_after += row.bytes_after;
            report.weights.push(row);
        } else {
            writer.weight(module.name(), &weight)?;
            report.bytes_before += module.bytes();
            report.bytes_after += module.bytes();
            report.copied += 1;
        }
        bar.inc(1);
    }
    for tensor in file.plain_tensors() {
        interrupt::check()?;
        writer.tensor(tensor.name, &file.raw(tensor.name)?.bytes)?;
        report.bytes_before += tensor.bytes;
        report.bytes_after += tensor.bytes;
        report.copied += 1;
    }
    writer.finish()?;
    bar.finish_and_clear();
    if args.json {
        return out::json(&report);
    }
    out::write(&text(&report))
}

fn pack(module: &Module, weight: Matrix, format: Format) -> Result<(Matrix, Row)> {
    let named = |reason| Error::Weight {
        module: module.name().into(),
        reason,
    };
    let dense: Dense = match weight {
        Matrix::Dense(dense) => dense,
        sparse => {
            let dtype = sparse.format().dtype().unwrap_or(Dtype::F32);
            sparse.to_dense().to_dtype(dtype).map_err(named)?
        }
    };
    let packed = compress(&dense, format).map_err(named)?;
    let row = Row {
        name: module.name().into(),
        from: module.format().to_string(),
        to: packed.format().to_string(),
        rows: module.rows(),
        cols: module.cols(),
        bytes_before: module.bytes(),
        bytes_after: packed.stored_bytes() as u64,
        relative_error: relative_error(&dense, &packed).map_err(named)?,
    };
    Ok((packed, row))
}

fn text(report: &Report) -> String {
    let mut table = Table::new([
        "weight",
        "from",
        "to",
        "rows x cols",
        "bytes before",
        "bytes after",
        "relative error",
    ]);
    for row in &report.weights {
        table.row([
            printable(&row.name),
            row.from.clone(),
            row.to.clone(),
            format!("{} x {}", row.rows, row.cols),
            row.bytes_before.to_string(),
            row.bytes_after.to_string(),
            format!("{:.4}", row.relative_error),
        ]);
    }
    format!(
        "{}\n{} weights compressed, {} tensors copied; {} bytes before, {} after\n",
        table.text(),
        report.weights.len(),
        report.copied,
        report.bytes_before,
        report.bytes_after
    )
}
