//! Activations on the device.

use super::Gpu;
use crate::{
    error::{Error, Result},
    format::Dtype,
};
use half::{bf16, f16};
use std::borrow::Cow;

/// What a tensor's elements may be on the host.
pub trait Element: bytemuck::Pod + sealed::Sealed {
    /// The type of the tensor's elements. A `u32` is a word as an f32 is: shaders decide what the word means.
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl Element for u32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
}

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// Vectors `[batch, len]` on the device, contiguous, in the engine's buffer or the host's.
///
/// Elements are f32 unless another [`Dtype`] was asked for. Those of two bytes lie two to a word, the
/// first in its lower half; where their number is odd, the rest of the last word belongs to the tensor.
///
/// Cheap to clone: clones name the same memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    batch: usize,
    len: usize,
    dtype: Dtype,
}

impl Gpu {
    /// Allocates vectors `[batch, len]` of f32, zeroed.
    ///
    /// # Errors
    /// [`Error::Limit`] past the size of a binding, [`Error::OutOfMemory`].
    pub fn tensor(&self, batch: usize, len: usize) -> Result<Tensor> {
        self.tensor_as(Dtype::F32, batch, len)
    }

    /// [`tensor`](Self::tensor) of another type.
    ///
    /// # Errors
    /// Those of [`tensor`](Self::tensor).
    pub fn tensor_as(&self, dtype: Dtype, batch: usize, len: usize) -> Result<Tensor> {
        let bytes = byte_len(dtype, batch, len)?;
        let buffer = self.buffer("tensor", bytes, tensor_usage(), None)?;
        Ok(Tensor {
            buffer,
            offset: 0,
            batch,
            len,
            dtype,
        })
    }

    /// Allocates vectors `[batch, len]` that hold `data`, in its type.
    ///
    /// # Errors
    /// [`Error::Shape`] where `data` has not `batch · len` elements, and those of [`Gpu::tensor`].
    pub fn tensor_from<E: Element>(&self, batch: usize, len: usize, data: &[E]) -> Result<Tensor> {
        check_len(data, batch, len)?;
        let bytes = byte_len(E::DTYPE, batch, len)?;
        let buffer = self.buffer("tensor", bytes, tensor_usage(), Some(&whole_words(data)))?;
        Ok(Tensor {
            buffer,
            offset: 0,
            batch,
            len,
            dtype: E::DTYPE,
        })
    }

    /// A placeholder for vectors `[batch, len]` in a plan, without memory for them:
    /// [`Plan::encode_with`](crate::Plan::encode_with) puts a tensor in its place each time.
    ///
    /// No two are equal. Reading or writing one is an error, and a plan recorded without another
    /// in its place computes nothing of use.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`].
    pub fn slot(&self, batch: usize, len: usize) -> Result<Tensor> {
        self.slot_as(Dtype::F32, batch, len)
    }

    /// [`slot`](Self::slot) for tensors of another type.
    ///
    /// # Errors
    /// Those of [`slot`](Self::slot).
    pub fn slot_as(&self, dtype: Dtype, batch: usize, len: usize) -> Result<Tensor> {
        byte_len(dtype, batch, len)?;
        let buffer = self.buffer("slot", 0, wgpu::BufferUsages::STORAGE, None)?;
        Ok(Tensor {
            buffer,
            offset: 0,
            batch,
            len,
            dtype,
        })
    }

    /// Vectors of f32 that live in the host's `buffer`, `offset` bytes from its start. It needs the
    /// usages `STORAGE`, `COPY_SRC` for [`Tensor::read`] and `COPY_DST` for [`Tensor::write`].
    ///
    /// # Errors
    /// [`Error::Buffer`] for a missing `STORAGE` usage, an offset that is no multiple of the
    /// device's `min_storage_buffer_offset_alignment`, an empty range, or one past the end.
    pub fn tensor_in(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        batch: usize,
        len: usize,
    ) -> Result<Tensor> {
        self.tensor_in_as(Dtype::F32, buffer, offset, batch, len)
    }

    /// [`tensor_in`](Self::tensor_in) of another type; the range ends with a whole word.
    ///
    /// # Errors
    /// Those of [`tensor_in`](Self::tensor_in).
    pub fn tensor_in_as(
        &self,
        dtype: Dtype,
        buffer: &wgpu::Buffer,
        offset: u64,
        batch: usize,
        len: usize,
    ) -> Result<Tensor> {
        let bytes = byte_len(dtype, batch, len)?;
        let refuse = |reason: String| {
            Err(Error::Buffer {
                what: "tensor",
                reason,
            })
        };
        check_usage(buffer, wgpu::BufferUsages::STORAGE)?;
        let alignment = u64::from(self.caps().storage_alignment);
        if offset % alignment != 0 {
            return refuse(format!("offset {offset} is no multiple of {alignment}"));
        }
        if bytes == 0 {
            return refuse("an empty tensor needs no buffer of the host's: use Gpu::tensor".into());
        }
        if offset
            .checked_add(bytes)
            .is_none_or(|end| end > buffer.size())
        {
            return refuse(format!(
                "{bytes} bytes at offset {offset} end past its {} bytes",
                buffer.size()
            ));
        }
        if bytes > self.caps().max_binding_bytes {
            return Err(Error::Limit {
                what: "bytes of a tensor",
                value: bytes,
                limit: self.caps().max_binding_bytes,
            });
        }
        Ok(Tensor {
            buffer: buffer.clone(),
            offset,
            batch,
            len,
            dtype,
        })
    }
}

