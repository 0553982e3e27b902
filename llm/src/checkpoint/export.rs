//! The files beside a checkpoint's weights, and a GGUF model as a Hugging Face folder would hold it.

use super::{Checkpoint, Tensors, bias_len, demands, weight_shape};
use crate::{
    error::{Error, Result},
    gguf::VOCABULARY,
    hf,
};
use serde_json::Value;
use std::{fs, io, path::Path};

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
        match &self.tensors {
            Tensors::Hf(tensors) => {
                let mut files = vec![];
                for name in BESIDE {
                    let bytes = read(&tensors.folder().join(name))?;
                    files.extend(bytes.map(|bytes| (name.to_owned(), bytes)));
                }
                for (_, bytes) in files.iter_mut().filter(|(name, _)| name == CONFIG) {
                    *bytes = without_quantization(std::mem::take(bytes));
                }
                Ok(files)
            }
            Tensors::Gguf(tensors) => {
                let json = hf::write::to_json(&self.path, &self.config)?;
                Ok(vec![
                    (CONFIG.into(), format!("{json:#}\n").into_bytes()),
                    (VOCABULARY.into(), tensors.file().without_tensors()?),
                ])
            }
        }
    }

    /// The file's own name for a module. The names of its tensors are this name with the suffixes of this
    /// crate, as in `P.weight`.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn stored_name(&self, module: &str) -> Result<String> {
        weight_shape(&self.config, module)?;
        match &self.tensors {
            Tensors::Hf(tensors) => Ok(tensors.name(module)),
            Tensors::Gguf(tensors) => tensors.module_name(module),
        }
    }

    /// `[rows, cols]` of a weight.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn shape(&self, module: &str) -> Result<[usize; 2]> {
        weight_shape(&self.config, module)
    }

    /// All norms and biases: the names of their tensors, `P.weight` and `P.bias`, and their lengths.
    ///
    /// # Errors
    /// [`Error::TensorShape`] for a bias, and errors of reading.
    pub fn vectors(&self) -> Result<Vec<(String, usize)>> {
        let mut vectors = vec![];
        for norm in demands::norms(&self.config) {
            let len = demands::norm_len(&self.config, &norm)?;
            vectors.push((format!("{norm}.weight"), len));
        }
        for module in self.modules() {
            let bias = format!("{module}.bias");
            if let Some(values) = self.vector(&bias)? {
                vectors.push((bias, values.len()));
            }
        }
        Ok(vectors)
    }

    /// The values of one of [`vectors`](Self::vectors), as they are stored beside the `config.json` of
    /// [`files_beside`](Self::files_beside): norms as w where that architecture means 1 + w.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], and errors of reading.
    pub fn stored_vector(&self, tensor: &str) -> Result<Vec<f32>> {
        if bias_len(&self.config, tensor).is_ok() {
            return self.vector(tensor)?.ok_or_else(|| Error::MissingTensor {
                file: self.path.clone(),
                tensor: tensor.into(),
            });
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

/// The content of a file; `None` if it does not exist.
fn read(file: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |reason| Error::Read {
        file: file.into(),
        reason,
    };
    match fs::metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
        Ok(m) if m.is_file() && m.len() <= MAX_BESIDE => fs::read(file).map(Some).map_err(failed),
        Ok(_) => Err(Error::Malformed {
            file: file.into(),
            reason: format!("it is no regular file of at most {MAX_BESIDE} bytes"),
        }),
    }
}
