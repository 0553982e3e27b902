//! `inspect`: shows what a weight file holds and how it would compress without loss.

use crate::{
    compress::is_gguf,
    error::Result,
    interrupt, out, progress,
    table::{Table, percent},
    weights,
};
use lacuna::format::{Dense, Dtype, Format};
use lacuna_io::{
    Compliance, GgufFile, Sparsity, TensorInfo, WeightFile, printable, stored_bytes, usual_patterns,
};
use lacuna_llm::Checkpoint;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
pub struct Args {
    /// A .safetensors file, a shard index, a folder with either, or a .gguf
    file: PathBuf,
    #[command(flatten)]
    reading: weights::Args,
    /// Prints JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// One weight.
#[derive(Serialize)]
struct Weight {
    name: String,
    /// How the file stores it.
    layout: String,
    /// The format in which it is read.
    format: String,
    /// How the layout was recognised, and what that implies.
    evidence: Vec<String>,
    warnings: Vec<String>,
    rows: usize,
    cols: usize,
    bytes: u64,
    dense_bytes: u64,
    /// Whether it holds codes, for which no pattern is exact.
    #[serde(skip)]
    quantised: bool,
    zero_share: f64,
    patterns: Vec<Pattern>,
    /// The smallest lossless pattern.
    exact: Option<Exact>,
}

impl Refused {
    fn of(refused: &lacuna_io::Refused) -> Self {
        Self {
            name: refused.name().into(),
            layout: refused.layout().to_string(),
            reason: refused.reason().to_string(),
        }
    }
}

/// How well a weight obeys a pattern.
#[derive(Serialize)]
struct Pattern {
    #[serde(rename = "pattern")]
    name: String,
    windows: usize,
    violating: usize,
    /// Size when compressed to it, which loses weights in windows that violate it.
    bytes: Option<u64>,
}

#[derive(Serialize, Clone)]
struct Exact {
    format: String,
    bytes: u64,
}

/// A weight that cannot be read.
#[derive(Serialize)]
struct Refused {
    name: String,
    layout: String,
    reason: String,
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
    refused: Vec<Refused>,
    others: Vec<Other>,
    bytes: u64,
    /// Size of the file with every weight in its smallest exact format.
    compressed_bytes: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let (weights, refused, others) = if is_gguf(&args.file) {
        gguf(&args.file, &GgufFile::open(&args.file)?)?
    } else {
        let file = args.reading.any_file(&args.file)?;
        let (weights, others) = safetensors(&file)?;
        (weights, file.refused().map(Refused::of).collect(), others)
    };
    let rest: u64 = others.iter().map(|t| t.bytes).sum();
    let smallest = |w: &Weight| w.exact.as_ref().map_or(w.bytes, |e| e.bytes.min(w.bytes));
    let report = Report {
        bytes: rest + weights.iter().map(|w| w.bytes).sum::<u64>(),
        compressed_bytes: rest + weights.iter().map(smallest).sum::<u64>(),
        weights,
        refused,
        others,
    };
    if args.json {
        return out::json(&report);
    }
    out::write(&text(&report))
}

fn safetensors(file: &WeightFile) -> Result<(Vec<Weight>, Vec<Other>)> {
    let bar = progress::bar(file.modules().count());
    let mut weights = vec![];
    for module in file.modules() {
        interrupt::check()?;
        bar.set_message(printable(module.name()));
        let format = module.format();
        let stored = Stored {
            name: module.name(),
            layout: module.layout().to_string(),
            format: format.to_string(),
            evidence: module.evidence(),
            warnings: module.warnings(),
            dtype: format.dtype(),
            // Codes unpack to f32.
            dense: format.dtype().unwrap_or(Dtype::F32),
            quantised: format.quant().is_some(),
            bytes: module.bytes(),
        };
        weights.push(stored.weight(&file.weight(module.name())?.to_dense()));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let other = |t: TensorInfo| Other {
        name: t.name.into(),
        dtype: t.dtype.to_string(),
        shape: t.shape.to_vec(),
        bytes: t.bytes,
    };
    Ok((weights, file.plain_tensors().map(other).collect()))
}

/// The tensors of a GGUF file; its weights are the matrices of readable types.
///
/// A model that commands know has Hugging Face's names for its weights, as everywhere else; its codes are
/// those that commands read.
fn gguf(path: &Path, file: &GgufFile) -> Result<(Vec<Weight>, Vec<Refused>, Vec<Other>)> {
    let model = Checkpoint::open(path).ok();
    let mut modules = HashMap::new();
    if let Some(model) = &model {
        for module in model.modules() {
            modules.insert(
                format!("{}.weight", model.stored_name(&module)?),
                (model, module),
            );
        }
    }
    let bar = progress::bar(file.tensors().count());
    let (mut weights, mut refused, mut others) = (vec![], vec![], vec![]);
    for tensor in file.tensors() {
        interrupt::check()?;
        bar.set_message(printable(tensor.name));
        let ggml_type = tensor.ggml_type;
        match *tensor.shape {
            [rows, cols] if ggml_type.is_readable() && rows * cols > 0 => {
                let known = modules.get(tensor.name);
                let dtype = ggml_type.dtype();
                // Blocks that are no codes of ours are decoded to f16 when they are loaded.
                let dense = dtype.unwrap_or(Dtype::F16);
                let (format, values) = if let Some((model, module)) = known {
                    let matrix = model.matrix(module)?;
                    (matrix.format(), matrix.to_dense())
                } else {
                    let quant = file.quant(tensor.name)?;
                    let format = quant.map_or(Format::Dense(dense), |quant| {
                        let pattern = None;
                        Format::Quantized { pattern, quant }
                    });
                    let values = file.read_f32(tensor.name)?;
                    (format, Dense::from_f32(rows, cols, values)?)
                };
                let stored = Stored {
                    name: known.map_or(tensor.name, |(_, module)| module),
                    layout: format!("GGUF {ggml_type}"),
                    format: format.to_string(),
                    evidence: &[],
                    warnings: &[],
                    dtype,
                    dense,
                    quantised: dtype.is_none(),
                    bytes: tensor.bytes,
                };
                weights.push(stored.weight(&values));
            }
            [_, _] if !ggml_type.is_readable() => refused.push(Refused {
                name: tensor.name.into(),
                layout: format!("GGUF {ggml_type}"),
                reason: format!("blocks of {ggml_type} cannot be decoded"),
            }),
            _ => others.push(Other {
                name: tensor.name.into(),
                dtype: ggml_type.to_string(),
                shape: tensor.shape.to_vec(),
                bytes: tensor.bytes,
            }),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((weights, refused, others))
}

/// What a file tells about a weight.
struct Stored<'a> {
    name: &'a str,
    layout: String,
    format: String,
    evidence: &'a [String],
    warnings: &'a [String],
    /// The type of its values, unless they are codes.
    dtype: Option<Dtype>,
    /// The type of its values when unpacked.
    dense: Dtype,
    quantised: bool,
    bytes: u64,
}

impl Stored<'_> {
    fn weight(self, dense: &Dense) -> Weight {
        let (rows, cols, dtype) = (dense.rows(), dense.cols(), self.dtype);
        let bytes_of = |pattern| stored_bytes(Format::Nm { pattern, dtype }, rows, cols);
        let sparsity = Sparsity::of(dense, &usual_patterns());
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
        Weight {
            name: self.name.into(),
            layout: self.layout,
            format: self.format,
            evidence: self.evidence.to_vec(),
            warnings: self.warnings.to_vec(),
            rows,
            cols,
            bytes: self.bytes,
            dense_bytes: stored_bytes(Format::Dense(self.dense), rows, cols).unwrap_or_default(),
            quantised: self.quantised,
            zero_share: sparsity.zero_share(),
            patterns: sparsity.patterns.iter().map(pattern).collect(),
            exact,
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    if !report.weights.is_empty() {
        let mut table = Table::new([
            "weight",
            "stored as",
            "format",
            "rows x cols",
            "bytes",
            "zeros",
            "windows beyond 2:4",
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
                w.layout.clone(),
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
                    Some(e) if e.bytes >= w.bytes => "n/a (none is smaller)".into(),
                    Some(e) => format!("{} as {}", e.bytes, e.format),
                    None if w.quantised => "n/a (quantised)".into(),
                    None => "n/a (pruning needed)".into(),
                },
            ]);
        }
        text += &table.text();
        text += &evidence(&report.weights);
    }
    if !report.refused.is_empty() {
        let mut table = Table::new(["not readable", "looks like", "why not"]);
        for r in &report.refused {
            table.row([printable(&r.name), r.layout.clone(), r.reason.clone()]);
        }
        text += "\n";
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
        "\n{} weights, {} not readable, {} other tensors, {} bytes; {} with every weight in its smallest exact format",
        report.weights.len(),
        report.refused.len(),
        report.others.len(),
        report.bytes,
        report.compressed_bytes
    );
    text
}

/// How layouts of other programs were recognised, grouped by weights with the same evidence, and the
/// warnings about weights.
fn evidence(weights: &[Weight]) -> String {
    let mut text = String::new();
    let mut counts: BTreeMap<(&str, &[String]), usize> = BTreeMap::new();
    for w in weights.iter().filter(|w| !w.evidence.is_empty()) {
        *counts.entry((&w.layout, &w.evidence)).or_default() += 1;
    }
    if !counts.is_empty() {
        let mut table = Table::new(["found", "weights", "by"]);
        for ((layout, evidence), count) in counts {
            table.row([layout.into(), count.to_string(), evidence.join("; ")]);
        }
        text += "\n";
        text += &table.text();
    }
    for w in weights {
        for warning in &w.warnings {
            let _ = writeln!(text, "\nwarning: {}: {warning}", printable(&w.name));
        }
    }
    text
}
