//! `recover`: trains a compressed model against the dense one it was made from.

mod how;
mod work;

use crate::{
    compress::{Input, join::Place},
    error::{Error, Result},
    interrupt, out, progress,
    table::Table,
    weights,
};
use how::{How, Stage};
use lacuna::format::Matrix;
use lacuna_io::{Output, WeightFile, write_file};
use lacuna_llm::{Checkpoint, Linear};
use lacuna_recover::{Job, Journal, Progress, cpu, recover_blocks, recover_model};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};
use work::{Record, Work};

#[derive(clap::Args)]
pub struct Args {
    /// The dense model: a Hugging Face folder, a .safetensors beside its config.json, or a .gguf
    dense: PathBuf,
    /// The compressed model that `compress` made of it: a folder, or a .safetensors beside its config.json
    packed: PathBuf,
    /// The folder to write, or a file if it is called ….safetensors; it appears complete or not
    /// at all
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    how: How,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What the training of a block or of the model gained.
#[derive(Debug, Serialize)]
struct Row {
    trained: String,
    steps: usize,
    /// Nats per token on the held-out windows: for the model, its Kullback-Leibler divergence from the
    /// dense one; for a block, what its error adds to that divergence, to second order.
    before: f64,
    after: f64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    dense: PathBuf,
    packed: PathBuf,
    output: PathBuf,
    windows: usize,
    context: usize,
    /// The trainings of this run, without those of earlier runs that it continued.
    trained: Vec<Row>,
    seconds: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let begin = Instant::now();
    let dense = Checkpoint::open(&args.dense)?;
    let packed = Checkpoint::open(&args.packed)?;
    let stored = WeightFile::open(&args.packed)?;
    stored.check_output(&args.output)?;
    out::differs(&args.output, [&args.dense, &args.packed])?;
    let beside = packed.files_beside()?;
    let place = Place::new(&args.output, true)?;
    let windows = args.how.windows(&dense)?;
    let context = windows[0].len();
    let options = args.how.options(context);
    let fingerprints =
        |path: &Path| Input::open(path, weights::Args::default(), false)?.fingerprints();
    let record = Record::new(
        fingerprints(&args.dense)?,
        fingerprints(&args.packed)?,
        &windows,
        format!("{:?}, {options:?}", args.how.stage),
    );

    interrupt::defer();
    let work = Work::create(&args.output, &record)?;
    let job = Job {
        dense: &dense,
        packed: &packed,
        windows: &windows,
        device: &cpu(),
        options: &options,
    };
    let mut trained = vec![];
    let layers = train(&job, args.how.stage, &work.journal(), &mut trained).inspect_err(|e| {
        work.remove_if_nothing_is_done();
        if matches!(e, Error::Interrupted) && work.folder().exists() {
            crate::note!("what is done is in {work}; the same command goes on with it");
        }
    })?;
    let recovered = by_name(&packed, &layers)?;
    place.put(
        work.folder(),
        |folder| {
            let mut files = beside.iter();
            Ok(files.try_for_each(|(name, bytes)| write_file(folder.join(name), bytes))?)
        },
        |file| write(&stored, &recovered, file),
    )?;
    work.remove(layers.len());
    let report = Report {
        tool: "lacuna recover",
        version: env!("CARGO_PKG_VERSION"),
        dense: args.dense.clone(),
        packed: args.packed.clone(),
        output: args.output.clone(),
        windows: windows.len(),
        context,
        trained,
        seconds: begin.elapsed().as_secs_f64(),
    };
    if args.json {
        out::json(&report)
    } else {
        out::write(&report.text())
    }
}

/// Runs the stages and records what each training gained.
fn train(
    job: &Job,
    stage: Stage,
    journal: &Journal,
    trained: &mut Vec<Row>,
) -> Result<Vec<[Matrix; 7]>> {
    let bar = progress::spinner();
    let mut begin = Instant::now();
    let mut listener = |progress: &Progress| {
        let (done, steps) = progress.steps;
        let of = match progress.block {
            Some((n, blocks)) => format!("block {} of {blocks}", n + 1),
            None => "model".into(),
        };
        bar.set_message(format!(
            "{of}, step {done} of {steps}: {:.5}",
            progress.loss
        ));
        bar.tick();
        if done == steps {
            let row = Row {
                trained: of,
                steps,
                before: progress.start,
                after: progress.best,
                seconds: begin.elapsed().as_secs_f64(),
            };
            crate::note!(
                "{}: {:.5} before, {:.5} after {steps} steps, {:.1} s",
                row.trained,
                row.before,
                row.after,
                row.seconds
            );
            trained.push(row);
            begin = Instant::now();
        }
        if interrupt::check().is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let layers = match stage {
        Stage::Model => job.packed_layers(),
        Stage::Block | Stage::All => recover_blocks(job, Some(journal), &mut listener),
    }?;
    let layers = match stage {
        Stage::Block => layers,
        Stage::Model | Stage::All => recover_model(job, &layers, Some(journal), &mut listener)?,
    };
    bar.finish_and_clear();
    Ok(layers)
}

/// The products by their names in the file.
fn by_name<'a>(
    packed: &Checkpoint,
    layers: &'a [[Matrix; 7]],
) -> Result<BTreeMap<String, &'a Matrix>> {
    let mut named = BTreeMap::new();
    for (n, layer) in layers.iter().enumerate() {
        for (linear, matrix) in Linear::ALL.into_iter().zip(layer) {
            named.insert(packed.stored_name(&linear.module(n))?, matrix);
        }
    }
    Ok(named)
}

/// Writes the content of `from`, with the weights in `recovered` replaced.
fn write(from: &WeightFile, recovered: &BTreeMap<String, &Matrix>, file: &Path) -> Result<()> {
    let mut output = Output::new();
    output.metadata(from.metadata());
    for module in from.modules() {
        output.weight(module.name(), module.format(), module.rows(), module.cols())?;
    }
    for tensor in from.plain_tensors() {
        output.tensor(tensor.name, tensor.dtype, tensor.shape)?;
    }
    let mut writer = output.create(file)?;
    for module in from.modules() {
        interrupt::check()?;
        match recovered.get(module.name()) {
            Some(matrix) => writer.weight(module.name(), matrix)?,
            None => writer.weight(module.name(), &from.weight(module.name())?)?,
        }
    }
    for tensor in from.plain_tensors() {
        interrupt::check()?;
        writer.tensor(tensor.name, &from.raw(tensor.name)?.bytes)?;
    }
    Ok(writer.finish()?)
}

impl Report {
    fn text(&self) -> String {
        let mut table = Table::new(["trained", "steps", "loss before", "after", "s"]);
        for row in &self.trained {
            table.row([
                row.trained.clone(),
                row.steps.to_string(),
                format!("{:.5}", row.before),
                format!("{:.5}", row.after),
                format!("{:.1}", row.seconds),
            ]);
        }
        format!(
            "{}\n{} windows of {} tokens, {:.1} s; losses on windows that were not trained on, in \
             nats a token: of the model from the dense one, of a block what its error adds to that\n",
            table.text(),
            self.windows,
            self.context,
            self.seconds
        )
    }
}
