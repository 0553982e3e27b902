//! The error type of this crate.

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, always with the quantity, its value and the limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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

    /// A token id that the model does not have.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    Vocabulary {
        /// The id.
        id: u32,
        /// Tokens of the vocabulary.
        vocab: usize,
    },

    /// More tokens than the context holds.
    #[error("{tokens} tokens of context, the limit is {limit}")]
    Context {
        /// Tokens asked for.
        tokens: usize,
        /// The limit.
        limit: usize,
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

    /// Windows of evaluation that cannot be cut.
    #[error("evaluation: {what} is {value}, allowed is {least} to {most}")]
    Windows {
        /// The quantity, for example `"stride"`.
        what: &'static str,
        /// Its value.
        value: usize,
        /// Its least value.
        least: usize,
        /// Its greatest value.
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

    /// The host ended it.
    #[error("cancelled")]
    Cancelled,

    /// A module was asked for that a model of this configuration does not have.
    #[error("the model has no {what} {name:?}")]
    UnknownModule {
        /// `"weight"`, `"norm"` or `"bias"`.
        what: &'static str,
        /// The name asked for.
        name: String,
    },

    /// The engine refused a weight or a call.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),
}
