//! Weights on the device.

use super::Gpu;
use crate::{
    caps::DeviceClass,
    error::{Error, Result},
    format::{Format, Matrix},
    kernel::{Layout, Packed, PartLayout, layout},
};

/// A weight on the device: one buffer, or several where it is larger than a binding may be.
#[derive(Debug, Clone)]
pub struct Weight {
    rows: usize,
    cols: usize,
    format: Format,
    pub(crate) layout: Layout,
    pub(crate) class: DeviceClass,
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
    /// Waits for everything submitted so far, the host's as well: until then wgpu keeps a second copy.
    ///
    /// # Errors
    /// [`Error::Limit`] where the rows of one index set are larger than
    /// a binding, [`Error::OutOfMemory`], [`Error::Timeout`].
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
    /// [`Error::Unfit`] unless it is dense, or codes of 2, 4 or 8 bits of
    /// every column in groups of a multiple of 16; otherwise those of [`Gpu::upload`].
    pub fn upload_bands(&self, weight: &Matrix) -> Result<Weight> {
        self.upload_as(Layout::Bands, self.caps().class, weight)
    }

    /// [`Gpu::upload`] in this layout, for the kernels of a device of `class`.
    ///
    /// # Errors
    /// Those of [`Gpu::upload`] and [`Gpu::upload_bands`].
    pub fn upload_as(&self, layout: Layout, class: DeviceClass, weight: &Matrix) -> Result<Weight> {
        let mut parts = vec![];
        for part in layout.split(weight, class, self.caps().max_storage_bytes())? {
            parts.push(self.part(part, &layout.pack(weight, &part))?);
        }
        Ok(Weight {
            rows: weight.rows(),
            cols: weight.cols(),
            format: weight.format(),
            layout,
            class,
            imbalance: layout::imbalance(weight, class),
            parts,
        })
    }

    /// Copies a weight that was packed before to the device: nothing is left to compute.
    ///
    /// # Errors
    /// [`Error::Limit`] where it was packed for larger bindings, [`Error::OutOfMemory`].
    pub fn upload_packed(&self, packed: &Packed) -> Result<Weight> {
        let (parts, limit) = (packed.parts.iter(), self.caps().max_storage_bytes());
        let bytes = |(part, _): &(PartLayout, Vec<u32>)| 4 * u64::from(part.words);
        if let Some(value) = parts.clone().map(bytes).find(|&bytes| bytes > limit) {
            return Err(Error::Limit {
                what: "bytes of a part of a packed weight",
                value,
                limit,
            });
        }
        Ok(Weight {
            rows: packed.rows,
            cols: packed.cols,
            format: packed.format,
            layout: packed.layout,
            class: packed.class,
            imbalance: packed.imbalance,
            parts: parts
                .map(|(part, words)| self.part(*part, words))
                .collect::<Result<_>>()?,
        })
    }

    fn part(&self, layout: PartLayout, words: &[u32]) -> Result<Part> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.buffer("weight", bytes.len() as u64, usage, Some(bytes))?;
        self.flush()?;
        Ok(Part { layout, buffer })
    }

    /// Lets wgpu forget what was written: it keeps that until the next submission has run, and
    /// a model's weights would be in memory twice.
    fn flush(&self) -> Result<()> {
        self.inner.queue.submit([]);
        self.wait()
    }
}

impl Weight {
    /// Puts `weight` in the place of this one, before anything submitted later runs: plans stay
    /// as they are, and compute with the new values.
    ///
    /// It must have the same format and shape. How much memory a group-pruned weight needs depends on where its
    /// kept groups lie; one that needs more than this one is refused. Waits as [`Gpu::upload`] does.
    ///
    /// # Errors
    /// [`Error::Replace`], after which the old weight is untouched; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn replace(&self, gpu: &Gpu, weight: &Matrix) -> Result<()> {
        gpu.alive()?;
        let parts = self.places(gpu, weight)?;
        for part in parts {
            let words = self.layout.pack(weight, &part.layout);
            gpu.scoped("weight", part.buffer.size(), || {
                gpu.queue()
                    .write_buffer(&part.buffer, 0, bytemuck::cast_slice(&words));
            })?;
            gpu.flush()?;
        }
        Ok(())
    }

    /// The parts, if each has room for what `weight` puts there.
    fn places(&self, gpu: &Gpu, weight: &Matrix) -> Result<&[Part]> {
        let replace = |what, got: String, expected: String| {
            Err(Error::Replace {
                what,
                got,
                expected,
            })
        };
        let (got, expected) = (weight.format(), self.format);
        if got != expected {
            return replace("format", got.to_string(), expected.to_string());
        }
        for (what, got, expected) in [
            ("rows", weight.rows(), self.rows),
            ("columns", weight.cols(), self.cols),
        ] {
            if got != expected {
                return replace(what, got.to_string(), expected.to_string());
            }
        }
        let new = self
            .layout
            .split(weight, self.class, gpu.caps().max_storage_bytes())?;
        if new.len() != self.parts.len() {
            return replace(
                "number of parts",
                new.len().to_string(),
                self.parts.len().to_string(),
            );
        }
        for (new, part) in new.iter().zip(&self.parts) {
            if new.factor != part.layout.factor {
                let factor = |layout: &PartLayout| f32::from_bits(layout.factor).to_string();
                return replace("factor of the scales", factor(new), factor(&part.layout));
            }
            if !part.layout.takes(new) {
                let bytes = |layout: &PartLayout| 4 * u64::from(layout.words);
                return replace(
                    "room for a part",
                    format!("{} bytes in up to {} pieces", bytes(new), new.most_pieces()),
                    format!(
                        "at most {} in {}, section by section",
                        bytes(&part.layout),
                        part.layout.pieces
                    ),
                );
            }
        }
        Ok(&self.parts)
    }

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
