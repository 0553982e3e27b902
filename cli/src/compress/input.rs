//! The input of a compression: weights and other tensors by name, whatever the file format.

use crate::{error::Result, weights};
use lacuna::format::{Format, Matrix};
use lacuna_io::{Fingerprint, RawTensor, TensorDtype, WeightFile, sha256};
use lacuna_llm::Checkpoint;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// An input, open for reading.
pub enum Input {
    /// Safetensors, and the model that they belong to, if it is known.
    File {
        weights: Box<WeightFile>,
        model: Option<Box<Checkpoint>>,
    },
    /// A GGUF file, whose tensors are given Hugging Face's names.
    Gguf(Box<Checkpoint>),
}

/// A weight of the input.
pub struct Weight {
    /// Its name in the output.
    pub name: String,
    /// Its name in recipes and statistics.
    pub module: String,
    /// The format in which it is read.
    pub format: Format,
    /// How the input stores it, for reports.
    pub stored: String,
    pub rows: usize,
    pub cols: usize,
    /// Bytes in the input.
    pub bytes: u64,
}

/// A tensor of the input that belongs to no weight.
pub struct Tensor {
    pub name: String,
    pub dtype: TensorDtype,
    pub shape: Vec<usize>,
    pub bytes: u64,
}

/// Tensors of more bytes are certain to change a [`Fingerprint`].
const SHORT: u64 = 1 << 20;

impl Input {
    /// Opens a GGUF file, safetensors, or a folder. A folder with a `config.json` is a model; with
    /// `file_only` it may also be a model of an unknown kind.
    pub fn open(path: &Path, reading: weights::Args, file_only: bool) -> Result<Self> {
        if is_gguf(path) {
            return Ok(Self::Gguf(Checkpoint::open(path)?.into()));
        }
        let weights: Box<WeightFile> = reading.any_file(path)?.into();
        weights.check_readable()?;
        let model = if path.join("config.json").exists() {
            match reading.model(path) {
                Ok(model) => Some(model.into()),
                Err(_) if file_only => None,
                Err(e) => return Err(e),
            }
        } else {
            None
        };
        Ok(Self::File { weights, model })
    }

    /// The files that a model needs beside its weights; none if the input is not a model.
    pub fn files_beside(&self) -> Result<Vec<(String, Vec<u8>)>> {
        match self {
            Self::File { model: None, .. } => Ok(vec![]),
            Self::File {
                model: Some(model), ..
            }
            | Self::Gguf(model) => Ok(model.files_beside()?),
        }
    }

    /// Fingerprints that identify the input and how it is read.
    pub fn fingerprints(&self) -> Result<Vec<String>> {
        let files: Vec<PathBuf> = match self {
            Self::File { weights, .. } => weights.files().map(Into::into).collect(),
            Self::Gguf(model) => model.files().into_iter().map(Into::into).collect(),
        };
        let of = |file: PathBuf| Ok(Fingerprint::of(file)?.to_string());
        let mut all: Vec<String> = files.into_iter().map(of).collect::<Result<_>>()?;
        // Norms and biases are so short that a fingerprint may miss them.
        let mut short = vec![];
        for tensor in self.tensors()?.iter().filter(|t| t.bytes < SHORT) {
            short.extend(self.tensor(tensor)?);
        }
        all.push(sha256(&short));
        if let Self::File { weights, .. } = self {
            // How codes of other programs are read also depends on options and a configuration.
            let told = weights.modules().filter(|m| !m.evidence().is_empty());
            let told = told.map(|m| format!("{} {} {:?}", m.name(), m.format(), m.evidence()));
            let told: Vec<String> = told.collect();
            if !told.is_empty() {
                all.push(sha256(told.join("\n").as_bytes()));
            }
        }
        Ok(all)
    }

    /// Fails if an output at `path` would replace one of several files of the input.
    pub fn check_output(&self, path: &Path) -> Result<()> {
        match self {
            Self::File { weights, .. } => Ok(weights.check_output(path)?),
            Self::Gguf(_) => Ok(()),
        }
    }

    /// Text entries of the header.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::File { weights, .. } => weights.metadata().clone(),
            // Hugging Face's loaders require this entry.
            Self::Gguf(_) => BTreeMap::from([("format".into(), "pt".into())]),
        }
    }

    /// All weights.
    pub fn weights(&self) -> Result<Vec<Weight>> {
        match self {
            Self::File { weights, model } => {
                let mut modules = BTreeMap::new();
                if let Some(model) = model {
                    for module in model.modules() {
                        modules.insert(model.stored_name(&module)?, module);
                    }
                }
                let weight = |m: &lacuna_io::Module| Weight {
                    name: m.name().into(),
                    module: modules.get(m.name()).map_or(m.name(), |m| m).into(),
                    format: m.format(),
                    stored: m.stored(),
                    rows: m.rows(),
                    cols: m.cols(),
                    bytes: m.bytes(),
                };
                Ok(weights.modules().map(weight).collect())
            }
            Self::Gguf(model) => {
                let weight = |module: String| {
                    let [rows, cols] = model.shape(&module)?;
                    Ok(Weight {
                        format: model.format(&module)?,
                        stored: model.stored_format(&module)?,
                        bytes: model.stored_bytes(&module)?,
                        name: module.clone(),
                        module,
                        rows,
                        cols,
                    })
                };
                model.modules().into_iter().map(weight).collect()
            }
        }
    }

    /// All other tensors.
    pub fn tensors(&self) -> Result<Vec<Tensor>> {
        match self {
            Self::File { weights, .. } => {
                let tensor = |t: lacuna_io::TensorInfo| Tensor {
                    name: t.name.into(),
                    dtype: t.dtype,
                    shape: t.shape.to_vec(),
                    bytes: t.bytes,
                };
                Ok(weights.plain_tensors().map(tensor).collect())
            }
            Self::Gguf(model) => {
                let tensor = |(name, len)| Tensor {
                    name,
                    dtype: TensorDtype::F32,
                    shape: vec![len],
                    bytes: 4 * len as u64,
                };
                Ok(model.vectors()?.into_iter().map(tensor).collect())
            }
        }
    }

    /// Reads a weight.
    pub fn weight(&self, weight: &Weight) -> Result<Matrix> {
        match self {
            Self::File { weights, .. } => Ok(weights.weight(&weight.name)?),
            Self::Gguf(model) => Ok(model.matrix(&weight.module)?),
        }
    }

    /// Reads another tensor.
    pub fn tensor(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        match self {
            Self::File { weights, .. } => Ok(weights.raw(&tensor.name)?.bytes),
            Self::Gguf(model) => {
                let values = model.stored_vector(&tensor.name)?;
                Ok(RawTensor::from_f32(&tensor.shape, &values).bytes)
            }
        }
    }
}

/// Whether `path` has the extension of a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}
