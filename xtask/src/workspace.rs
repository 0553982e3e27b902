//! The workspace: its root, its target folder, and the cargo that builds it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    error::{Error, Result},
    process,
};

pub struct Workspace {
    pub root: PathBuf,
    /// Cargo's target folder, as the configuration sets it.
    pub target: PathBuf,
}

impl Workspace {
    pub fn find() -> Result<Self> {
        // Starts from the manifest of xtask, so that the current folder does not matter.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut command = Command::new(cargo_program());
        command.args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
        ]);
        let output = process::capture(command.arg(manifest))?;
        let folders: Value = serde_json::from_str(&output.stdout)
            .map_err(|_| Error::new(format!("cargo metadata failed:\n{}", output.stderr)))?;
        let folder = |key: &str| match folders[key].as_str() {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err(Error::new(format!("cargo metadata names no {key}"))),
        };
        Ok(Self {
            root: folder("workspace_root")?,
            target: folder("target_directory")?,
        })
    }

    pub fn cargo(&self) -> Command {
        let mut command = Command::new(cargo_program());
        command.current_dir(&self.root);
        command
    }

    /// Builds, and returns the path of `program`.
    pub fn build(&self, arguments: &[&str], program: &str) -> Result<PathBuf> {
        self.built(arguments, program, false)
    }

    /// Builds, and returns the path of the test program named `program`.
    pub fn build_test(&self, arguments: &[&str], program: &str) -> Result<PathBuf> {
        self.built(arguments, program, true)
    }

    fn built(&self, arguments: &[&str], program: &str, test: bool) -> Result<PathBuf> {
        let mut command = self.cargo();
        command.arg("build").args(arguments);
        command.arg("--message-format=json-render-diagnostics");
        let messages = process::capture_stdout(&mut command)?;
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == program)
            // A program and its unit tests have the same name.
            .filter(|message| message["profile"]["test"] == test)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .ok_or_else(|| Error::new(format!("the build made no program {program}")))
    }
}

/// The cargo that runs this program, which names itself in CARGO, so that its toolchain is used again.
fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
