//! What can go wrong, in words: every message names the file or command it is about.

use std::{fmt::Display, path::Path};

#[derive(Debug)]
pub enum Error {
    /// The command line was not understood.
    Usage(String),
    /// Something did not work or did not hold.
    Failed(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// For `map_err` on whatever a file operation returned.
    pub fn at<E: Display>(path: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self::Failed(format!("{}: {error}", path.display()))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (Self::Usage(message) | Self::Failed(message)) = self;
        f.write_str(message)
    }
}
