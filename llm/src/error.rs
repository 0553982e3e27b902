//! The error type of language models.

use lacuna_io::printable;
use std::path::{Path, PathBuf};

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with whatever applies of the file, the name, its value and what is accepted.
///
/// Messages are complete in themselves and safe to print: whatever comes from a
/// file is escaped and shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),

    /// An error of the weight files.
    #[error(transparent)]
    File(#[from] lacuna_io::Error),

    /// A file beside the weights could not be read.
    #[error("{}: {reason}", shown(file))]
    Read {
        /// The file.
        file: PathBuf,
        /// The operating system's error.
        reason: std::io::Error,
    },

    /// A file is not what its name claims.
    #[error("{}: {}", shown(file), printable(reason))]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// An architecture or an option of one that is not implemented.
    #[error(
        "{}: {key} is {}, which is not supported; supported: {supported}",
        shown(file),
        printable(value)
    )]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// The values that are supported.
        supported: String,
    },

    /// A value that is out of range or contradicts another one.
    #[error("{}: {key} is {}, expected {expected}", shown(file), printable(value))]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it must be.
        expected: String,
    },

    /// A key that the model cannot be read without.
    #[error("{}: {key} is missing", shown(file))]
    MissingKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },

    /// A tensor that the configuration demands is not there.
    #[error("{}: there is no tensor \"{}\"", shown(file), printable(tensor))]
    MissingTensor {
        /// The file.
        file: PathBuf,
        /// The tensor, by the name the file would use.
        tensor: String,
    },

    /// A tensor does not have the shape that the configuration demands.
    #[error(
        "{}: tensor \"{}\" is {got:?}, the configuration makes it {expected:?}",
        shown(file),
        printable(tensor)
    )]
    TensorShape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        got: Vec<usize>,
        /// The shape it must have.
        expected: Vec<usize>,
    },

    /// The module asked for does not exist in a model of this configuration.
    #[error("the model has no {what} \"{}\"", printable(name))]
    UnknownModule {
        /// `"weight"`, `"norm"`, `"bias"` or `"gate"`.
        what: &'static str,
        /// The name asked for.
        name: String,
    },

    /// Rows that a weight does not have, or that cannot be read alone.
    #[error("rows {start}..{end} of \"{}\": {reason}", printable(module))]
    Rows {
        /// The module.
        module: String,
        /// First row asked for.
        start: usize,
        /// The row after the last one.
        end: usize,
        /// Why not.
        reason: String,
    },

    /// A weight could not be brought into the format asked for.
    #[error("weight \"{}\": {reason}", printable(module))]
    Module {
        /// The module.
        module: String,
        /// The engine's error.
        reason: lacuna::Error,
    },

    /// A finite weight is too large for f16.
    #[error(
        "weight \"{}\": the value {value} at row {row}, column {col} overflows f16; \
         use bf16 or f32",
        printable(module)
    )]
    F16Overflow {
        /// The module.
        module: String,
        /// Row of the first such value.
        row: usize,
        /// Its column.
        col: usize,
        /// The value.
        value: f32,
    },

    /// A tokenizer that cannot be built, or text that it cannot encode.
    #[error("{}: tokenizer: {}", shown(file), printable(reason))]
    Tokenizer {
        /// The file it comes from.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A chat template that does not parse, or refuses a conversation.
    #[error("{}: chat template: {}", shown(file), printable(reason))]
    Template {
        /// The file it comes from.
        file: PathBuf,
        /// The error of the template engine, or the template's own.
        reason: String,
    },

    /// A line of a recipe that does not parse.
    #[error("recipe, line {line}: \"{}\": {reason}", printable(text))]
    RecipeSyntax {
        /// Its number, from 1.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it.
        reason: String,
    },

    /// More tokens than the context holds.
    #[error("{tokens} tokens do not fit the context of {limit}")]
    Context {
        /// Tokens asked for.
        tokens: usize,
        /// Tokens that fit.
        limit: usize,
    },

    /// A token id outside the model's vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    Vocabulary {
        /// The id.
        id: u32,
        /// Tokens of the vocabulary.
        vocab: usize,
    },

    /// A length or dimension disagrees with the model's configuration.
    #[error("{what} is {got}, expected {expected}")]
    Shape {
        /// The quantity, for example `"layer 3 self_attn.q_proj rows"`.
        what: String,
        /// Its value.
        got: usize,
        /// The value it must have.
        expected: usize,
    },

    /// An option of sampling is outside its range, or no logit is a number.
    #[error("sampling: {what} is {value}, allowed is {allowed}")]
    Sampling {
        /// The quantity, for example `"temperature"`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },

    /// A size of evaluation windows that is not possible.
    #[error("evaluation: {what} is {value}, allowed is {least} to {most}")]
    Windows {
        /// The quantity, for example `"stride"`.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The least value that is allowed.
        least: usize,
        /// The greatest value that is allowed.
        most: usize,
    },

    /// A model or an option that this build cannot run.
    #[error("{what} is {value}, supported: {supported}")]
    Choice {
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        supported: String,
    },

    /// A prompt of no tokens, or a next token asked for before any prompt.
    #[error("there is no token to go on from: give a prompt of at least one")]
    Empty,

    /// The caller ended the work.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn sparse_embedding(format: lacuna::format::Format) -> Self {
        Self::Choice {
            what: "format of the embedding, whose rows are read one by one",
            value: format.to_string(),
            supported: "f32, f16, bf16 and codes of every column".into(),
        }
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers give numbers and text alike"
    )]
    pub(crate) fn value(
        file: &Path,
        key: impl Into<String>,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Value {
            file: file.into(),
            key: key.into(),
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers give numbers and text alike"
    )]
    pub(crate) fn unsupported(
        file: &Path,
        key: impl Into<String>,
        value: impl ToString,
        supported: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            file: file.into(),
            key: key.into(),
            value: value.to_string(),
            supported: supported.into(),
        }
    }
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
