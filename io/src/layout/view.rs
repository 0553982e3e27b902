//! One weight's tensors, read with the checks that every layout needs.

use super::{Convention, Layout, Quantization, Refusal};
use crate::{
    error::{Error, Result, quoted},
    file::{Stored, WeightFile},
    tensor::{TensorDtype, weight_dtype},
};
use lacuna::format::Values;

/// A weight of a file in one layout.
pub(crate) struct View<'a> {
    pub file: &'a WeightFile,
    /// Its prefix `P`.
    pub module: &'a str,
    pub layout: Layout,
    pub config: &'a Quantization,
    pub convention: &'a Convention,
}

impl View<'_> {
    pub fn refuse(&self, reason: impl Into<Refusal>) -> Error {
        Error::Layout {
            file: self.file.path().to_owned(),
            module: self.module.to_owned(),
            layout: self.layout,
            reason: Box::new(reason.into()),
        }
    }

    pub fn name(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.module)
    }

    /// The name as messages show it.
    pub fn shown(&self, suffix: &str) -> String {
        quoted(&self.name(suffix))
    }

    pub fn find(&self, suffix: &str) -> Option<&Stored> {
        self.file.tensors.get(&self.name(suffix))
    }

    pub fn stored(&self, suffix: &str) -> Result<&Stored> {
        self.find(suffix).ok_or_else(|| {
            self.refuse(Refusal::Missing {
                tensor: self.name(suffix),
            })
        })
    }

    pub fn wrong_type(&self, suffix: &str, got: TensorDtype, expected: &'static str) -> Error {
        self.refuse(Refusal::Type {
            tensor: self.name(suffix),
            got: got.to_string(),
            expected,
        })
    }

    pub fn wrong_shape(&self, suffix: &str, got: &[usize], expected: impl Into<String>) -> Error {
        self.refuse(Refusal::Shape {
            tensor: self.name(suffix),
            got: got.to_vec(),
            expected: expected.into(),
        })
    }

    pub fn wrong_content(
        &self,
        suffix: &str,
        what: String,
        value: &dyn ToString,
        expected: impl Into<String>,
    ) -> Error {
        self.refuse(Refusal::Content {
            tensor: self.name(suffix),
            what,
            value: value.to_string(),
            expected: expected.into(),
        })
    }

    /// The shape of a matrix of this type with no empty side.
    pub fn matrix_shape(
        &self,
        suffix: &str,
        dtype: TensorDtype,
        expected: &'static str,
    ) -> Result<[usize; 2]> {
        let stored = self.stored(suffix)?;
        if stored.dtype != dtype {
            return Err(self.wrong_type(suffix, stored.dtype, expected));
        }
        match *stored.shape {
            [a, b] if a > 0 && b > 0 => Ok([a, b]),
            ref other => Err(self.wrong_shape(suffix, other, "two dimensions above 0")),
        }
    }

    /// Refuses a tensor of another shape than `shape`. `why` explains the shape.
    pub fn expect_shape(&self, suffix: &str, shape: &[usize], why: &str) -> Result<()> {
        let stored = self.stored(suffix)?;
        if stored.shape == shape {
            return Ok(());
        }
        Err(self.wrong_shape(suffix, &stored.shape, format!("{shape:?}{why}")))
    }

    fn bytes(&self, suffix: &str, dtype: TensorDtype, expected: &'static str) -> Result<Vec<u8>> {
        let stored = self.stored(suffix)?;
        if stored.dtype != dtype {
            return Err(self.wrong_type(suffix, stored.dtype, expected));
        }
        Ok(self.file.raw(&self.name(suffix))?.bytes)
    }

    /// Reads an I32 tensor as the words of packed fields.
    pub fn words(&self, suffix: &str) -> Result<Vec<u32>> {
        let bytes = self.bytes(suffix, TensorDtype::I32, "I32")?;
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok(bytes.chunks_exact(4).map(word).collect())
    }

    /// Reads an I64 tensor of sizes.
    pub fn sizes(&self, suffix: &str) -> Result<Vec<usize>> {
        let bytes = self.bytes(suffix, TensorDtype::I64, "I64")?;
        let numbers = bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
        let size = |(i, number): (usize, i64)| {
            usize::try_from(number).map_err(|_| {
                let what = format!("element {i}");
                self.wrong_content(suffix, what, &number, "0 or more")
            })
        };
        numbers.enumerate().map(size).collect()
    }

    /// Reads a U8 tensor.
    pub fn octets(&self, suffix: &str) -> Result<Vec<u8>> {
        self.bytes(suffix, TensorDtype::U8, "U8")
    }

    /// Reads an I8 tensor.
    pub fn signed(&self, suffix: &str) -> Result<Vec<i8>> {
        let bytes = self.bytes(suffix, TensorDtype::I8, "I8")?;
        Ok(bytes.into_iter().map(u8::cast_signed).collect())
    }

    /// Reads a tensor of weight values.
    pub fn values(&self, suffix: &str) -> Result<Values> {
        let stored = self.stored(suffix)?;
        let Some(dtype) = weight_dtype(stored.dtype) else {
            return Err(self.wrong_type(suffix, stored.dtype, "F32, F16 or BF16"));
        };
        let bytes = self.file.raw(&self.name(suffix))?.bytes;
        Values::from_le_bytes(dtype, &bytes).map_err(|e| self.refuse(e))
    }
}
