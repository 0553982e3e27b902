//! Runs the command line under test as a user would.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    error::{Error, Result},
    process,
};

pub struct Lacuna {
    pub executable: PathBuf,
    /// The value of `WGPU_BACKEND`.
    pub backend: String,
}

/// Where something is computed.
#[derive(Clone, Copy, PartialEq)]
pub enum Device {
    Gpu,
    /// The reference: naive loops with double-precision sums.
    Cpu,
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        }
    }
}

impl Lacuna {
    pub fn new(executable: PathBuf, backend: String) -> Self {
        Self {
            executable,
            backend,
        }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.env("WGPU_BACKEND", &self.backend);
        command
    }

    pub fn compress(&self, input: &Path, output: &Path, format: &str) -> Result<()> {
        let mut command = self.command();
        command
            .arg("compress")
            .arg(input)
            .arg("-o")
            .arg(output)
            .args(["--format", format]);
        eprintln!("$ {}", process::line(&command));
        quietly(&mut command)
    }

    pub fn unpack(&self, input: &Path, output: &Path) -> Result<()> {
        quietly(
            self.command()
                .arg("unpack")
                .arg(input)
                .arg("-o")
                .arg(output),
        )
    }

    /// `y = x · Wᵀ` of one weight: x from one file, y into another.
    pub fn matmul(
        &self,
        weights: &Path,
        tensor: &str,
        x: &Path,
        y: &Path,
        device: Device,
    ) -> Result<()> {
        let mut command = self.command();
        command
            .arg("matmul")
            .arg(weights)
            .args(["--tensor", tensor]);
        command
            .arg("--input")
            .arg(x)
            .arg("-o")
            .arg(y)
            .args(["--device", device.name()]);
        quietly(&mut command)
    }

    /// The prompt and its continuation by the model, the same in every run.
    pub fn generate(&self, model: &Path, prompt: &str, device: Device) -> Result<String> {
        let mut command = self.command();
        command
            .arg("generate")
            .arg(model)
            .args(["--prompt", prompt]);
        command.args(["--max-tokens", "120", "--temperature", "0.8"]);
        command.args(["--top-k", "40", "--seed", "1"]);
        answer(command.args(["--device", device.name()]))
    }

    /// How well the model predicts a text, in a format or as it is stored.
    pub fn eval(
        &self,
        model: &Path,
        text: &Path,
        format: Option<&str>,
        device: Device,
    ) -> Result<Value> {
        let mut command = self.command();
        command.arg("eval").arg(model).arg("--text").arg(text);
        // The window length with which the model was trained.
        command.args(["--ctx", "256", "--device", device.name(), "--json"]);
        command.args(format.into_iter().flat_map(|format| ["--format", format]));
        let text = answer(&mut command)?;
        json(&command, &text)
    }

    /// Times the model's tokens in each of the formats.
    pub fn bench_model(&self, model: &Path, formats: &[&str]) -> Result<Value> {
        let mut command = self.command();
        command.arg("bench-model").arg(model);
        command.args(["--format", &formats.join(","), "--json"]);
        // With many short rounds, other programs hardly disturb the median.
        command.args(["--prompt-tokens", "16", "--tokens", "32", "--rounds", "9"]);
        let text = answer(&mut command)?;
        json(&command, &text)
    }

    /// Times products; returns the figures, and whether all products were right.
    pub fn bench(&self, arguments: &[&str]) -> Result<(Value, bool)> {
        let mut command = self.command();
        command.arg("bench").args(arguments).args(["-o", "json"]);
        eprintln!("$ {}", process::line(&command));
        let output = process::capture(command.stderr(Stdio::inherit()))?;
        // After a failed check (status 1) all rows are still printed.
        let right = match output.code {
            Some(0) => true,
            Some(1) => false,
            _ => return Err(failed(&command, &output)),
        };
        Ok((json(&command, &output.stdout)?, right))
    }
}

/// Runs a command and shows its output only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    printed(command).map(|_| ())
}

/// Announces the command, as it may take a while, and returns its output.
fn answer(command: &mut Command) -> Result<String> {
    eprintln!("$ {}", process::line(command));
    printed(command)
}

fn printed(command: &mut Command) -> Result<String> {
    let output = process::capture(command)?;
    if output.code == Some(0) {
        Ok(output.stdout)
    } else {
        Err(failed(command, &output))
    }
}

fn json(command: &Command, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| {
        let line = process::line(command);
        Error::new(format!("`{line}` printed no JSON: {e}"))
    })
}

fn failed(command: &Command, output: &process::Output) -> Error {
    let code = output
        .code
        .map_or_else(|| "a signal".into(), |code| format!("exit status {code}"));
    let program = command.get_program().to_string_lossy();
    let arguments: Vec<&OsStr> = command.get_args().collect();
    Error::new(format!(
        "{program} {arguments:?}: {code}\n{}",
        output.stderr
    ))
}
