//! `unpack`: writes every weight in a form that other programs can read.

use crate::{
    compress::join::{self, Place, names_a_file},
    error::{Error, Result},
    interrupt, out, progress, weights,
};
use lacuna::format::{Dtype, Format, Matrix};
use lacuna_io::{
    Module, Output, WeightFile, Writer, pack_quantized_config, packs_quantized, printable,
    write_file,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The name of a model's configuration.
const CONFIG: &str = "config.json";

#[derive(clap::Args)]
pub struct Args {
    /// A .safetensors file, a shard index, or a folder with either
    input: PathBuf,
    /// The file to write, or for a model folder the folder, unless it is called ….safetensors;
    /// it appears complete or not at all
    #[arg(short, long)]
    output: PathBuf,
    /// What weights become
    #[arg(long = "as", value_enum, default_value_t = Form::Dense)]
    form: Form,
    #[command(flatten)]
    reading: weights::Args,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// f32 values, zeros included
    Dense,
    /// Codes in compressed-tensors' layout; a weight without codes keeps its type, zeros included
    PackQuantized,
}

pub fn run(args: &Args) -> Result<()> {
    let file = args.reading.file(&args.input)?;
    file.check_output(&args.output)?;
    out::differs(&args.output, [&args.input])?;
    let unpacking = Unpacking {
        file: &file,
        form: args.form,
    };
    if !args.input.join(CONFIG).exists() || names_a_file(&args.output) {
        interrupt::defer();
        unpacking.write(&args.output)?;
        return unpacking.report(&args.output);
    }
    let place = Place::new(&args.output, true)?;
    let beside = args.reading.model(&args.input)?.files_beside()?;
    interrupt::defer();
    place.put(
        join::folder(&args.output),
        |folder| {
            for (name, bytes) in &beside {
                let path = folder.join(name);
                match name.as_str() {
                    CONFIG => write_file(path, &unpacking.config(bytes)?)?,
                    _ => write_file(path, bytes)?,
                }
            }
            Ok(())
        },
        |path| unpacking.write(path),
    )?;
    unpacking.report(&args.output)
}

struct Unpacking<'a> {
    file: &'a WeightFile,
    form: Form,
}

/// What one weight becomes.
enum Becomes {
    Dense(Dtype),
    Packed,
}

impl Unpacking<'_> {
    fn report(&self, output: &Path) -> Result<()> {
        let (weights, others) = (
            self.file.modules().count(),
            self.file.plain_tensors().count(),
        );
        let output = printable(&output.to_string_lossy());
        out::write(&format!(
            "{weights} weights and {others} other tensors written to {output}\n"
        ))
    }

    fn becomes(&self, module: &Module) -> Becomes {
        match (self.form, module.format()) {
            (Form::Dense, _) => Becomes::Dense(Dtype::F32),
            (Form::PackQuantized, format) if packs_quantized(format, module.cols()) => {
                Becomes::Packed
            }
            (Form::PackQuantized, format) => Becomes::Dense(format.dtype().unwrap_or(Dtype::F32)),
        }
    }

    fn write(&self, path: &Path) -> Result<()> {
        let file = self.file;
        let mut plan = Output::new();
        plan.metadata(file.metadata());
        for module in file.modules() {
            let (name, rows, cols) = (module.name(), module.rows(), module.cols());
            match self.becomes(module) {
                Becomes::Dense(dtype) => plan.weight(name, Format::Dense(dtype), rows, cols)?,
                Becomes::Packed => {
                    plan.pack_quantized(name, module.format(), rows, cols, module.factor())?;
                }
            }
        }
        for tensor in file.plain_tensors() {
            plan.tensor(tensor.name, tensor.dtype, tensor.shape)?;
        }
        let mut writer = plan.create(path)?;
        let bar = progress::bar(file.modules().count());
        for module in file.modules() {
            interrupt::check()?;
            bar.set_message(printable(module.name()));
            self.weight(module, &mut writer)?;
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

    fn weight(&self, module: &Module, writer: &mut Writer) -> Result<()> {
        let name = module.name();
        let matrix = self.file.weight(name)?;
        match self.becomes(module) {
            Becomes::Packed => Ok(writer.pack_quantized(name, &matrix)?),
            Becomes::Dense(dtype) => {
                let dense = match matrix {
                    Matrix::Dense(dense) => dense,
                    sparse => sparse.to_dense(),
                };
                let dense = dense.to_dtype(dtype).map_err(|reason| Error::Weight {
                    module: name.into(),
                    reason,
                })?;
                Ok(writer.weight(name, &dense.into())?)
            }
        }
    }

    /// `config.json` of the output: that of the input, with the new quantisation of the weights.
    fn config(&self, input: &[u8]) -> Result<Vec<u8>> {
        let Form::PackQuantized = self.form else {
            return Ok(input.to_vec());
        };
        let malformed = |e: serde_json::Error| Error::Input(format!("{CONFIG}: {e}"));
        let mut json: Value = serde_json::from_slice(input).map_err(malformed)?;
        let weights = self
            .file
            .modules()
            .map(|m| (m.name(), m.format(), m.cols()));
        if let Some(fields) = json.as_object_mut() {
            let quantization = pack_quantized_config(weights);
            fields.insert("quantization_config".into(), quantization);
        }
        Ok(format!("{json:#}\n").into_bytes())
    }
}
