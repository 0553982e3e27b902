//! A checkpoint's other files, and a GGUF file as a Hugging Face folder would hold it.

use super::{Checkpoint, Tensors, bias_len, demands, weight_shape};
use crate::{
    error::{Error, Result},
    gguf::VOCABULARY,
    hf,
};
use serde_json::Value;
use std::{fs, io, path::Path};

/// What lies beside the weights of a model and belongs to it.
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

/// What `config.json` says of quantised weights.
const QUANTIZATION: [&str; 2] = ["quantization_config", "compression_config"];

/// Longest of these files that is read.
const MAX_BESIDE: u64 = 1 << 30;

impl Checkpoint {
    /// The files that a folder needs beside the weights to be this model: name and content.
    ///
    /// Of a folder those that it has, without what its `config.json` says of how weights are
    /// quantised, which is true of its own file alone; of a GGUF file `config.json` and `tokenizer.gguf`, its
    /// metadata without tensors, from which a folder's tokenizer and chat template are read
    /// where there is no `tokenizer.json`.
    ///
    /// # Errors
    /// What reading may give; [`Error::Unsupported`] for a model that no `config.json` states.
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

    /// The name that the file gives to a module: its tensors are this and what follows
    /// `module` in the names of this crate.
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

    /// Norms and biases: the names of their tensors, `P.weight` and `P.bias`, and their lengths.
    ///
    /// # Errors
    /// [`Error::TensorShape`].
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

    /// One of [`vectors`](Self::vectors), as a model of the `config.json` among
    /// [`files_beside`](Self::files_beside) stores it.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], and what reading may give.
    pub fn stored_vector(&self, tensor: &str) -> Result<Vec<f32>> {
        if bias_len(&self.config, tensor).is_ok() {
            return self.vector(tensor)?.ok_or_else(|| Error::MissingTensor {
                file: self.path.clone(),
                tensor: tensor.into(),
            });
        }
        let mut values = self.norm(tensor)?;
        if hf::write::model_type(&self.config).1 {
            // Exact for multipliers of a half and more, whose last bit is one of the result's.
            for w in &mut values {
                *w -= 1.0;
            }
        }
        Ok(values)
    }
}

/// A `config.json` as it is, or without [`QUANTIZATION`] where it has that.
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

/// The content of a file; `None` where there is none.
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