impl Tensor {
    /// Number of vectors.
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// Elements of one vector.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no element.
    pub const fn is_empty(&self) -> bool {
        self.batch == 0 || self.len == 0
    }

    /// The type of its elements: f32 also where they are words of another meaning.
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes of the elements, in whole words.
    pub const fn bytes(&self) -> u64 {
        let bytes = self.batch as u64 * self.len as u64 * self.dtype.size() as u64;
        bytes.next_multiple_of(4)
    }

    /// Vectors `[batch, len]` that begin `first` elements from the start of this tensor: the
    /// same memory.
    ///
    /// # Errors
    /// [`Error::Buffer`] for a range past the end, or one that does not begin at a multiple of
    /// the device's `min_storage_buffer_offset_alignment` bytes, and for what does not begin a slot.
    pub fn view(&self, gpu: &Gpu, first: usize, batch: usize, len: usize) -> Result<Self> {
        let refuse = |reason: String| {
            Err(Error::Buffer {
                what: "view of a tensor",
                reason,
            })
        };
        let (elements, held) = (batch.saturating_mul(len), self.batch * self.len);
        if first.checked_add(elements).is_none_or(|end| end > held) {
            return refuse(format!(
                "{elements} elements from {first} on end past its {held}"
            ));
        }
        // Kernels write whole words: of an element that shares one, only its own tensor may be written.
        if self.dtype.size() == 2 && elements % 2 != 0 && first + elements != held {
            return refuse(format!(
                "{elements} elements of 16 bits end within a word, whose other half is not the view's"
            ));
        }
        // Nothing lies nowhere: behind the last element there is no memory to bind.
        let first = if elements == 0 { 0 } else { first };
        let offset = first as u64 * self.dtype.size() as u64;
        let alignment = u64::from(gpu.caps().storage_alignment);
        if offset % alignment != 0 {
            return refuse(format!(
                "element {first} is {offset} bytes from the start, no multiple of {alignment}"
            ));
        }
        if self.offset + offset >= self.buffer.size() && elements > 0 {
            return refuse(format!("a slot has no memory at element {first}"));
        }
        Ok(Self {
            buffer: self.buffer.clone(),
            offset: self.offset + offset,
            batch,
            len,
            dtype: self.dtype,
        })
    }

    /// Replaces the contents, before anything submitted later runs.
    ///
    /// # Errors
    /// [`Error::Dtype`] for data of another type, [`Error::Shape`], [`Error::Buffer`] for a host buffer without
    /// `COPY_DST`, [`Error::DeviceLost`].
    pub fn write<E: Element>(&self, gpu: &Gpu, data: &[E]) -> Result<()> {
        gpu.alive()?;
        check_dtype("data for a tensor", E::DTYPE, self.dtype)?;
        check_len(data, self.batch, self.len)?;
        if data.is_empty() {
            return Ok(());
        }
        check_usage(&self.buffer, wgpu::BufferUsages::COPY_DST)?;
        gpu.scoped("tensor write", self.bytes(), || {
            gpu.queue()
                .write_buffer(&self.buffer, self.offset, &whole_words(data));
        })
    }

    /// The binding of this tensor, at least 16 bytes for the engine's own buffers; of a slot,
    /// what there is.
    pub(crate) fn binding(&self) -> wgpu::BufferBinding<'_> {
        let there = self.buffer.size().saturating_sub(self.offset);
        let size = self.bytes().max(16).min(there);
        wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: std::num::NonZero::new(size),
        }
    }
}

fn tensor_usage() -> wgpu::BufferUsages {
    wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST
}

/// Refuses elements of another type than those that are there or wanted.
pub(crate) fn check_dtype(what: &'static str, got: Dtype, expected: Dtype) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Dtype {
        what,
        got,
        expected,
    })
}

/// Refuses a buffer without `usage`: that of a tensor may be the host's.
pub(super) fn check_usage(buffer: &wgpu::Buffer, usage: wgpu::BufferUsages) -> Result<()> {
    let missing = usage - buffer.usage();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter_names().map(|(name, _)| name).collect();
    Err(Error::Buffer {
        what: "tensor",
        reason: format!("it lacks the usage {}", names.join(" | ")),
    })
}

/// The bytes of `data`, in whole words.
fn whole_words<E: Element>(data: &[E]) -> Cow<'_, [u8]> {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    if bytes.len().is_multiple_of(4) {
        return bytes.into();
    }
    [bytes, &[0; 2]].concat().into()
}

fn byte_len(dtype: Dtype, batch: usize, len: usize) -> Result<u64> {
    let elements = batch.checked_mul(len);
    let bytes = elements.and_then(|n| n.checked_mul(dtype.size()));
    let whole = bytes.and_then(|n| n.checked_next_multiple_of(4));
    whole.map(|n| n as u64).ok_or(Error::TooLarge {
        what: "tensor",
        rows: batch,
        cols: len,
    })
}

fn check_len<E>(data: &[E], batch: usize, len: usize) -> Result<()> {
    Error::expect("tensor elements", data.len(), batch.saturating_mul(len))
}
