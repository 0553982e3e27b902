//! A model on disk: its configuration and its tensors by Hugging Face's names.

mod demands;
mod export;
mod gguf;
mod hf;

use crate::{
    config::{Config, EMBEDDING, HEAD},
    error::{Error, Result},
    recipe::Recipe,
    template::ChatTemplate,
    tokenizer::Tokenizer,
};
use demands::{bias_len, norm_len, weight_shape};
use gguf::GgufTensors;
use hf::HfTensors;
use lacuna::format::{Format, Matrix};
use lacuna_io::Reading;
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// A checkpoint, open for reading: a Hugging Face folder, or a GGUF file.
///
/// Opening reads headers and checks that every tensor that the configuration demands is there and has its
/// shape. Values are read when asked for, one tensor at a time; only where a head is stored although the
/// configuration ties it to the embedding, opening compares the two.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    tensors: Tensors,
}

#[derive(Debug)]
enum Tensors {
    Hf(HfTensors),
    Gguf(GgufTensors),
}

impl Checkpoint {
    /// Opens a folder with `config.json` and safetensors, one of its `.safetensors` files or
    /// shard indices, or a `.gguf` file.
    ///
    /// # Errors
    /// What is missing, malformed or not supported, by name.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_as(path, Reading::default())
    }

    /// [`open`](Self::open), with `reading` saying what the user knows and the files do not tell.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as(path: impl AsRef<Path>, reading: Reading) -> Result<Self> {
        let path = path.as_ref();
        // Said of what the user named, not of a file that would lie beside it.
        std::fs::metadata(path).map_err(|reason| Error::Read {
            file: path.into(),
            reason,
        })?;
        let is_gguf = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        let (config, tensors) = if is_gguf {
            let (config, tensors) = GgufTensors::open(path)?;
            (config, Tensors::Gguf(tensors))
        } else {
            let (config, tensors) = HfTensors::open(path, reading)?;
            (config, Tensors::Hf(tensors))
        };
        let checkpoint = Self {
            path: path.into(),
            config,
            tensors,
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that its weights are in.
    pub fn files(&self) -> Vec<&Path> {
        match &self.tensors {
            Tensors::Hf(t) => t.files().collect(),
            Tensors::Gguf(t) => t.file().files().collect(),
        }
    }

    /// The model's configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The modules of all weights: the embedding, the layers' products, and the head if it is not tied.
    pub fn modules(&self) -> Vec<String> {
        self.config.modules()
    }

    fn check(&self) -> Result<()> {
        for module in self.modules() {
            let shape = weight_shape(&self.config, &module)?;
            match &self.tensors {
                Tensors::Hf(t) => t.check_weight(&module, shape)?,
                Tensors::Gguf(t) => t.check_weight(&module, shape)?,
            }
        }
        for norm in demands::norms(&self.config) {
            let len = norm_len(&self.config, &norm)?;
            match &self.tensors {
                Tensors::Hf(t) => t.check_vector(&format!("{norm}.weight"), len)?,
                Tensors::Gguf(t) => t.check_vector(&format!("{norm}.weight"), len)?,
            }
        }
        match &self.tensors {
            Tensors::Hf(t) => t.check_biases(&self.config),
            // There is no key that demands or denies them.
            Tensors::Gguf(_) => Ok(()),
        }
    }

    /// The module whose tensor holds `module`: the embedding for a tied head.
    fn resolved<'a>(&self, module: &'a str) -> &'a str {
        if module == HEAD && self.config.tied_head {
            EMBEDDING
        } else {
            module
        }
    }

    /// A weight in the format that [`format`](Self::format) names.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], [`Error::F16Overflow`], and errors of reading.
    pub fn matrix(&self, module: &str) -> Result<Matrix> {
        let module = self.resolved(module);
        weight_shape(&self.config, module)?;
        match &self.tensors {
            Tensors::Hf(t) => t.matrix(module),
            Tensors::Gguf(t) => t.matrix(&self.config, module),
        }
    }

    /// Some rows of a weight, read without the others: for embeddings, which are better moved in slices.
    /// Codes of a GGUF file may have another factor than in the whole weight.
    ///
    /// # Errors
    /// [`Error::Rows`] where they are no rows of the weight or it is [read whole only](Self::reads_rows), and
    /// those of [`matrix`](Self::matrix).
    pub fn matrix_rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix> {
        let module = self.resolved(module);
        let [all, _] = weight_shape(&self.config, module)?;
        let refused = |reason: String| Error::Rows {
            module: module.into(),
            start: rows.start,
            end: rows.end,
            reason,
        };
        if rows.start > rows.end || rows.end > all {
            return Err(refused(format!("the weight has rows 0..{all}")));
        }
        match &self.tensors {
            Tensors::Hf(t) => match t.format(module)? {
                Format::Dense(_) => t.rows(module, rows),
                format => Err(refused(format!("a weight in {format} is read whole only"))),
            },
            Tensors::Gguf(t) => t.rows(&self.config, module, rows),
        }
    }

    /// Whether some rows of a weight can be read without the others: dense ones, and all of a GGUF file.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn reads_rows(&self, module: &str) -> Result<bool> {
        let module = self.resolved(module);
        weight_shape(&self.config, module)?;
        match &self.tensors {
            Tensors::Hf(t) => Ok(matches!(t.format(module)?, Format::Dense(_))),
            Tensors::Gguf(_) => Ok(true),
        }
    }

    /// The format in which [`matrix`](Self::matrix) gives a weight: the file's own. Quantised types of
    /// ggml stay codes if the engine has such codes, and become f16 otherwise.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn format(&self, module: &str) -> Result<Format> {
        let module = self.resolved(module);
        weight_shape(&self.config, module)?;
        match &self.tensors {
            Tensors::Hf(t) => t.format(module),
            Tensors::Gguf(t) => t.format(module),
        }
    }

    /// How the file stores a weight, for reports: `bf16`, `2:4@f16`, `Q4_K`, `GPTQ w4g128`.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn stored_format(&self, module: &str) -> Result<String> {
        let module = self.resolved(module);
        weight_shape(&self.config, module)?;
        match &self.tensors {
            Tensors::Hf(t) => t.stored_format(module),
            Tensors::Gguf(t) => t.stored_format(module),
        }
    }

    /// Bytes that a weight takes in the file.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn stored_bytes(&self, module: &str) -> Result<u64> {
        let module = self.resolved(module);
        weight_shape(&self.config, module)?;
        match &self.tensors {
            Tensors::Hf(t) => t.bytes(module),
            Tensors::Gguf(t) => t.bytes(module),
        }
    }

    /// A bias by its tensor's name, `P.bias`; `None` if the model has none.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], [`Error::TensorShape`], and errors of reading.
    pub fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let len = bias_len(&self.config, name)?;
        match &self.tensors {
            Tensors::Hf(t) => t.vector(name, len),
            Tensors::Gguf(t) => t.vector(&self.config, name, len),
        }
    }

    /// The multipliers of a norm, by its module's name: w, or 1 + w if the file means that.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], and errors of reading.
    pub fn norm(&self, name: &str) -> Result<Vec<f32>> {
        let name = name.strip_suffix(".weight").unwrap_or(name);
        let len = norm_len(&self.config, name)?;
        let tensor = format!("{name}.weight");
        let values = match &self.tensors {
            Tensors::Hf(t) => t.vector(&tensor, len)?,
            Tensors::Gguf(t) => t.vector(&self.config, &tensor, len)?,
        };
        let mut values = values.ok_or_else(|| Error::MissingTensor {
            file: self.path.clone(),
            tensor,
        })?;
        if self.config.norm_plus_one {
            for w in &mut values {
                *w += 1.0;
            }
        }
        Ok(values)
    }

    /// A weight compressed as `recipe` says.
    ///
    /// # Errors
    /// Those of [`matrix`](Self::matrix) and [`Recipe::compress`].
    pub fn compressed(&self, module: &str, recipe: &Recipe) -> Result<Matrix> {
        recipe.compress(module, self.matrix(module)?)
    }

    /// The checkpoint's tokenizer.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::Unsupported`] and errors of reading.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match &self.tensors {
            Tensors::Hf(t) => Tokenizer::from_folder(t.folder()),
            Tensors::Gguf(t) => Tokenizer::from_gguf(t.file()),
        }
    }

    /// The checkpoint's chat template, if it has one.
    ///
    /// # Errors
    /// [`Error::Template`] and errors of reading.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        match &self.tensors {
            Tensors::Hf(t) => ChatTemplate::from_folder(t.folder()),
            Tensors::Gguf(t) => ChatTemplate::from_gguf(t.file()),
        }
    }
}
