//! The command line under test, run as a user would run it.

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
    /// What `WGPU_BACKEND` is set to.
    pub backend: String,
}

/// Where a product is computed.
#[derive(Clone, Copy, PartialEq)]
pub enum Device {
    Gpu,
    /// The reference: naive loops with double-precision sums.
    Cpu,
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
        let device = match device {
            Device::Gpu => "gpu",
            Device::Cpu => "cpu",
        };
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
            .args(["--device", device]);
        quietly(&mut command)
    }

    /// Times products; false beside the figures says that one of them was wrong.
    pub fn bench(&self, arguments: &[&str]) -> Result<(Value, bool)> {
        let mut command = self.command();
        command.arg("bench").args(arguments).args(["-o", "json"]);
        eprintln!("$ {}", process::line(&command));
        let output = process::capture(command.stderr(Stdio::inherit()))?;
        // Status 1, a failed check, still comes with all rows.
        let right = match output.code {
            Some(0) => true,
            Some(1) => false,
            _ => return Err(failed(&command, &output)),
        };
        let json = serde_json::from_str(&output.stdout).map_err(|e| {
            Error::new(format!(
                "`{}` printed no JSON: {e}",
                process::line(&command)
            ))
        })?;
        Ok((json, right))
    }
}

/// Runs with the output kept back, and shown only where the command fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = process::capture(command)?;
    if output.code == Some(0) {
        Ok(())
    } else {
        Err(failed(command, &output))
    }
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
