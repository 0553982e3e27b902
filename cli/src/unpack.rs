//! `unpack`: every weight as dense f32, for tools that know nothing of sparsity.

use crate::{error::Result, interrupt, progress};
use lacuna::format::{Dtype, Format};
use lacuna_io::{Output, WeightFile, printable};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A .safetensors file, a shard index, or a folder with either
    input: PathBuf,
    /// The file to write; it appears complete or not at all
    #[arg(short, long)]
    output: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let file = WeightFile::open(&args.input)?;
    file.check_output(&args.output)?;
    let mut plan = Output::new();
    plan.metadata(file.metadata());
    for module in file.modules() {
        let format = Format::Dense(Dtype::F32);
        plan.weight(module.name(), format, module.rows(), module.cols())?;
    }
    for tensor in file.plain_tensors() {
        plan.tensor(tensor.name, tensor.dtype, tensor.shape)?;
    }
    interrupt::defer();
    let mut writer = plan.create(&args.output)?;
    let bar = progress::bar(file.modules().count());
    for module in file.modules() {
        interrupt::check()?;
        bar.set_message(printable(module.name()));
        let dense = file.weight(module.name())?.to_dense();
        writer.weight(module.name(), &dense.into())?;
        bar.inc(1);
    }
    for tensor in file.plain_tensors() {
        interrupt::check()?;
        writer.tensor(tensor.name, &file.raw(tensor.name)?.bytes)?;
    }
    writer.finish()?;
    bar.finish_and_clear();
    Ok(())
}
