//! Reading tensors out of an open GGUF file.

use super::{GgufFile, table::Stored, types::READABLE};
use crate::error::{Error, Result};
use lacuna::format::Values;
use std::ops::Range;

/// Bytes that are read at once: what a tensor needs besides its f32 values.
const CHUNK: usize = 1 << 20;

impl GgufFile {
    /// Reads a tensor as f32, row-major.
    ///
    /// # Errors
    /// [`Error::NoTensor`], [`Error::Tensor`] where its type cannot be read, and what
    /// reading may give.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let rows = self.stored(name)?.info(name).rows();
        self.read_rows_f32(name, 0..rows)
    }

    /// Reads some rows of a tensor as f32.
    ///
    /// # Errors
    /// [`Error::Tensor`] where `rows` is no range of its rows, and those of [`Self::read_f32`].
    pub fn read_rows_f32(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let stored = self.stored(name)?;
        let tensor = stored.info(name);
        let wrong = |what, got: String, expected: String| Error::Tensor {
            file: self.path().into(),
            tensor: name.into(),
            what,
            got,
            expected,
        };
        let ggml_type = stored.ggml_type;
        let Some(decode) = ggml_type.decoder() else {
            return Err(wrong("type", ggml_type.to_string(), READABLE.into()));
        };
        if rows.start > rows.end || rows.end > tensor.rows() {
            let expected = format!("a range within 0..{}", tensor.rows());
            return Err(wrong("range of rows", format!("{rows:?}"), expected));
        }

        let len = rows.len() * tensor.cols();
        let mut values = Vec::new();
        if values.try_reserve_exact(len).is_err() {
            return Err(Error::OutOfMemory {
                file: self.path().into(),
                tensor: name.into(),
                bytes: (len as u64).saturating_mul(4),
            });
        }
        values.resize(len, 0.0);

        let bytes_of = |values: usize| (values / ggml_type.block * ggml_type.bytes) as u64;
        let mut at = stored.range.start + bytes_of(rows.start * tensor.cols());
        let chunk = CHUNK / ggml_type.bytes * ggml_type.block;
        for part in values.chunks_mut(chunk) {
            let end = at + bytes_of(part.len());
            decode(&self.shard.read(name, &(at..end))?, part);
            at = end;
        }
        Ok(values)
    }

    /// Reads a tensor in its own type where that is F32, F16 or BF16, else as f32.
    ///
    /// # Errors
    /// As [`Self::read_f32`].
    pub fn read_values(&self, name: &str) -> Result<Values> {
        let stored = self.stored(name)?;
        let Some(dtype) = stored.ggml_type.dtype() else {
            return self.read_f32(name).map(Values::F32);
        };
        let bytes = self.shard.read(name, &stored.range)?;
        Values::from_le_bytes(dtype, &bytes).map_err(|reason| Error::Weight {
            file: self.path().into(),
            module: name.into(),
            reason,
        })
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| Error::NoTensor {
            file: self.path().into(),
            tensor: name.into(),
        })
    }
}
