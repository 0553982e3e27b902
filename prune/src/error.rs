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
}
