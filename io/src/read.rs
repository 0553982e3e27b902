//! Reading the tensors and weights of an open file.

use crate::{
    container::{DENSE_SUFFIX, Declared},
    error::{Error, Result},
    file::{Stored, WeightFile},
    layout::{self, Layout},
    tensor::{F32Tensor, RawTensor, weight_dtype},
};
use lacuna::format::{Dense, Format, Matrix, Nm, Values};
use std::ops::Range;

impl WeightFile {
    /// Reads a tensor as it is stored.
    ///
    /// # Errors
    /// [`Error::NoTensor`], and the errors of reading.
    pub fn raw(&self, name: &str) -> Result<RawTensor> {
        let stored = self.stored(name)?;
        let bytes = self.shards[stored.shard].read(name, &stored.range)?;
        Ok(RawTensor {
            dtype: stored.dtype,
            shape: stored.shape.clone(),
            bytes,
        })
    }

    /// Reads a tensor of F32, F16 or BF16 values, of any shape, as f32.
    ///
    /// # Errors
    /// [`Error::NoTensor`], [`Error::Tensor`] for other types, and the errors of reading.
    pub fn f32_tensor(&self, name: &str) -> Result<F32Tensor> {
        let stored = self.stored(name)?;
        let values = self.values(name, stored)?.to_f32();
        Ok(F32Tensor {
            shape: stored.shape.clone(),
            values,
        })
    }

    /// Reads `P.bias` of a weight as f32, if the file has one.
    ///
    /// # Errors
    /// [`Error::Tensor`] unless it is `[rows]` F32, F16 or BF16; [`Error::NoWeight`].
    pub fn bias(&self, module: &str) -> Result<Option<Vec<f32>>> {
        let rows = self.module(module)?.rows();
        let name = format!("{module}.bias");
        let Some(stored) = self.tensors.get(&name) else {
            return Ok(None);
        };
        if stored.shape != [rows] {
            return Err(Error::Tensor {
                file: self.file_of(stored),
                tensor: name,
                what: "shape",
                got: format!("{:?}", stored.shape),
                expected: format!("[{rows}]"),
            });
        }
        Ok(Some(self.values(&name, stored)?.to_f32()))
    }

    /// Reads a weight and checks every index, offset and code of it.
    ///
    /// # Errors
    /// [`Error::NoWeight`], [`Error::Weight`] if sections contradict the format, [`Error::Layout`],
    /// and the errors of reading.
    pub fn weight(&self, name: &str) -> Result<Matrix> {
        let module = self.module(name)?;
        if !matches!(module.layout(), Layout::Tensor | Layout::Container) {
            return layout::matrix(&self.view(name, module.layout()));
        }
        let declared = module.declared;
        let Declared {
            format, rows, cols, ..
        } = declared;
        let wrong = |reason| self.wrong(name, reason);
        let values = |suffix: &str| {
            let tensor = format!("{name}{suffix}");
            self.stored(&tensor)
                .and_then(|stored| self.values(&tensor, stored))
        };
        match format {
            Format::Nm { pattern, .. } => {
                let indices = self.raw(&format!("{name}.indices"))?.bytes;
                let indices = indices
                    .chunks_exact(4)
                    .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                Nm::from_parts(pattern, rows, cols, values(".values")?, indices.collect())
                    .map(Matrix::from)
                    .map_err(wrong)
            }
            Format::Quantized { pattern, quant } => self.quantized(name, declared, pattern, quant),
            Format::Gqs { quant, pruning } => self.gqs(name, declared, quant, pruning),
            // Formats without sections were refused when the file was opened.
            _ => Dense::new(rows, cols, values(DENSE_SUFFIX)?)
                .map(Matrix::from)
                .map_err(wrong),
        }
    }

    /// Reads some rows of a dense weight. From a plain tensor no bytes of other rows are read.
    ///
    /// # Errors
    /// [`Error::NoWeight`], [`Error::Tensor`] if the weight is not dense or `rows` is not a range of
    /// its rows, and the errors of reading.
    pub fn weight_rows(&self, name: &str, rows: Range<usize>) -> Result<Dense> {
        let module = self.module(name)?;
        let Declared { format, cols, .. } = module.declared;
        let wrong = |what, got: String, expected: String| Error::Tensor {
            file: self.path().to_owned(),
            tensor: name.into(),
            what,
            got,
            expected,
        };
        let Format::Dense(dtype) = format else {
            return Err(wrong("format", format.to_string(), "dense".into()));
        };
        if rows.start > rows.end || rows.end > module.rows() {
            let expected = format!("a range within 0..{}", module.rows());
            return Err(wrong("range of rows", format!("{rows:?}"), expected));
        }
        if !module.is_dense() {
            let Matrix::Dense(dense) = self.weight(name)? else {
                unreachable!("a weight is read in the format that its module has");
            };
            return dense.slice_rows(rows).map_err(|e| self.wrong(name, e));
        }
        let tensor = format!("{name}{DENSE_SUFFIX}");
        let stored = self.stored(&tensor)?;
        // The offsets lie inside the tensor, whose size was checked against the file's.
        let byte = |row: usize| stored.range.start + (row * cols * dtype.size()) as u64;
        let values = self.values_at(&tensor, stored, &(byte(rows.start)..byte(rows.end)))?;
        Dense::new(rows.len(), cols, values).map_err(|reason| Error::Weight {
            file: self.path().to_owned(),
            module: name.into(),
            reason,
        })
    }

    fn values(&self, name: &str, stored: &Stored) -> Result<Values> {
        self.values_at(name, stored, &stored.range)
    }

    fn values_at(&self, name: &str, stored: &Stored, range: &Range<u64>) -> Result<Values> {
        let file = || self.file_of(stored);
        let dtype = weight_dtype(stored.dtype).ok_or_else(|| Error::Tensor {
            file: file(),
            tensor: name.into(),
            what: "type",
            got: stored.dtype.to_string(),
            expected: "F32, F16 or BF16".into(),
        })?;
        let bytes = self.shards[stored.shard].read(name, range)?;
        Values::from_le_bytes(dtype, &bytes).map_err(|reason| Error::Weight {
            file: file(),
            module: name.into(),
            reason,
        })
    }
}
