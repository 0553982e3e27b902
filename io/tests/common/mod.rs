//! Files made byte by byte, including what no writer would produce.
#![allow(dead_code, reason = "every test file uses its own part")]

pub mod gguf;
pub mod layouts;

use lacuna::format::{Dense, Dtype, Matrix, Nm, Pattern, Values};
use lacuna_io::{Error, Kind, Output, WeightFile};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A folder for one test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A safetensors file of this header and `data` bytes counting up.
pub fn file_of(header: &str, data: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..data).map(|i| i as u8).collect();
    file_with(header, &data)
}

pub fn file_with(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// Opens `bytes` and reads everything in it.
pub fn read_all(bytes: &[u8]) -> Result<(), Error> {
    let folder = Folder::new();
    let file = WeightFile::open(folder.put("x.safetensors", bytes))?;
    for module in file.modules() {
        assert!(module.bytes() <= bytes.len() as u64);
        file.weight(module.name())?.to_dense();
        file.bias(module.name())?;
    }
    for tensor in file.tensors() {
        assert_eq!(file.raw(tensor.name)?.bytes.len() as u64, tensor.bytes);
        file.f32_tensor(tensor.name).ok();
    }
    Ok(())
}

/// The message with which `bytes` are refused as bad input.
pub fn refusal(bytes: &[u8]) -> String {
    message_of(&read_all(bytes).expect_err("the file is invalid"))
}

/// The message of an error about an input: short, and safe to print.
pub fn message_of(error: &Error) -> String {
    assert_eq!(error.kind(), Kind::Input, "{error}");
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 3000, "{} bytes of message", message.len());
    message
}

/// Asserts that `bytes` are refused with a message that has all of `parts`.
#[track_caller]
pub fn assert_refused(bytes: &[u8], parts: &[&str]) {
    let message = refusal(bytes);
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

/// A weight of whole numbers that obeys `pattern`, different in every slot.
pub fn sparse(pattern: Pattern, dtype: Dtype, rows: usize, cols: usize, seed: u64) -> Nm {
    let mut state = seed | 1;
    let values: Vec<f32> = (0..rows * cols)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) % 255) as f32 - 127.0
        })
        .collect();
    let dense = Dense::new(rows, cols, Values::round(dtype, &values).unwrap()).unwrap();
    lacuna::compress::prune_by_magnitude(&dense, pattern).unwrap()
}

/// A file of one weight `P`.
pub fn write_weight(path: &std::path::Path, weight: &Matrix) {
    let mut output = Output::new();
    output
        .weight("P", weight.format(), weight.rows(), weight.cols())
        .unwrap();
    let mut writer = output.create(path).unwrap();
    writer.weight("P", weight).unwrap();
    writer.finish().unwrap();
}
