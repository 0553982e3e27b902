//! Running the binary, and files to run it on.
#![allow(dead_code)] // Each test program uses its own part.

use lacuna_io::{RawTensor, WeightFile, save};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A folder for outputs.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").into()
    }
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    command.args(args);
    command
}

pub fn lacuna(args: &[&str]) -> Output {
    command(args).output().expect("the binary starts")
}

/// The exit code, after checking that the program did not panic.
pub fn code(output: &Output) -> i32 {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{text}");
    output.status.code().expect("it was not killed")
}

pub fn stdout(output: &Output) -> String {
    assert_eq!(
        code(output),
        0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub fn json(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(&lacuna(args))).expect("JSON")
}

/// A folder with `model.safetensors`: two layers, an embedding, a norm and a bias.
pub struct Model {
    folder: tempfile::TempDir,
}

pub const ROWS: usize = 12;
pub const COLS: usize = 20;

impl Model {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let matrix = |seed: usize| {
            let value = |i: usize| ((i * 7919 + seed * 104_729) % 211) as f32 / 100.0 - 1.05;
            let values: Vec<f32> = (0..ROWS * COLS).map(value).collect();
            RawTensor::from_f32(&[ROWS, COLS], &values)
        };
        let bias: Vec<f32> = (0..ROWS).map(|i| i as f32).collect();
        let tensors = [
            ("layers.0.up.weight", matrix(1)),
            ("layers.0.up.bias", RawTensor::from_f32(&[ROWS], &bias)),
            ("layers.0.down.weight", matrix(2)),
            ("embed.weight", matrix(3)),
            ("norm.weight", RawTensor::from_f32(&[COLS], &[1.0; COLS])),
            ("empty.weight", RawTensor::from_f32(&[3, 0], &[])),
        ];
        save(folder.path().join("model.safetensors"), tensors).expect("a model");
        Self { folder }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").into()
    }

    pub fn weights(&self) -> String {
        self.path("model.safetensors")
    }

    pub fn input(&self, batch: usize, cols: usize) -> String {
        let path = self.path(&format!("x{batch}x{cols}.safetensors"));
        let values: Vec<f32> = (0..batch * cols).map(|i| (i % 13) as f32 - 6.0).collect();
        save(&path, [("x", RawTensor::from_f32(&[batch, cols], &values))]).expect("an input");
        path
    }

    /// Names of everything in the folder, sorted.
    pub fn names(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
        names.sort();
        names
    }
}

pub fn y(path: impl AsRef<Path>) -> (Vec<usize>, Vec<f32>) {
    let file = WeightFile::open(path).expect("an output");
    let y = file.f32_tensor("y").expect("y");
    (y.shape, y.values)
}

/// Whether to run tests that need an adapter. If one is promised, its absence is a failure.
pub fn adapter() -> bool {
    let promised = std::env::var_os("LACUNA_TEST_ADAPTER").is_some_and(|v| v == "1");
    if !promised {
        eprintln!("skipped: LACUNA_TEST_ADAPTER=1 promises an adapter");
    }
    promised
}
