//! Reading tensors out of an open GGUF file.

use super::{GgufFile, blocks::Split, table::Stored, types::READABLE};
use crate::{
    error::{Error, Result},
    scales::halves,
};
use lacuna::format::{Codes, Quant, Values};
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
        let mut values = self.reserved(name, len)?;
        values.resize(len, 0.0);
        self.blocks(name, rows, |bytes, part| decode(bytes, &mut values[part]))?;
        Ok(values)
    }

    /// The codes that a tensor is stored as, with nothing rounded; a block is a group of them. `None`
    /// where the engine has none like them ([`GgmlType::quant`](super::GgmlType::quant)), or no
    /// common factor makes their scales normal halves.
    ///
    /// # Errors
    /// [`Error::NoTensor`], and what reading may give.
    pub fn read_codes(&self, name: &str) -> Result<Option<Codes>> {
        let stored = self.stored(name)?;
        let Some((quant, split)) = stored.ggml_type.codes() else {
            return Ok(None);
        };
        let tensor = stored.info(name);
        let mut codes = self.reserved(name, tensor.rows() * tensor.cols())?;
        let scales = self.scales(name, split, |scale, block| {
            // The engine has no scale of 0, but codes that stand for it.
            let zeros = [quant.middle(); 32];
            codes.extend(if scale == 0.0 { zeros } else { block });
        })?;
        let Some((scales, factor)) = halves(&scales) else {
            return Ok(None);
        };
        let codes = Codes::new(quant, codes, scales, vec![], factor);
        codes.map(Some).map_err(|reason| self.wrong(name, reason))
    }

    /// How [`read_codes`](Self::read_codes) would give a tensor; its codes are read, not kept.
    ///
    /// # Errors
    /// Those of [`read_codes`](Self::read_codes).
    pub fn quant(&self, name: &str) -> Result<Option<Quant>> {
        let Some((quant, split)) = self.stored(name)?.ggml_type.codes() else {
            return Ok(None);
        };
        let scales = self.scales(name, split, |_, _| ())?;
        Ok(halves(&scales).map(|_| quant))
    }

    /// The scales of all blocks of a tensor; `see` sees each with its codes.
    fn scales(
        &self,
        name: &str,
        split: Split,
        mut see: impl FnMut(f32, [u8; 32]),
    ) -> Result<Vec<f32>> {
        let stored = self.stored(name)?;
        let tensor = stored.info(name);
        let blocks = tensor.rows() * tensor.cols() / stored.ggml_type.block;
        let mut scales = self.reserved(name, blocks)?;
        self.blocks(name, 0..tensor.rows(), |bytes, _| {
            split(bytes, &mut |scale, block| {
                scales.push(scale);
                see(scale, block);
            });
        })?;
        Ok(scales)
    }

    /// Hands the blocks of some rows to `see`, some of them at a time, with the range of their values.
    fn blocks(
        &self,
        name: &str,
        rows: Range<usize>,
        mut see: impl FnMut(&[u8], Range<usize>),
    ) -> Result<()> {
        let stored = self.stored(name)?;
        let (ggml_type, cols) = (stored.ggml_type, stored.info(name).cols());
        let bytes_of = |values: usize| (values / ggml_type.block * ggml_type.bytes) as u64;
        let mut at = stored.range.start + bytes_of(rows.start * cols);
        let (chunk, len) = (CHUNK / ggml_type.bytes * ggml_type.block, rows.len() * cols);
        for first in (0..len).step_by(chunk) {
            let part = first..(first + chunk).min(len);
            let end = at + bytes_of(part.len());
            see(&self.shard.read(name, &(at..end))?, part);
            at = end;
        }
        Ok(())
    }

    /// An empty vector with room for `len` elements.
    fn reserved<T>(&self, name: &str, len: usize) -> Result<Vec<T>> {
        let mut values = Vec::new();
        match values.try_reserve_exact(len) {
            Ok(()) => Ok(values),
            Err(_) => Err(Error::OutOfMemory {
                file: self.path().into(),
                tensor: name.into(),
                bytes: (len as u64).saturating_mul(size_of::<T>() as u64),
            }),
        }
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
        Values::from_le_bytes(dtype, &bytes).map_err(|reason| self.wrong(name, reason))
    }

    fn wrong(&self, name: &str, reason: lacuna::Error) -> Error {
        Error::Weight {
            file: self.path().into(),
            module: name.into(),
            reason,
        }
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| Error::NoTensor {
            file: self.path().into(),
            tensor: name.into(),
        })
    }
}
