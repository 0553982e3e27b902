//! The error type of weight files, and how names from files are printed.

use crate::layout::{Layout, Refusal};
use std::path::{Path, PathBuf};

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, always with the file, the name, the quantity, its value and the limit.
///
/// The message is complete in itself and safe to print: whatever comes from a
/// file is escaped and shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input could not be read.
    #[error("{}: {reason}", shown(file))]
    Read {
        /// The file.
        file: PathBuf,
        /// The message of the operating system.
        reason: std::io::Error,
    },

    /// A file is not what its name or its own header claims.
    #[error("{}: {reason}", shown(file))]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A file ends before its tensors do, though it did not when it was opened.
    #[error(
        "{}: tensor {}: {got} bytes are left of {expected}; the file was cut after it was opened",
        shown(file),
        quoted(tensor)
    )]
    Truncated {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Bytes that could be read.
        got: u64,
        /// Bytes the header promises.
        expected: u64,
    },

    /// A tensor does not fit into the memory that is left.
    #[error(
        "{}: tensor {}: no memory for {bytes} bytes",
        shown(file),
        quoted(tensor)
    )]
    OutOfMemory {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its size.
        bytes: u64,
    },

    /// A container of a version this crate does not know.
    #[error(
        "{}: lacuna.version is {}, this build reads versions up to {supported}",
        shown(file),
        quoted(version)
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: String,
        /// The newest version that is understood.
        supported: u64,
    },

    /// The header's entry for a container module is invalid.
    #[error("{}: module {}: {reason}", shown(file), quoted(module))]
    Module {
        /// The file.
        file: PathBuf,
        /// The module.
        module: String,
        /// What is wrong with the entry.
        reason: String,
    },

    /// A tensor is not of the type or shape that its use needs.
    #[error(
        "{}: tensor {}: {what} is {got}, expected {expected}",
        shown(file),
        quoted(tensor)
    )]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The quantity, for example `"shape"`.
        what: &'static str,
        /// Its value.
        got: String,
        /// The value it must have.
        expected: String,
    },

    /// A tensor that must be there is not.
    #[error("{}: there is no tensor {}", shown(file), quoted(tensor))]
    NoTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// A metadata value is not of the type that its use needs.
    #[error(
        "{}: metadata {}: the value is {got}, expected {expected}",
        shown(file),
        quoted(key)
    )]
    Metadata {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// Its type and, where it is short, its value.
        got: String,
        /// The type it must have.
        expected: String,
    },

    /// A metadata key that must be there is not.
    #[error("{}: there is no metadata {}", shown(file), quoted(key))]
    NoMetadata {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },

    /// A module was asked for that is no weight of the file.
    #[error("{}: there is no weight {}{hint}", shown(file), quoted(module))]
    NoWeight {
        /// The file.
        file: PathBuf,
        /// The module asked for.
        module: String,
        /// What is there instead, or nothing.
        hint: String,
    },

    /// The sections of a weight contradict its format.
    #[error("{}: weight {}: {reason}", shown(file), quoted(module))]
    Weight {
        /// The file.
        file: PathBuf,
        /// The module.
        module: String,
        /// The check that failed.
        reason: lacuna::Error,
    },

    /// A weight in another program's layout cannot be read.
    #[error("{}: weight {}, as {layout}: {reason}", shown(file), quoted(module))]
    Layout {
        /// The file.
        file: PathBuf,
        /// The module.
        module: String,
        /// The layout that it seems to be in.
        layout: Layout,
        /// Why it cannot be read.
        reason: Box<Refusal>,
    },

    /// A glob that does not parse.
    #[error("glob {}: {reason}", quoted(glob))]
    Glob {
        /// The glob.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A glob that matches no weight, or globs that leave none.
    #[error("{} of {candidates} weights: {reason}{}", quoted(glob), such_as(example.as_deref()))]
    NoMatch {
        /// The glob, or all of them.
        glob: String,
        /// Number of weights it was tried on.
        candidates: usize,
        /// Whether it matched nothing or what it matched was excluded.
        reason: &'static str,
        /// The name of one of the weights.
        example: Option<String>,
    },

    /// The content declared or delivered for an output does not add up.
    #[error("output tensor {}: {reason}", quoted(tensor))]
    Plan {
        /// The tensor or module.
        tensor: String,
        /// What does not add up.
        reason: String,
    },

    /// Writing to this path would destroy something that is no single weight file.
    #[error("will not write to {}: {reason}", shown(file))]
    Refused {
        /// The path.
        file: PathBuf,
        /// What would be destroyed.
        reason: &'static str,
    },

    /// An output could not be written. Nothing of it is left.
    #[error("cannot write {}: {reason}", shown(file))]
    Write {
        /// The file.
        file: PathBuf,
        /// The message of the operating system.
        reason: std::io::Error,
    },
}

/// Whose fault an [`Error`] is, which decides what a program does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An input file is missing, unreadable or invalid.
    Input,
    /// What was asked for does not make sense for these files.
    Usage,
    /// The output could not be written.
    Output,
}

impl Error {
    /// Whose fault it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoWeight { .. }
            | Self::Glob { .. }
            | Self::NoMatch { .. }
            | Self::Plan { .. }
            | Self::Refused { .. } => Kind::Usage,
            Self::Write { .. } => Kind::Output,
            _ => Kind::Input,
        }
    }
}

fn such_as(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("; one is {}", quoted(name)))
}

/// `text` on one line without control characters, shortened if it is very long. Meant for names
/// that come from a file and go to a terminal.
pub fn printable(text: &str) -> String {
    escaped(text, 200)
}

/// The message of a parser, escaped because it quotes the file.
pub(crate) fn parser_words(error: &impl ToString) -> String {
    escaped(&error.to_string(), 1000)
}

fn escaped(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for c in text.chars().take(limit) {
        match c {
            '"' | '\'' | '\\' => line.push(c),
            _ => line.extend(c.escape_debug()),
        }
    }
    match text.chars().nth(limit) {
        None => line,
        Some(_) => format!("{line}… ({} bytes)", text.len()),
    }
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", printable(name))
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        let text = printable("a\u{1b}[2J\n\0\u{202e}b");
        assert!(
            text.chars().all(|c| !c.is_control() && c != '\u{202e}'),
            "{text}"
        );
    }

    #[test]
    fn long_names_are_shortened() {
        let text = printable(&"é".repeat(1 << 20));
        assert!(
            text.len() < 500 && text.ends_with("(2097152 bytes)"),
            "{text}"
        );
    }
}
