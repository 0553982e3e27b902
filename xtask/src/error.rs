//! Errors as messages, each of which names the file or command that it concerns.

use std::{fmt::Display, path::Path};

#[derive(Debug)]
pub enum Error {
    /// The command line was not understood.
    Usage(String),
    /// A step or a check failed.
    Failed(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// For `map_err` on the result of a file operation.
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
