//! What can go wrong.

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

    /// A score that looks at inputs, of which nothing was given.
    #[error("the score {score} needs the moments of the weight's inputs: calibrate first")]
    NoInputs {
        /// Which score.
        score: &'static str,
    },

    /// A method that needs `E[x xᵀ]`, where only the moments of single elements are known.
    #[error("{what} needs the Hessian of the weight's inputs: calibrate with Hessians")]
    NoHessian {
        /// Which method.
        what: &'static str,
    },

    /// A Hessian that is none: the quadratic form of inputs is never below zero.
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
