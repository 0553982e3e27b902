//! Safetensors files: the header, our containers, and the layouts of other programs.

use crate::{folder::Folder, matrix, sketch::Sketch};
use lacuna::format::Matrix;
use lacuna_io::{Error, Kind, Layout, Output, WeightFile, stored_bytes};
use std::path::Path;

/// `data` is a safetensors file.
pub fn safetensors(data: &[u8]) {
    let folder = Folder::new();
    let path = folder.put("model.safetensors", data);
    if read(&folder, &path, data.len() as u64).is_ok() {
        // Whatever is accepted here, the `safetensors` crate accepts too.
        safetensors::SafeTensors::deserialize(data).expect("the file is safetensors");
    }
}

/// `data` is the sketch of a file, which may have a `config.json` beside it.
pub fn tensors(data: &[u8]) {
    let Some(Sketch { file, config }) = Sketch::read(data) else {
        return;
    };
    let folder = Folder::new();
    if let Some(config) = config {
        folder.put("config.json", config);
    }
    let path = folder.put("model.safetensors", &file);
    let _ = read(&folder, &path, file.len() as u64);
}

/// Opens a file and reads everything in it. What can be read must be as declared; the rest must be
/// refused with a proper message.
pub(crate) fn read(folder: &Folder, path: &Path, len: u64) -> Result<(), Error> {
    let file = WeightFile::open(path).inspect_err(check_refusal)?;
    for refused in file.refused() {
        assert!(file.module(refused.name()).is_err());
        file.weight(refused.name())
            .map_err(|e| check_refusal(&e))
            .unwrap_err();
    }
    file.check_readable().unwrap_or_else(|e| check_refusal(&e));
    for module in file.modules() {
        assert!(module.bytes() <= len, "{} of {len} bytes", module.bytes());
        file.bias(module.name())
            .map_or_else(|e| check_refusal(&e), drop);
        let weight = match file.weight(module.name()) {
            Ok(weight) => weight,
            Err(error) => {
                check_refusal(&error);
                continue;
            }
        };
        let shape = (module.format(), module.rows(), module.cols());
        assert_eq!(shape, (weight.format(), weight.rows(), weight.cols()));
        if matches!(module.layout(), Layout::Container | Layout::Tensor) {
            let (format, rows, cols) = shape;
            assert_eq!(Some(module.bytes()), stored_bytes(format, rows, cols));
        }
        check_rows(&file, module.name(), &weight);
        matrix::check(&weight);
        check_written(folder, &weight);
    }
    for tensor in file.tensors() {
        let raw = file.raw(tensor.name).inspect_err(check_refusal)?;
        assert_eq!(raw.bytes.len() as u64, tensor.bytes);
        file.f32_tensor(tensor.name)
            .map_or_else(|e| check_refusal(&e), drop);
    }
    Ok(())
}

/// If rows can be read alone, the last row must be that of the whole weight.
fn check_rows(file: &WeightFile, name: &str, weight: &Matrix) {
    let last = weight.rows() - 1..weight.rows();
    match (file.weight_rows(name, last.clone()), weight) {
        (Ok(row), Matrix::Dense(dense)) => {
            let expected = dense.slice_rows(last).expect("the row is there");
            assert_eq!(row.values().to_le_bytes(), expected.values().to_le_bytes());
        }
        (Ok(_), _) => panic!("rows of a weight that is not dense"),
        (Err(error), _) => check_refusal(&error),
    }
}

/// The weight must be the same when it is written as a container and read back.
fn check_written(folder: &Folder, weight: &Matrix) {
    let (format, rows, cols) = (weight.format(), weight.rows(), weight.cols());
    let mut output = Output::new();
    output
        .weight("P", format, rows, cols)
        .expect("the weight was in a file");
    let path = folder.path("again.safetensors");
    let mut writer = output.create(&path).expect("the file can be made");
    writer
        .weight("P", weight)
        .expect("it is as it was declared");
    writer.finish().expect("nothing is missing");
    let again = WeightFile::open(&path).and_then(|file| file.weight("P"));
    match (again.expect("it was just written"), weight) {
        // A dense weight may hold NaN, so bytes are compared.
        (Matrix::Dense(again), Matrix::Dense(weight)) => {
            assert_eq!(again.values().to_le_bytes(), weight.values().to_le_bytes());
        }
        (again, weight) => assert_eq!(again, *weight),
    }
}

/// A refusal must be an input error and say so on one short line that cannot control a terminal.
pub(crate) fn check_refusal(error: &Error) {
    assert_eq!(error.kind(), Kind::Input, "{error}");
    check_words(&error.to_string());
}

/// A message must be fit for a terminal.
pub(crate) fn check_words(message: &str) {
    assert!(
        !message.is_empty() && message.len() < 4000,
        "{} bytes",
        message.len()
    );
    assert!(!message.chars().any(char::is_control), "{message:?}");
}
