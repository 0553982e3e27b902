//! What can go wrong.

use lacuna_io::printable;
use std::path::PathBuf;

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the quantity, its value and the limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),

    /// Of a weight file.
    #[error(transparent)]
    File(#[from] lacuna_io::Error),

    /// Of a language model.
    #[error(transparent)]
    Model(#[from] lacuna_llm::Error),

    /// An option, or what it is applied to, that cannot be.
    #[error("{what} is {value}; supported: {supported}")]
    Choice {
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        supported: String,
    },

    /// Something has another length than what it belongs to.
    #[error("{what}: {got}, where {expected} belong")]
    Shape {
        /// The quantity.
        what: &'static str,
        /// Its value.
        got: usize,
        /// What it should be.
        expected: usize,
    },

    /// A file of the work folder is of another job, or not what its name says.
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
