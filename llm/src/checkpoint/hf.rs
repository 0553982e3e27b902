//! Tensors of a Hugging Face checkpoint.

use super::{Tensors, export};
use crate::{
    config::{Config, EMBEDDING, HEAD, Linear},
    error::{Error, Result},
    hf,
    template::ChatTemplate,
    tokenizer::Tokenizer,
};
use lacuna::format::{Format, Matrix};
use lacuna_io::{Error as FileError, Reading, WeightFile, printable};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// Prefixes of this crate's names, and those that files have in their place: models with an image part
/// put their text part under a name of its own.
const PREFIXES: [(&str, &str); 4] = [
    ("", ""),
    ("", "language_model."),
    ("model.", "model.language_model."),
    // A bare decoder, saved without its head.
    ("model.", ""),
];

#[derive(Debug)]
pub(super) struct HfTensors {
    folder: PathBuf,
    weights: WeightFile,
    prefix: (&'static str, &'static str),
    /// The products that have a bias, by the configuration.
    biased: Vec<Linear>,
}

impl HfTensors {
    pub fn open(path: &Path, reading: Reading) -> Result<(Config, Self)> {
        let folder = if path.is_dir() {
            path
        } else {
            match path.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            }
        };
        let (mut config, biased) = hf::read(folder)?;
        let weights = WeightFile::open_as(path, reading)?;
        for module in weights.modules() {
            for warning in module.warnings() {
                log::warn!("weight \"{}\": {warning}", printable(module.name()));
            }
        }
        let known = |(from, to): &(&str, &str)| {
            let norm = renamed("model.norm.weight", from, to);
            weights.tensor(&norm).is_some()
        };
        let prefix = PREFIXES.into_iter().find(known).unwrap_or_default();
        let tensors = Self {
            folder: folder.into(),
            weights,
            prefix,
            biased,
        };
        // As transformers 5 has it: fine-tunes of tied models have trained the head without changing the flag.
        if config.tied_head && tensors.has_other_head([config.vocab, config.hidden])? {
            config.tied_head = false;
        }
        Ok((config, tensors))
    }

    /// The file's name of a module or tensor.
    fn name(&self, name: &str) -> String {
        renamed(name, self.prefix.0, self.prefix.1)
    }

    fn missing(&self, tensor: String) -> Error {
        Error::MissingTensor {
            file: self.weights.path().into(),
            tensor,
        }
    }

    fn wrong_shape(&self, tensor: String, got: &[usize], expected: &[usize]) -> Error {
        Error::TensorShape {
            file: self.weights.path().into(),
            tensor,
            got: got.to_vec(),
            expected: expected.to_vec(),
        }
    }

    /// Whether a head is stored and differs from the embedding.
    fn has_other_head(&self, shape: [usize; 2]) -> Result<bool> {
        let head = self.check_weight(HEAD, shape);
        if matches!(head, Err(Error::MissingTensor { .. })) {
            return Ok(false);
        }
        if head.and(self.check_weight(EMBEDDING, shape)).is_err() {
            // Whoever checks all weights says what is wrong with it.
            return Ok(true);
        }
        if !(self.reads_rows(HEAD)? && self.reads_rows(EMBEDDING)?) {
            let values = |module| Ok::<_, Error>(self.matrix(module)?.to_dense().values().to_f32());
            return Ok(values(HEAD)? != values(EMBEDDING)?);
        }
        // In slices, because both may be large.
        let [rows, cols] = shape;
        let step = (1usize << 22).div_ceil(cols);
        for start in (0..rows).step_by(step) {
            let slice = start..rows.min(start + step);
            let values = |module| {
                let slice = self
                    .weights
                    .weight_rows(&self.name(module), slice.clone())?;
                Ok::<_, Error>(slice.values().to_f32())
            };
            if values(HEAD)? != values(EMBEDDING)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Tensors for HfTensors {
    fn files(&self) -> Vec<&Path> {
        self.weights.files().collect()
    }

    fn check_weight(&self, module: &str, shape: [usize; 2]) -> Result<()> {
        let name = self.name(module);
        let tensor = format!("{name}.weight");
        match (self.weights.module(&name), self.weights.tensor(&tensor)) {
            (Ok(m), _) if [m.rows(), m.cols()] == shape => Ok(()),
            (Ok(m), _) => Err(self.wrong_shape(tensor, &[m.rows(), m.cols()], &shape)),
            (Err(e @ FileError::Layout { .. }), _) => Err(e.into()),
            (Err(_), None) => Err(self.missing(tensor)),
            (Err(_), Some(t)) if t.shape != shape => Err(self.wrong_shape(tensor, t.shape, &shape)),
            (Err(e), _) => Err(e.into()),
        }
    }

    fn check_vector(&self, name: &str, len: usize) -> Result<()> {
        let name = self.name(name);
        match self.weights.tensor(&name) {
            None => Err(self.missing(name)),
            Some(t) if t.shape != [len] => Err(self.wrong_shape(name, t.shape, &[len])),
            Some(_) => Ok(()),
        }
    }

    fn check_biases(&self, config: &Config) -> Result<()> {
        let layers = 0..config.layers.len();
        for (layer, linear) in layers.flat_map(|layer| Linear::ALL.map(|linear| (layer, linear))) {
            let bias = format!("{}.bias", linear.module(layer));
            if self.biased.contains(&linear) {
                self.check_vector(&bias, config.shape(linear)[0])?;
                continue;
            }
            let name = self.name(&bias);
            if self.weights.tensor(&name).is_none() {
                continue;
            }
            // Some programs add it, others ignore it. Zeros, which old exporters of GPTQ write, do no harm.
            if self
                .weights
                .f32_tensor(&name)?
                .values
                .iter()
                .any(|&b| b != 0.0)
            {
                let value = "stored, against config.json or its architecture";
                let supported = "zeros, and biases by attention_bias (llama, qwen3, gemma3), by mlp_bias (llama), and of \
                    q, k and v (qwen2)";
                return Err(Error::unsupported(
                    self.weights.path(),
                    name,
                    value,
                    supported,
                ));
            }
        }
        Ok(())
    }

    fn matrix(&self, module: &str) -> Result<Matrix> {
        Ok(self.weights.weight(&self.name(module))?)
    }

    fn rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix> {
        Ok(self.weights.weight_rows(&self.name(module), rows)?.into())
    }

    fn format(&self, module: &str) -> Result<Format> {
        Ok(self.weights.module(&self.name(module))?.format())
    }

    fn stored_format(&self, module: &str) -> Result<String> {
        Ok(self.weights.module(&self.name(module))?.stored())
    }

    fn stored_bytes(&self, module: &str) -> Result<u64> {
        Ok(self.weights.module(&self.name(module))?.bytes())
    }

    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        if self.weights.tensor(&self.name(name)).is_none() {
            return Ok(None);
        }
        self.check_vector(name, len)?;
        Ok(Some(self.weights.f32_tensor(&self.name(name))?.values))
    }

    fn reads_rows(&self, module: &str) -> Result<bool> {
        Ok(matches!(self.format(module)?, Format::Dense(_)))
    }

    fn stored_name(&self, module: &str) -> Result<String> {
        Ok(self.name(module))
    }

    fn biased(&self) -> Option<&[Linear]> {
        Some(&self.biased)
    }

    fn files_beside(&self) -> Result<Vec<(String, Vec<u8>)>> {
        export::files_in(&self.folder)
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_folder(&self.folder)
    }

    fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        ChatTemplate::from_folder(&self.folder)
    }
}

/// `name` with its prefix `from` replaced by `to`.
fn renamed(name: &str, from: &str, to: &str) -> String {
    match name.strip_prefix(from) {
        Some(rest) => format!("{to}{rest}"),
        None => name.to_owned(),
    }
}
