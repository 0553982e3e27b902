//! What can go wrong.

use lacuna_io::printable;
use std::path::PathBuf;

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the quantity, its value and the limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),

    /// An error of a weight file.
    #[error(transparent)]
    File(#[from] lacuna_io::Error),

    /// An error of a language model.
    #[error(transparent)]
    Model(#[from] lacuna_llm::Error),

    /// An option that is not possible, or not with what it is applied to.
    #[error("{what} is {value}; supported: {supported}")]
    Choice {
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        supported: String,
    },

    /// A length that does not match what it belongs to.
    #[error("{what}: {got}, where {expected} belong")]
    Shape {
        /// The quantity.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The value it must have.
        expected: usize,
    },

    /// A file in the work folder belongs to another job, or is not what its name says.
    #[error("{}: {}", printable(&file.to_string_lossy()), printable(reason))]
    State {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Burn's device could not do its work.
    #[error("the training device: {0}")]
    Device(String),

    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}
