//! Tensors of a Hugging Face checkpoint.

use crate::{
    config::Config,
    error::{Error, Result},
    hf,
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
        let config = hf::read(folder)?;
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
        let folder = folder.into();
        Ok((
            config,
            Self {
                folder,
                weights,
                prefix,
            },
        ))
    }

    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.weights.files()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file's name of a module or tensor.
    pub fn name(&self, name: &str) -> String {
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

    pub fn check_weight(&self, module: &str, shape: [usize; 2]) -> Result<()> {
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

    pub fn check_vector(&self, name: &str, len: usize) -> Result<()> {
        let name = self.name(name);
        match self.weights.tensor(&name) {
            None => Err(self.missing(name)),
            Some(t) if t.shape != [len] => Err(self.wrong_shape(name, t.shape, &[len])),
            Some(_) => Ok(()),
        }
    }

    pub fn matrix(&self, module: &str) -> Result<Matrix> {
        Ok(self.weights.weight(&self.name(module))?)
    }

    pub fn rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix> {
        Ok(self.weights.weight_rows(&self.name(module), rows)?.into())
    }

    pub fn format(&self, module: &str) -> Result<Format> {
        Ok(self.weights.module(&self.name(module))?.format())
    }

    pub fn stored_format(&self, module: &str) -> Result<String> {
        Ok(self.weights.module(&self.name(module))?.stored())
    }

    pub fn bytes(&self, module: &str) -> Result<u64> {
        Ok(self.weights.module(&self.name(module))?.bytes())
    }

    pub fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        if self.weights.tensor(&self.name(name)).is_none() {
            return Ok(None);
        }
        self.check_vector(name, len)?;
        Ok(Some(self.weights.f32_tensor(&self.name(name))?.values))
    }
}

/// `name` with its prefix `from` replaced by `to`.
fn renamed(name: &str, from: &str, to: &str) -> String {
    match name.strip_prefix(from) {
        Some(rest) => format!("{to}{rest}"),
        None => name.to_owned(),
    }
}
