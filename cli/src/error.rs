//! The errors of commands and their exit codes.

use std::{io, io::Write};

/// Result of every fallible function of the command line.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),

    /// An error about a weight file.
    #[error(transparent)]
    File(#[from] lacuna_io::Error),

    /// An error about a language model.
    #[error(transparent)]
    Model(#[from] lacuna_llm::Error),

    /// An error of compression by statistics.
    #[error(transparent)]
    Prune(#[from] lacuna_prune::Error),
    /// An error of recovery.
    #[cfg(feature = "recover")]
    #[error(transparent)]
    Recovery(Box<lacuna_recover::Error>),

    /// A file is fine, but one weight in it cannot be worked on.
    #[error("weight \"{}\": {reason}", lacuna_io::printable(module))]
    Weight {
        /// The module.
        module: String,
        /// Why not.
        reason: lacuna::Error,
    },

    /// One weight cannot be compressed by the statistics of its inputs.
    #[error("weight \"{}\": {reason}", lacuna_io::printable(module))]
    Compress {
        /// The module.
        module: String,
        /// Why not.
        reason: Box<lacuna_prune::Error>,
    },

    /// A work folder holds the files of another job.
    #[error(
        "{folder} holds another job's shards: its {what} is {got}, this job's is {expected}; \
         go on with its arguments, or remove it"
    )]
    OtherJob {
        /// The folder.
        folder: String,
        /// Which setting differs.
        what: String,
        /// Its value in the folder.
        got: String,
        /// Its value according to the arguments.
        expected: String,
    },

    /// A file of a work folder is missing, corrupt, or another job's.
    #[error("{file}: {reason}")]
    Shard {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },

    /// An input file does not hold what the command needs.
    #[error("{0}")]
    Input(String),

    /// Arguments that make no sense together.
    #[error("{0}")]
    Usage(String),

    /// Results that were computed are wrong.
    #[error("{0}")]
    Check(String),

    /// A file cannot be written.
    #[error("{file}: {reason}")]
    Write {
        /// The file.
        file: String,
        /// Why not.
        reason: io::Error,
    },

    /// stdout cannot be written.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),

    /// stdout was closed by its reader.
    #[error("stdout was closed")]
    Pipe,

    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The exit code: 1 check failed, 2 usage, 3 no adapter or feature, 4 bad input file,
    /// 5 device lost, timeout or out of memory, 6 output failed, 130 interrupted.
    pub fn code(&self) -> u8 {
        match self {
            Self::Check(_) => 1,
            Self::Usage(_) | Self::OtherJob { .. } => 2,
            Self::Engine(e) | Self::Weight { reason: e, .. } => engine_code(e),
            Self::Input(_) | Self::Shard { .. } => 4,
            Self::File(e) => file_code(e),
            Self::Model(e) => model_code(e),
            Self::Prune(e) => prune_code(e),
            Self::Compress { reason, .. } => prune_code(reason),
            #[cfg(feature = "recover")]
            Self::Recovery(e) => recovery_code(e),
            Self::Write { .. } | Self::Stdout(_) => 6,
            Self::Pipe => 0,
            Self::Interrupted => 130,
        }
    }
}

const fn file_code(error: &lacuna_io::Error) -> u8 {
    match error {
        lacuna_io::Error::Weight { .. } => 4,
        lacuna_io::Error::OutOfMemory { .. } => 5,
        other => match other.kind() {
            lacuna_io::Kind::Usage => 2,
            lacuna_io::Kind::Input => 4,
            lacuna_io::Kind::Output => 6,
        },
    }
}

const fn model_code(error: &lacuna_llm::Error) -> u8 {
    use lacuna_llm::Error as E;
    match error {
        E::Engine(e) | E::Module { reason: e, .. } => engine_code(e),
        E::File(e) => file_code(e),
        E::RecipeSyntax { .. }
        | E::Sampling { .. }
        | E::Windows { .. }
        | E::Choice { .. }
        | E::Context { .. }
        | E::Empty => 2,
        E::Cancelled => 130,
        // All others concern the content of a checkpoint.
        _ => 4,
    }
}

const fn prune_code(error: &lacuna_prune::Error) -> u8 {
    use lacuna_prune::Error as E;
    match error {
        E::Engine(e) => engine_code(e),
        E::File(e) => file_code(e),
        E::NoInputs { .. } | E::NoHessian { .. } | E::NoThresholds { .. } | E::Format { .. } => 2,
        // All others concern the content of the statistics.
        _ => 4,
    }
}

/// Errors that a recovery passes on keep their kind.
#[cfg(feature = "recover")]
impl From<lacuna_recover::Error> for Error {
    fn from(error: lacuna_recover::Error) -> Self {
        use lacuna_recover::Error as E;
        match error {
            E::Engine(e) => Self::Engine(e),
            E::File(e) => Self::File(e),
            E::Model(e) => Self::Model(e),
            E::Cancelled => Self::Interrupted,
            other => Self::Recovery(other.into()),
        }
    }
}

#[cfg(feature = "recover")]
const fn recovery_code(error: &lacuna_recover::Error) -> u8 {
    use lacuna_recover::Error as E;
    match error {
        E::Choice { .. } => 2,
        E::Device(_) => 5,
        // All others concern the content of files.
        _ => 4,
    }
}

const fn engine_code(error: &lacuna::Error) -> u8 {
    use lacuna::Error as E;
    match error {
        E::FormatSyntax { .. }
        | E::Pattern { .. }
        | E::Quant { .. }
        | E::ZeroPoint { .. }
        | E::GroupWindow { .. }
        | E::Sparsity { .. } => 2,
        E::NoAdapter(_)
        | E::NoDevice(_)
        | E::MissingFeature { .. }
        | E::NoKernel { .. }
        | E::Limit { .. } => 3,
        // The numbers of a matrix come from a file.
        E::Shape { .. }
        | E::TooLarge { .. }
        | E::Violation { .. }
        | E::NotFinite { .. }
        | E::Overflow { .. }
        | E::Index { .. }
        | E::Code { .. }
        | E::Group { .. }
        | E::Threshold { .. } => 4,
        // All others are failures of the device: lost, too slow, out of memory, or a refused call.
        _ => 5,
    }
}

/// Prints one line `error: …`; a closed stderr is ignored.
pub fn print(error: &Error) {
    let _ = writeln!(io::stderr(), "error: {}", one_line(&error.to_string()));
}

/// `text` on one line, with everything that could affect a terminal escaped.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            match c {
                '"' | '\'' | '\\' => line.push(c),
                c => line.extend(c.escape_debug()),
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_that_cannot_steer_a_terminal() {
        assert_eq!(one_line("a\n  b\u{1b}[2J\tc"), "a b\\u{1b}[2J c");
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let lost = lacuna::Error::DeviceLost("gone".into());
        let cases: [(Error, u8); 6] = [
            (Error::Check(String::new()), 1),
            (
                "2:".parse::<lacuna::format::Format>().unwrap_err().into(),
                2,
            ),
            (lacuna::Error::NoAdapter(String::new()).into(), 3),
            (Error::Input(String::new()), 4),
            (lost.into(), 5),
            (Error::Interrupted, 130),
        ];
        for (error, code) in cases {
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
