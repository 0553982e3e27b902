//! Runs other programs, with output streamed for a person or captured for this program.

use std::{
    io,
    process::{Command, Stdio},
};

use crate::error::{Error, Result};

/// The result of a captured program.
pub struct Output {
    /// The exit status; `None` if a signal ended the program.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs with both streams shown, and fails if the program fails.
pub fn stream(command: &mut Command) -> Result<()> {
    eprintln!("\n$ {}", line(command));
    let status = command.status().map_err(|e| not_started(command, &e))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!("`{}`: {status}", line(command))))
    }
}

/// Like [`stream`], with standard output moved to standard error, which carries progress.
pub fn stream_as_progress(command: &mut Command) -> Result<()> {
    stream(command.stdout(Stdio::from(io::stderr())))
}

/// Runs with both streams captured; the caller judges the exit status.
pub fn capture(command: &mut Command) -> Result<Output> {
    let output = command.output().map_err(|e| not_started(command, &e))?;
    Ok(read(&output))
}

/// Runs with standard output captured and standard error shown; fails if the program fails.
pub fn capture_stdout(command: &mut Command) -> Result<String> {
    eprintln!("\n$ {}", line(command));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| not_started(command, &e))?;
    if output.status.success() {
        Ok(read(&output).stdout)
    } else {
        let status = output.status;
        Err(Error::new(format!("`{}`: {status}", line(command))))
    }
}

/// The standard output of a program; `None` if the program is absent or fails.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| read(&output).stdout)
}

/// The command as a person would type it, for display only: the quoting is not safe for a shell.
pub fn line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .map(|word| {
            if word.contains([' ', '*', '$']) {
                format!("'{word}'")
            } else {
                word
            }
        })
        .collect();
    words.join(" ")
}

fn read(output: &std::process::Output) -> Output {
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn not_started(command: &Command, error: &io::Error) -> Error {
    Error::new(format!("`{}` did not start: {error}", line(command)))
}
