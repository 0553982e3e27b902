//! A model on disk: its configuration and its tensors by Hugging Face's names.

mod demands;
mod export;
mod gguf;
mod hf;

use crate::{
    config::{Config, EMBEDDING, HEAD, Linear},
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
    fmt,
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
    tensors: Box<dyn Tensors>,
}

/// The tensors of a checkpoint, whatever files they are in. Modules and tensors go by Hugging Face's names, and are
/// among those that the configuration allows.
trait Tensors: fmt::Debug + Send + Sync {
    /// The files that they are in.
    fn files(&self) -> Vec<&Path>;

    /// Fails unless a weight can be read and has this shape.
    fn check_weight(&self, module: &str, shape: [usize; 2]) -> Result<()>;

    /// Fails unless a vector is there and has this length.
    fn check_vector(&self, name: &str, len: usize) -> Result<()>;

    /// Fails unless the biases are those of [`biased`](Self::biased).
    fn check_biases(&self, config: &Config) -> Result<()>;

    /// A weight in its [`format`](Self::format).
    fn matrix(&self, module: &str) -> Result<Matrix>;

    /// Whether [`rows`](Self::rows) reads some rows of a weight without the others.
    fn reads_rows(&self, module: &str) -> Result<bool>;

    /// Some rows of a weight.
    fn rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix>;

    /// The format in which a weight is read.
    fn format(&self, module: &str) -> Result<Format>;

    /// How a weight is stored, for reports.
    fn stored_format(&self, module: &str) -> Result<String>;

    /// Bytes that a weight takes.
    fn stored_bytes(&self, module: &str) -> Result<u64>;

    /// The files' own name of a module.
    fn stored_name(&self, module: &str) -> Result<String>;

    /// A norm or a bias of this length, if it is there.
    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>>;

    /// The products with a bias, by the `config.json` beside the weights. `None` where there is no such file: then what
    /// is stored decides.
    fn biased(&self) -> Option<&[Linear]>;

    /// The files that a folder of this model has beside its weights, but for a `config.json` that is not there.
    fn files_beside(&self) -> Result<Vec<(String, Vec<u8>)>>;

    fn tokenizer(&self) -> Result<Tokenizer>;

    fn chat_template(&self) -> Result<Option<ChatTemplate>>;
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
        let (config, tensors): (_, Box<dyn Tensors>) = if is_gguf {
            let (config, tensors) = GgufTensors::open(path)?;
            (config, Box::new(tensors))
        } else {
            let (config, tensors) = HfTensors::open(path, reading)?;
            (config, Box::new(tensors))
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
        self.tensors.files()
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
            self.tensors.check_weight(&module, shape)?;
        }
        for norm in demands::norms(&self.config) {
            let len = norm_len(&self.config, &norm)?;
            self.tensors.check_vector(&format!("{norm}.weight"), len)?;
        }
        self.tensors.check_biases(&self.config)
    }

    /// The module of the tensor that holds the weight `module`: the embedding for a tied head.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    fn holder<'a>(&self, module: &'a str) -> Result<&'a str> {
        weight_shape(&self.config, module)?;
        Ok(if module == HEAD && self.config.tied_head {
            EMBEDDING
        } else {
            module
        })
    }

    /// A weight in the format that [`format`](Self::format) names.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], [`Error::F16Overflow`], and errors of reading.
    pub fn matrix(&self, module: &str) -> Result<Matrix> {
        self.tensors.matrix(self.holder(module)?)
    }

    /// Some rows of a weight, read without the others: for embeddings, which are better moved in slices.
    /// Codes of a GGUF file may have another factor than in the whole weight.
    ///
    /// # Errors
    /// [`Error::Rows`] where they are no rows of the weight or it is [read whole only](Self::reads_rows), and
    /// those of [`matrix`](Self::matrix).
    pub fn matrix_rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix> {
        let module = self.holder(module)?;
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
        if !self.tensors.reads_rows(module)? {
            let format = self.tensors.format(module)?;
            return Err(refused(format!("a weight in {format} is read whole only")));
        }
        self.tensors.rows(module, rows)
    }

    /// Whether some rows of a weight can be read without the others: dense ones, and all of a GGUF file.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn reads_rows(&self, module: &str) -> Result<bool> {
        self.tensors.reads_rows(self.holder(module)?)
    }

    /// The format in which [`matrix`](Self::matrix) gives a weight: the file's own. Quantised types of
    /// ggml stay codes if the engine has such codes, and become f16 otherwise.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn format(&self, module: &str) -> Result<Format> {
        self.tensors.format(self.holder(module)?)
    }

    /// How the file stores a weight, for reports: `bf16`, `2:4@f16`, `Q4_K`, `GPTQ w4g128`.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn stored_format(&self, module: &str) -> Result<String> {
        self.tensors.stored_format(self.holder(module)?)
    }

    /// Bytes that a weight takes in the file.
    ///
    /// # Errors
    /// [`Error::UnknownModule`].
    pub fn stored_bytes(&self, module: &str) -> Result<u64> {
        self.tensors.stored_bytes(self.holder(module)?)
    }

    /// A bias by its tensor's name, `P.bias`; `None` if the model has none.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], [`Error::TensorShape`], and errors of reading.
    pub fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        self.tensors.vector(name, bias_len(&self.config, name)?)
    }

    /// The multipliers of a norm, by its module's name: w, or 1 + w if the file means that.
    ///
    /// # Errors
    /// [`Error::UnknownModule`], and errors of reading.
    pub fn norm(&self, name: &str) -> Result<Vec<f32>> {
        let name = name.strip_suffix(".weight").unwrap_or(name);
        let len = norm_len(&self.config, name)?;
        let tensor = format!("{name}.weight");
        let values = self.tensors.vector(&tensor, len)?;
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
        self.tensors.tokenizer()
    }

    /// The checkpoint's chat template, if it has one.
    ///
    /// # Errors
    /// [`Error::Template`] and errors of reading.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        self.tensors.chat_template()
    }
}
