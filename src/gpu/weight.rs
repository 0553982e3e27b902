//! Weights on the device.

use super::Gpu;
use crate::{
    caps::DeviceClass,
    error::Result,
    format::{Format, Matrix},
    kernel::{Layout, PartLayout, bands, layout},
};

/// A weight on the device: one buffer, or several where it is larger than a binding may be.
#[derive(Debug, Clone)]
pub struct Weight {
    rows: usize,
    cols: usize,
    format: Format,
    pub(crate) layout: Layout,
    /// Kept groups of the heaviest panel over those of the mean one.
    pub(crate) imbalance: f64,
    pub(crate) parts: Vec<Part>,
}

/// Some rows of a weight in a buffer of their own.
#[derive(Debug, Clone)]
pub struct Part {
    pub(crate) layout: PartLayout,
    pub(crate) buffer: wgpu::Buffer,
}

impl Gpu {
    /// Copies `weight` to the device, cut into parts where a binding could not hold it.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where the rows of one index set are larger than
    /// a binding, [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn upload(&self, weight: &Matrix) -> Result<Weight> {
        self.upload_for(self.caps().class, weight)
    }

    /// [`Gpu::upload`], laid out for the kernels of a device of `class`, which matters for
    /// group-pruned weights.
    ///
    /// # Errors
    /// Those of [`Gpu::upload`].
    pub fn upload_for(&self, class: DeviceClass, weight: &Matrix) -> Result<Weight> {
        self.upload_as(Layout::Rows, class, weight)
    }

    /// Copies `weight` to the device column by column, in bands of rows, so that products can
    /// skip columns: for [`PlanBuilder::input_sparse`](crate::PlanBuilder::input_sparse), and
    /// for [`PlanBuilder::linear`](crate::PlanBuilder::linear) of any batch.
    ///
    /// # Errors
    /// [`Error::Unfit`](crate::Error::Unfit) unless it is dense, or codes of 2, 4 or 8 bits of
    /// every column in groups of a multiple of 16; otherwise those of [`Gpu::upload`].
    pub fn upload_bands(&self, weight: &Matrix) -> Result<Weight> {
        self.upload_as(Layout::Bands, self.caps().class, weight)
    }

    /// [`Gpu::upload`] in this layout, for the kernels of a device of `class`.
    ///
    /// # Errors
    /// Those of [`Gpu::upload`] and [`Gpu::upload_bands`].
    pub fn upload_as(&self, layout: Layout, class: DeviceClass, weight: &Matrix) -> Result<Weight> {
        let (rows, cols, format) = (weight.rows(), weight.cols(), weight.format());
        let limit = self
            .caps()
            .max_binding_bytes
            .min(self.caps().max_buffer_bytes);
        let split = match layout {
            Layout::Rows => layout::split_weight(weight, class, limit)?,
            Layout::Bands => bands::split_weight(weight, class, limit)?,
        };
        let mut parts = vec![];
        for part in split {
            let words = match layout {
                Layout::Rows => layout::pack(weight, &part),
                Layout::Bands => bands::pack(weight, &part),
            };
            let bytes: &[u8] = bytemuck::cast_slice(&words);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let buffer = self.buffer("weight", bytes.len() as u64, usage, Some(bytes))?;
            // wgpu keeps what a buffer was filled with until the next submission has run: a
            // model's weights would be in memory twice.
            self.inner.queue.submit([]);
            self.wait()?;
            parts.push(Part {
                layout: part,
                buffer,
            });
        }
        Ok(Weight {
            rows,
            cols,
            format,
            layout,
            imbalance: layout::imbalance(weight, class),
            parts,
        })
    }
}

impl Weight {
    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Format, with its value type.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// How it lies on the device.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// What each buffer holds and where, for shaders of the host's own.
    pub fn layouts(&self) -> impl ExactSizeIterator<Item = &PartLayout> {
        self.parts.iter().map(|p| &p.layout)
    }

    /// Number of buffers.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Bytes on the device, padding included.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.buffer.size()).sum()
    }
}
