//! What can go wrong.

use lacuna_io::printable;
use std::path::{Path, PathBuf};

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

    /// Inputs that contradict themselves.
    #[error("{what}: {got}, where {expected} belongs")]
    Inputs {
        /// The quantity.
        what: &'static str,
        /// Its value.
        got: String,
        /// What it should be.
        expected: String,
    },

    /// A file of statistics is not as it should be.
    #[error("{}: {}", shown(file), printable(reason))]
    Statistics {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A file of statistics of a version that this crate does not know.
    #[error(
        "{}: these are statistics of version {version}, this build reads versions up to \
         {supported}",
        shown(file)
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: String,
        /// The newest version that is understood.
        supported: u64,
    },

    /// A file of statistics knows nothing of a module.
    #[error(
        "{}: there are no statistics of the inputs of \"{}\"",
        shown(file),
        printable(module)
    )]
    NoModule {
        /// The file.
        file: PathBuf,
        /// The module asked for.
        module: String,
    },
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
