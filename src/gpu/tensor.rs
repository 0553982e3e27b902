//! Activations on the device.

use super::Gpu;
use crate::error::{Error, Result};

/// What a tensor's elements may be taken for: four bytes, of which shaders decide the type.
pub trait Element: bytemuck::Pod + sealed::Sealed {}

impl Element for f32 {}
impl Element for u32 {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
}

/// Vectors `[batch, len]` of four-byte elements on the device, contiguous, in the engine's
/// buffer or the host's. Products take them for f32.
///
/// Cheap to clone: clones name the same memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    batch: usize,
    len: usize,
}

impl Gpu {
    /// Allocates vectors `[batch, len]`, zeroed.
    ///
    /// # Errors
    /// [`Error::Limit`] past the size of a binding, [`Error::OutOfMemory`].
    pub fn tensor(&self, batch: usize, len: usize) -> Result<Tensor> {
        let bytes = byte_len(batch, len)?;
        let buffer = self.buffer("tensor", bytes, tensor_usage(), None)?;
        Ok(Tensor {
            buffer,
            offset: 0,
            batch,
            len,
        })
    }

    /// Allocates vectors `[batch, data.len() / batch]` holding `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `data` is no whole number of vectors, and those of [`Gpu::tensor`].
    pub fn tensor_from<E: Element>(&self, batch: usize, len: usize, data: &[E]) -> Result<Tensor> {
        check_len(data, batch, len)?;
        let bytes = byte_len(batch, len)?;
        let contents = Some(bytemuck::cast_slice(data));
        let buffer = self.buffer("tensor", bytes, tensor_usage(), contents)?;
        Ok(Tensor {
            buffer,
            offset: 0,
            batch,
            len,
        })
    }

    /// The place of vectors `[batch, len]` in a plan, without memory for them: what
    /// [`Plan::encode_with`](crate::Plan::encode_with) puts another tensor for each time.
    ///
    /// No two are equal. Reading or writing one is an error, and a plan recorded without another
    /// in its place computes nothing of use.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`].
    pub fn slot(&self, batch: usize, len: usize) -> Result<Tensor> {
        byte_len(batch, len)?;
        let buffer = self.buffer("slot", 0, wgpu::BufferUsages::STORAGE, None)?;
        Ok(Tensor {
            buffer,
            offset: 0,
            batch,
            len,
        })
    }

    /// Vectors that live in the host's `buffer`, `offset` bytes from its start. It needs the
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
        let bytes = byte_len(batch, len)?;
        let refuse = |reason: String| {
            Err(Error::Buffer {
                what: "tensor",
                reason,
            })
        };
        let alignment = u64::from(self.caps().storage_alignment);
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return refuse("it lacks the usage STORAGE".into());
        }
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

    /// Bytes of the elements.
    pub const fn bytes(&self) -> u64 {
        self.batch as u64 * self.len as u64 * 4
    }

    /// Vectors `[batch, len]` that begin `first` elements from the start of this tensor: the
    /// same memory.
    ///
    /// # Errors
    /// [`Error::Buffer`] for a range past the end, or one that does not begin at a multiple of
    /// the device's `min_storage_buffer_offset_alignment` bytes.
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
        let (offset, alignment) = (first as u64 * 4, u64::from(gpu.caps().storage_alignment));
        if offset % alignment != 0 {
            return refuse(format!(
                "element {first} is {offset} bytes from the start, no multiple of {alignment}"
            ));
        }
        Ok(Self {
            buffer: self.buffer.clone(),
            offset: self.offset + offset,
            batch,
            len,
        })
    }

    /// Replaces the contents, before anything submitted later runs.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DeviceLost`].
    pub fn write<E: Element>(&self, gpu: &Gpu, data: &[E]) -> Result<()> {
        gpu.alive()?;
        check_len(data, self.batch, self.len)?;
        if data.is_empty() {
            return Ok(());
        }
        gpu.scoped("tensor write", self.bytes(), || {
            gpu.queue()
                .write_buffer(&self.buffer, self.offset, bytemuck::cast_slice(data));
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

fn byte_len(batch: usize, len: usize) -> Result<u64> {
    let elements = batch.checked_mul(len).and_then(|n| n.checked_mul(4));
    elements.map(|n| n as u64).ok_or(Error::TooLarge {
        what: "tensor",
        rows: batch,
        cols: len,
    })
}

fn check_len<E>(data: &[E], batch: usize, len: usize) -> Result<()> {
    if batch.checked_mul(len) == Some(data.len()) {
        return Ok(());
    }
    Err(Error::Shape {
        what: "tensor elements",
        got: data.len(),
        expected: batch.saturating_mul(len),
    })
}
