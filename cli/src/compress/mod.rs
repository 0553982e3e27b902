//! `compress`: prunes, quantises and packs dense weights.
//!
//! A job is split into parts, one per layer. Each finished part is a file in a work folder; the output
//! joins them and does not depend on which machine computed them or when.

mod input;
pub mod job;
pub mod join;
pub mod merge;
mod method;
mod plan;
mod report;
mod shards;

use crate::{
    error::{Error, Result},
    interrupt, progress, weights,
};
use input::Weight;
pub use input::{Input, is_gguf};
use job::Job;
use join::Place;
use lacuna::{
    compress::relative_error,
    format::{Dense, Dtype, Format, Matrix},
};
use lacuna_io::{printable, sha256};
use method::Method;
use plan::{Content, Layers, Part, Plan, Target};
use rayon::prelude::*;
use report::{Report, Row};
use shards::Shards;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

#[derive(clap::Args)]
pub struct Args {
    /// A .safetensors file, a shard index, a folder with either, or a .gguf
    input: PathBuf,
    /// The file to write, or for a model folder or .gguf the folder, unless it is called
    /// ….safetensors; it appears complete or not at all
    #[arg(short, long)]
    output: PathBuf,
    /// Weight format: 2:4 or 1:8x16@f16 (N:M pruned), w4g128 or w3row (quantised, a scale for G
    /// columns or the row), 2:4+w4g64 (both), w4g16s50 (50 % of the groups dropped). Codes may end
    /// in -sym (no zero points) or -real (f16 zero points, not where groups are dropped), dropped groups
    /// in -ragged. Or @FILE with a recipe of lines GLOB = FORMAT | dense
    #[arg(long, value_name = "FORMAT|@FILE")]
    format: String,
    #[command(flatten)]
    method: method::Args,
    /// Weights to compress, by module name; !GLOB excludes
    /// [default: all but embeddings, output heads and norms; with a recipe, those it names]
    #[arg(long = "tensor", value_name = "GLOB")]
    tensors: Vec<String>,
    /// Computes only the layers from A up to, not including, B, and leaves them in the folder OUTPUT
    /// for `merge`
    #[arg(long, value_name = "A..B")]
    layers: Option<Layers>,
    #[command(flatten)]
    reading: weights::Args,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let whole = args.layers.is_none();
    let folder = if whole {
        work_folder(&args.output)?
    } else {
        args.output.clone()
    };
    let target = Target::parse(&args.format)?;
    let input = Input::open(
        &args.input,
        args.reading,
        whole && join::names_a_file(&args.output),
    )?;
    let plan = Plan::new(&input, &target, &args.tensors)?;
    let wanted = plan.select(args.layers.as_ref())?;
    let method = Method::new(&args.method, &plan)?;
    let beside = input.files_beside()?;
    let hashed = |(name, bytes): &(String, Vec<u8>)| (name.clone(), sha256(bytes));
    let job = Job {
        input: input.fingerprints()?,
        format: target.to_string(),
        tensors: args.tensors.clone(),
        score: method.score.to_string(),
        statistics: method.statistics.clone(),
        recover: method.recover.to_string(),
        beside: beside.iter().map(hashed).collect(),
        parts: plan.parts.keys().map(Part::to_string).collect(),
        ..Job::new()
    };
    let place = if whole {
        input.check_output(&args.output)?;
        let files = args.method.files().chain([args.input.as_path()]);
        crate::out::differs(&args.output, files)?;
        Some(Place::new(&args.output, !beside.is_empty())?)
    } else {
        None
    };

    interrupt::defer();
    let shards = Shards::create(&folder, job, &beside)?;
    let work = Work {
        input: &input,
        method: &method,
        shards: &shards,
    };
    let report = work.parts(&plan, &wanted).inspect_err(|e| {
        shards.remove_if_nothing_is_done();
        if matches!(e, Error::Interrupted) && folder.exists() {
            let folder = printable(&folder.to_string_lossy());
            crate::note!("what is done is in {folder}; the same command goes on with it");
        }
    })?;
    if let Some(place) = place {
        place.join(&shards, &folder)?;
        shards.remove();
    }
    report.print(args.json)
}

/// The work folder of an output, `OUT.parts` beside it.
fn work_folder(output: &Path) -> Result<PathBuf> {
    let Some(name) = output.file_name() else {
        let shown = printable(&output.to_string_lossy());
        let reason =
            format!("the output {shown} has no name of its own that {shown}.parts could follow");
        return Err(Error::Usage(reason));
    };
    let mut name = name.to_owned();
    name.push(".parts");
    Ok(output.with_file_name(name))
}

