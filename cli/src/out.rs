//! Writing to stdout and stderr, which their readers may close.

use crate::error::{Error, Result};
use lacuna_io::{check_place, printable};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::Path,
};

/// Writes `text` and flushes it, so that readers see whole lines.
pub fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(lost)
}

/// Writes what clap answers to `--help` and `--version`.
pub fn said(answer: &clap::Error) -> Result<()> {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    printed.map_err(lost)
}

fn lost(reason: io::Error) -> Error {
    match reason.kind() {
        io::ErrorKind::BrokenPipe => Error::Pipe,
        _ => Error::Stdout(reason),
    }
}

/// Refuses an output at which no file can appear, or that would take the place of an input.
pub fn is_file(output: &Path, inputs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    check_place(output)?;
    differs(output, inputs)
}

/// Refuses an output that would take the place of an input.
pub fn differs(output: &Path, inputs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    // What does not exist yet is no input.
    let Ok(place) = output.canonicalize() else {
        return Ok(());
    };
    for input in inputs {
        let input = input.as_ref();
        if input.canonicalize().is_ok_and(|input| input == place) {
            return Err(Error::Usage(format!(
                "{} is an input, the output needs another name",
                printable(&input.to_string_lossy())
            )));
        }
    }
    Ok(())
}

/// Writes `value` as indented JSON. Numbers that JSON lacks (NaN, infinities) become null.
pub fn json(value: &impl Serialize) -> Result<()> {
    write(&(to_text(serde_json::to_string_pretty(value))? + "\n"))
}

/// Writes `value` as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<()> {
    write(&(to_text(serde_json::to_string(value))? + "\n"))
}

/// Writes a line to stderr. A lost one is nobody's loss: what it accompanies goes on.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => {
        $crate::out::line(&format!($($text)*))
    };
}

/// What [`note!`] calls.
pub fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn to_text(made: serde_json::Result<String>) -> Result<String> {
    made.map_err(|e| Error::Stdout(e.into()))
}

#[cfg(test)]
mod tests {
    use super::to_text;

    #[test]
    fn numbers_that_json_lacks_are_null() {
        let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5];
        let text = to_text(serde_json::to_string(&numbers)).expect("text");
        assert_eq!(text, "[null,null,null,-0.5]");
    }
}
