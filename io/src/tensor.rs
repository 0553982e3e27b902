//! Tensors as files store them.

use lacuna::format::{Dtype, Values};

/// Element types of tensors in a file. Weights use only F32, F16 and BF16.
pub use safetensors::Dtype as TensorDtype;

/// What the header says of one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub dtype: TensorDtype,
    /// Its shape, outermost dimension first.
    pub shape: &'a [usize],
    /// Its size in the file.
    pub bytes: u64,
}

/// A tensor with its bytes: little-endian, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct RawTensor {
    /// Its element type.
    pub dtype: TensorDtype,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Its elements.
    pub bytes: Vec<u8>,
}

impl RawTensor {
    /// A tensor of f32 values.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self {
            dtype: TensorDtype::F32,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// A tensor of weight values.
    pub fn from_values(shape: &[usize], values: &Values) -> Self {
        let dtype = file_dtype(values.dtype());
        Self {
            dtype,
            shape: shape.to_vec(),
            bytes: values.to_le_bytes(),
        }
    }
}

/// A tensor whose values were widened to f32.
#[derive(Debug, Clone, PartialEq)]
pub struct F32Tensor {
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// The name that files have for a storage type.
pub(crate) const fn file_dtype(dtype: Dtype) -> TensorDtype {
    match dtype {
        Dtype::F32 => TensorDtype::F32,
        Dtype::F16 => TensorDtype::F16,
        Dtype::Bf16 => TensorDtype::BF16,
    }
}

/// The storage type of weights for an element type; `None` if no weights have this type.
pub(crate) const fn weight_dtype(dtype: TensorDtype) -> Option<Dtype> {
    match dtype {
        TensorDtype::F32 => Some(Dtype::F32),
        TensorDtype::F16 => Some(Dtype::F16),
        TensorDtype::BF16 => Some(Dtype::Bf16),
        _ => None,
    }
}

/// Bytes of a tensor, or `None` if they overflow or are no whole number.
pub(crate) fn byte_len(dtype: TensorDtype, shape: &[usize]) -> Option<usize> {
    let elements = shape
        .iter()
        .try_fold(1usize, |product, &d| product.checked_mul(d))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    (bits % 8 == 0).then_some(bits / 8)
}
