//! The part of the safetensors format that the checks need, written independently of `lacuna-io` so
//! that a second reader confirms the demo's figures.
//!
//! A file is the length of a JSON header (8 bytes, little-endian), the header, the data.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

pub struct Safetensors {
    header: Map<String, Value>,
    data: Vec<u8>,
    name: String,
}

/// A 2-D tensor, row-major.
#[derive(Debug, PartialEq)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }
}

impl Safetensors {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::at(path))?;
        let parse = || {
            let (length, rest) = bytes.split_first_chunk::<8>()?;
            let (header, data) =
                rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            Some((serde_json::from_slice(header).ok()?, data.to_vec()))
        };
        let name = path.display().to_string();
        let (header, data) =
            parse().ok_or_else(|| Error::new(format!("{name}: not a safetensors file")))?;
        Ok(Self { header, data, name })
    }

    /// The names of modules with a sparse weight, which are those that the metadata describes.
    pub fn modules(&self) -> Vec<String> {
        let entries = self.header.get("__metadata__").and_then(Value::as_object);
        let keys = entries.into_iter().flat_map(Map::keys);
        let names = keys
            .filter_map(|key| key.strip_prefix("lacuna."))
            .filter(|name| *name != "version");
        let mut names: Vec<String> = names.map(String::from).collect();
        names.sort_unstable();
        names
    }

    /// The bytes that a tensor takes; `None` if there is no such tensor.
    pub fn size(&self, tensor: &str) -> Option<usize> {
        self.bytes(tensor).map(<[u8]>::len)
    }

    /// A 2-D tensor of f32 or bf16 values, the only types in the asset and the output of `lacuna unpack`.
    pub fn matrix(&self, tensor: &str) -> Result<Matrix> {
        self.decode(tensor).ok_or_else(|| {
            Error::new(format!(
                "{}: no matrix {tensor} that can be read",
                self.name
            ))
        })
    }

    fn decode(&self, tensor: &str) -> Option<Matrix> {
        let entry = self.header.get(tensor)?;
        let [rows, cols] = entry["shape"].as_array()?.as_slice() else {
            return None;
        };
        let (rows, cols) = (rows.as_u64()? as usize, cols.as_u64()? as usize);
        let bytes = self.bytes(tensor)?;
        let values: Vec<f32> = match entry["dtype"].as_str()? {
            "F32" => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            // bf16 is the upper half of an f32.
            "BF16" => bytes
                .chunks_exact(2)
                .map(|b| f32::from_le_bytes([0, 0, b[0], b[1]]))
                .collect(),
            _ => return None,
        };
        (values.len() == rows * cols).then_some(Matrix { rows, cols, values })
    }

    fn bytes(&self, tensor: &str) -> Option<&[u8]> {
        let [start, end] = self.header.get(tensor)?["data_offsets"]
            .as_array()?
            .as_slice()
        else {
            return None;
        };
        self.data
            .get(start.as_u64()? as usize..end.as_u64()? as usize)
    }
}

/// Writes a file of one f32 matrix.
pub fn write_matrix(path: &Path, tensor: &str, matrix: &Matrix) -> Result<()> {
    let data: Vec<u8> = matrix
        .values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let entry = json!({"dtype": "F32", "shape": [matrix.rows, matrix.cols], "data_offsets": [0, data.len()]});
    let mut header = json!({ tensor: entry }).to_string();
    // The data starts at a multiple of 8 bytes, as readers may map it in place.
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.extend(data);
    fs::write(path, bytes).map_err(Error::at(path))
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Safetensors, write_matrix};

    #[test]
    fn a_matrix_survives_the_file() {
        let path =
            std::env::temp_dir().join(format!("lacuna-xtask-{}.safetensors", std::process::id()));
        let matrix = Matrix {
            rows: 2,
            cols: 3,
            values: vec![1.0, -2.0, 3.5, 0.0, 5.0, 6.0],
        };
        write_matrix(&path, "x", &matrix).expect("writing");
        let file = Safetensors::read(&path).expect("reading");
        std::fs::remove_file(&path).expect("removing");
        assert_eq!(file.matrix("x").expect("the matrix"), matrix);
        assert_eq!(file.size("x"), Some(24));
        assert!(file.matrix("y").is_err() && file.modules().is_empty());
    }
}
