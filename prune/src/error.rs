//! The error type of this crate.

use lacuna_io::printable;
use std::path::{Path, PathBuf};

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

    /// A file of statistics is malformed.
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

    /// A file of statistics has no entry for a module.
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

    /// A file of statistics lacks what thresholds are chosen by.
    #[error(
        "{}: there is nothing to choose thresholds of \"{}\" by: calibrate without \
         --no-thresholds",
        shown(file),
        printable(module)
    )]
    NoThresholds {
        /// The file.
        file: PathBuf,
        /// The module asked for.
        module: String,
    },

    /// The inputs of a weight have another number of columns than the weight.
    #[error(
        "{}: the inputs of \"{}\" have {got} columns, the weight has {expected}: these are \
         another model's",
        shown(file),
        printable(module)
    )]
    Columns {
        /// The file.
        file: PathBuf,
        /// The module.
        module: String,
        /// Columns of its inputs.
        got: usize,
        /// Columns of the weight.
        expected: usize,
    },

    /// Inputs that contradict each other.
    #[error("{what}: {got}, where {expected} belongs")]
    Inputs {
        /// The quantity.
        what: &'static str,
        /// Its value.
        got: String,
        /// What it should be.
        expected: String,
    },

    /// A score needs moments of the inputs, and none were given.
    #[error("the score {score} needs the moments of the weight's inputs: calibrate first")]
    NoInputs {
        /// Which score.
        score: &'static str,
    },

    /// A method needs `E[x xᵀ]`, and only the moments of single elements are known.
    #[error("{what} needs the Hessian of the weight's inputs: calibrate with Hessians")]
    NoHessian {
        /// Which method.
        what: &'static str,
    },

    /// The Hessian is not positive definite, though the quadratic form of inputs is never below zero.
    #[error(
        "the Hessian is not positive definite: column {column} leaves {pivot}, where more than 0 \
         belongs"
    )]
    NotPositive {
        /// Column at which its factorisation failed.
        column: usize,
        /// What was left of its diagonal.
        pivot: f64,
    },

    /// A format that this package cannot make.
    #[error("{format} is not a format that weights can be pruned or quantised to here")]
    Format {
        /// Its name.
        format: lacuna::format::Format,
    },
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
