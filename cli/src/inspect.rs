//! `inspect`: what a weight file holds and how it would compress without loss.

use crate::{
    error::Result,
    interrupt, out, progress,
    table::{Table, percent},
};
use lacuna::format::{Dtype, Format};
use lacuna_io::{
    Compliance, Module, Sparsity, WeightFile, printable, stored_bytes, usual_patterns,
};
use serde::Serialize;
use std::{fmt::Write, path::PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// A .safetensors file, a shard index, or a folder with either
    file: PathBuf,
    /// Prints JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// One weight.
#[derive(Serialize)]
struct Weight {
    name: String,
    format: String,
    rows: usize,
    cols: usize,
    bytes: u64,
    dense_bytes: u64,
    /// Codes have no exact form with fewer of them.
    #[serde(skip)]
    quantised: bool,
    zero_share: f64,
    patterns: Vec<Pattern>,
    /// The smallest of the patterns that lose nothing.
    exact: Option<Exact>,
}

/// How far a weight obeys a pattern.
#[derive(Serialize)]
struct Pattern {
    #[serde(rename = "pattern")]
    name: String,
    windows: usize,
    violating: usize,
    /// Bytes once compressed to it, losing something where windows violate it.
    bytes: Option<u64>,
}

#[derive(Serialize, Clone)]
struct Exact {
    format: String,
    bytes: u64,
}

/// A tensor that belongs to no weight.
#[derive(Serialize)]
struct Other {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: u64,
}

#[derive(Serialize)]
struct Report {
    weights: Vec<Weight>,
    others: Vec<Other>,
    bytes: u64,
    /// With every weight in its smallest exact format.
    compressed_bytes: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let file = WeightFile::open(&args.file)?;
    let bar = progress::bar(file.modules().count());
    let mut weights = vec![];
    for module in file.modules() {
        interrupt::check()?;
        bar.set_message(printable(module.name()));
        weights.push(weight(&file, module)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let others: Vec<Other> = file
        .plain_tensors()
        .map(|t| Other {
            name: t.name.into(),
            dtype: t.dtype.to_string(),
            shape: t.shape.to_vec(),
            bytes: t.bytes,
        })
        .collect();
    let rest: u64 = others.iter().map(|t| t.bytes).sum();
    let smallest = |w: &Weight| w.exact.as_ref().map_or(w.bytes, |e| e.bytes.min(w.bytes));
    let report = Report {
        bytes: rest + weights.iter().map(|w| w.bytes).sum::<u64>(),
        compressed_bytes: rest + weights.iter().map(smallest).sum::<u64>(),
        weights,
        others,
    };
    if args.json {
        return out::json(&report);
    }
    out::write(&text(&report))
}

fn weight(file: &WeightFile, module: &Module) -> Result<Weight> {
    let (rows, cols, format) = (module.rows(), module.cols(), module.format());
    let dtype = format.dtype();
    let bytes_of = |pattern| stored_bytes(Format::Nm { pattern, dtype }, rows, cols);
    let sparsity = Sparsity::of(&file.weight(module.name())?.to_dense(), &usual_patterns());
    let pattern = |c: &Compliance| Pattern {
        name: c.pattern.to_string(),
        windows: c.windows,
        violating: c.violating,
        bytes: bytes_of(c.pattern),
    };
    let exact = sparsity
        .satisfied()
        .filter_map(|p| bytes_of(p).map(|bytes| (bytes, p)))
        .min_by_key(|(bytes, _)| *bytes)
        .map(|(bytes, pattern)| Exact {
            format: Format::Nm { pattern, dtype }.to_string(),
            bytes,
        });
    Ok(Weight {
        name: module.name().into(),
        format: format.to_string(),
        rows,
        cols,
        bytes: module.bytes(),
        // Codes unpack to f32.
        dense_bytes: stored_bytes(Format::Dense(dtype.unwrap_or(Dtype::F32)), rows, cols)
            .unwrap_or_default(),
        quantised: format.quant().is_some(),
        zero_share: sparsity.zero_share(),
        patterns: sparsity.patterns.iter().map(pattern).collect(),
        exact,
    })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    if !report.weights.is_empty() {
        let mut table = Table::new([
            "weight",
            "format",
            "rows x cols",
            "bytes",
            "zeros",
            "windows not 2:4",
            "obeys",
            "bytes compressed",
        ]);
        for w in &report.weights {
            let obeyed = w.patterns.iter().filter(|p| p.violating == 0);
            let obeyed: Vec<&str> = obeyed.map(|p| p.name.as_str()).collect();
            let half = w.patterns.iter().find(|p| p.name == "2:4");
            let violating = half.map(|p| percent(p.violating as f64 / p.windows.max(1) as f64));
            table.row([
                printable(&w.name),
                w.format.clone(),
                format!("{} x {}", w.rows, w.cols),
                w.bytes.to_string(),
                percent(w.zero_share),
                violating.unwrap_or_else(|| "n/a".into()),
                if obeyed.is_empty() {
                    "none".into()
                } else {
                    obeyed.join(" ")
                },
                match &w.exact {
                    Some(e) => format!("{} as {}", e.bytes, e.format),
                    None if w.quantised => "n/a (quantised)".into(),
                    None => "n/a (pruning needed)".into(),
                },
            ]);
        }
        text += &table.text();
    }
    if !report.others.is_empty() {
        let mut table = Table::new(["other tensor", "type", "shape", "bytes"]);
        for t in &report.others {
            table.row([
                printable(&t.name),
                t.dtype.clone(),
                format!("{:?}", t.shape),
                t.bytes.to_string(),
            ]);
        }
        text += "\n";
        text += &table.text();
    }
    let _ = writeln!(
        text,
        "\n{} weights, {} other tensors, {} bytes; {} with every weight in its smallest exact format",
        report.weights.len(),
        report.others.len(),
        report.bytes,
        report.compressed_bytes
    );
    text
}