/// Bytes that the weights compressed at the same time may take, by [`Method::cost`].
const BUDGET: u64 = 2 << 30;

/// What is needed to compute parts.
struct Work<'a> {
    input: &'a Input,
    method: &'a Method,
    shards: &'a Shards,
}

impl Work<'_> {
    /// Computes the unfinished parts, one after the other, and reports all of them.
    fn parts(&self, plan: &Plan, wanted: &[Part]) -> Result<Report> {
        let mut report = Report::default();
        for (i, &part) in wanted.iter().enumerate() {
            interrupt::check()?;
            let begin = Instant::now();
            let Some(content) = plan.parts.get(&part) else {
                continue;
            };
            let kept = self.shards.check(part).unwrap_or_else(|e| {
                log::warn!("{e}; it is computed again");
                None
            });
            let was_done = kept.is_some();
            let of_part = match kept {
                Some(of_part) => of_part,
                None => self.part(part, content)?,
            };
            let time = if was_done {
                "done before".into()
            } else {
                format!("{:.1} s", begin.elapsed().as_secs_f64())
            };
            let (weights, copied) = (of_part.weights.len(), of_part.copied);
            crate::note!(
                "{part} ({} of {}): {weights} weights compressed, {copied} tensors copied, {time}",
                i + 1,
                wanted.len()
            );
            report.append(of_part);
        }
        Ok(report)
    }

    fn part(&self, part: Part, content: &Content) -> Result<Report> {
        let mut output = content.declare()?;
        if part == Part::Rest {
            output.metadata(&self.input.metadata());
        }
        let mut writer = output.create(self.shards.file(part))?;
        let mut report = Report::default();
        let bar = progress::bar(content.compressed.len());
        bar.set_message(part.to_string());
        for batch in self.batches(&content.compressed) {
            let packed: Vec<(Matrix, Row)> = batch
                .par_iter()
                .map(|(weight, format)| {
                    interrupt::check()?;
                    let packed = self.pack(weight, *format);
                    bar.inc(1);
                    packed
                })
                .collect::<Result<_>>()?;
            for (matrix, row) in packed {
                writer.weight(&row.name, &matrix)?;
                report.compressed(row);
            }
        }
        for weight in &content.kept {
            interrupt::check()?;
            let matrix = self.input.weight(weight)?;
            writer.weight(&weight.name, &matrix)?;
            report.copied(weight.bytes, matrix.stored_bytes() as u64);
        }
        for tensor in &content.tensors {
            interrupt::check()?;
            writer.tensor(&tensor.name, &self.input.tensor(tensor)?)?;
            report.copied(tensor.bytes, tensor.bytes);
        }
        writer.finish()?;
        bar.finish_and_clear();
        self.shards.done(part, &report)?;
        Ok(report)
    }

    fn pack(&self, weight: &Weight, format: Format) -> Result<(Matrix, Row)> {
        let named = |reason| Error::Weight {
            module: weight.name.clone(),
            reason,
        };
        let dense: Dense = match self.input.weight(weight)? {
            Matrix::Dense(dense) => dense,
            sparse => {
                let dtype = sparse.format().dtype().unwrap_or(Dtype::F32);
                sparse.to_dense().to_dtype(dtype).map_err(named)?
            }
        };
        let compressed = self.method.compress(&weight.module, &dense, format)?;
        let packed = compressed.matrix;
        let bytes = packed.stored_bytes();
        let row = Row {
            name: weight.name.clone(),
            from: weight.stored.clone(),
            to: packed.format().to_string(),
            rows: weight.rows,
            cols: weight.cols,
            bytes_before: weight.bytes,
            bytes_after: bytes as u64,
            bits_per_weight: 8.0 * bytes as f64 / (weight.rows as f64 * weight.cols as f64),
            relative_error: relative_error(&dense, &packed).map_err(named)?,
            output_error: compressed.output_error,
        };
        Ok((packed, row))
    }
    /// Splits `weights` into runs that fit the budget together, or single weights that exceed it.
    fn batches<'w>(
        &self,
        weights: &'w [(Weight, Format)],
    ) -> impl Iterator<Item = &'w [(Weight, Format)]> {
        let mut rest = weights;
        std::iter::from_fn(move || {
            let mut sum = 0;
            let fits = rest.iter().take_while(|(weight, _)| {
                sum += self.method.cost(weight);
                sum <= BUDGET
            });
            let count = fits.count().max(1).min(rest.len());
            let (batch, others) = rest.split_at(count);
            rest = others;
            (!batch.is_empty()).then_some(batch)
        })
    }
}
