//! The files beside a checkpoint's weights, and a GGUF model as a Hugging Face folder would hold it.

use super::{Checkpoint, bias_len, demands, weight_shape};
use crate::{
    config::Linear,
    error::{Error, Result},
    gguf::VOCABULARY,
    hf, small,
};
use serde_json::Value;
use std::path::Path;

/// Files beside the weights that belong to a model.
const BESIDE: [&str; 13] = [
    "LICENSE",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    CONFIG,
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    VOCABULARY,
    "tokenizer_config.json",
    "vocab.json",
];

const CONFIG: &str = "config.json";

/// The keys of `config.json` that describe quantised weights.
const QUANTIZATION: [&str; 2] = ["quantization_config", "compression_config"];

/// The most bytes of such a file that are read.
const MAX_BESIDE: u64 = 1 << 30;

impl Checkpoint {
    /// The files that a folder needs beside the weights to be this model, as names and contents.
    ///
    /// For a folder, those that it has; what its `config.json` says about quantised weights is left out,
    /// because it is true of the folder's own weights only. For a GGUF file, `config.json` and
    /// `tokenizer.gguf`: its metadata without tensors, from which a folder's tokenizer and chat template
    /// are read if there is no `tokenizer.json`.
    ///
    /// # Errors
    /// Errors of reading; [`Error::Unsupported`] for a model that no `config.json` can express.
    pub fn files_beside(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.tensors.files_beside()?;
        if self.tensors.biased().is_none() {
            let json = format!("{:#}\n", self.json()?);
            files.insert(0, (CONFIG.into(), json.into_bytes()));
        }
        Ok(files)
    }

    /// The file's own name for a module. The names of its tensors are this name with the suffixes of this
    /// crate, as in `P.weight`.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn stored_name(&self, module: &str) -> Result<String> {
        weight_shape(&self.config, module)?;
        self.tensors.stored_name(module)
    }

    /// `[rows, cols]` of a weight.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn shape(&self, module: &str) -> Result<[usize; 2]> {
        weight_shape(&self.config, module)
    }

    /// The `config.json` of a folder made of a GGUF file.
    fn json(&self) -> Result<Value> {
        let mut with_bias = vec![];
        for linear in Linear::ALL {
            for layer in 0..self.config.layers.len() {
                let bias = self.vector(&format!("{}.bias", linear.module(layer)))?;
                if bias.is_some_and(|bias| bias.iter().any(|&b| b != 0.0)) {
                    with_bias.push(linear);
                    break;
                }
            }
        }
        hf::write::to_json(&self.path, &self.config, &with_bias)
    }

    /// All norms and biases: the names of their tensors, `P.weight` and `P.bias`, and their lengths.
    ///
    /// # Errors
    /// [`Error::TensorShape`] for a bias, errors of reading, and those of [`files_beside`](Self::files_beside).
    pub fn vectors(&self) -> Result<Vec<(String, usize)>> {
        let mut vectors = vec![];
        for norm in demands::norms(&self.config) {
            let len = demands::norm_len(&self.config, &norm)?;
            vectors.push((format!("{norm}.weight"), len));
        }
        let biased = match self.tensors.biased() {
            Some(biased) => biased.to_vec(),
            // A folder has all biases that its configuration demands, a GGUF file perhaps some of them.
            None => hf::biased(&self.path, &self.json()?)?,
        };
        for module in self.modules() {
            if demands::linear(&self.config, &module).is_some_and(|l| biased.contains(&l)) {
                let [len, _] = weight_shape(&self.config, &module)?;
                vectors.push((format!("{module}.bias"), len));
            }
        }
        Ok(vectors)
    }

    /// The values of one of [`vectors`](Self::vectors), as they are stored beside the `config.json` of
    /// [`files_beside`](Self::files_beside): norms as w where that architecture means 1 + w, and zeros for a bias that
    /// only the folder must have.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], and errors of reading.
    pub fn stored_vector(&self, tensor: &str) -> Result<Vec<f32>> {
        if let Ok(len) = bias_len(&self.config, tensor) {
            return match (self.vector(tensor)?, self.tensors.biased()) {
                (Some(values), _) => Ok(values),
                (None, None) => Ok(vec![0.0; len]),
                (None, Some(_)) => Err(Error::MissingTensor {
                    file: self.path.clone(),
                    tensor: tensor.into(),
                }),
            };
        }
        let mut values = self.norm(tensor)?;
        if hf::write::model_type(&self.config).1 {
            // Exact for multipliers of a half and more: the difference needs no bit below their last one.
            for w in &mut values {
                *w -= 1.0;
            }
        }
        Ok(values)
    }
}

/// The files of a folder that belong to its model, without what its `config.json` says about quantised weights.
pub(super) fn files_in(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![];
    for name in BESIDE {
        let Some(bytes) = small::read(&folder.join(name), MAX_BESIDE)? else {
            continue;
        };
        let bytes = match name {
            CONFIG => without_quantization(bytes),
            _ => bytes,
        };
        files.push((name.to_owned(), bytes));
    }
    Ok(files)
}

/// A `config.json` without the keys of [`QUANTIZATION`]; byte for byte as it is if it has none.
fn without_quantization(bytes: Vec<u8>) -> Vec<u8> {
    let Ok(Value::Object(mut json)) = serde_json::from_slice(&bytes) else {
        return bytes;
    };
    let before = json.len();
    json.retain(|key, _| !QUANTIZATION.contains(&key.as_str()));
    if json.len() == before {
        return bytes;
    }
    format!("{:#}\n", Value::Object(json)).into_bytes()
}
