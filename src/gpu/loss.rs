//! A device that is gone.
//!
//! wgpu lets most calls on a lost device succeed in silence and tells of the loss by a callback
//! alone, inside a later poll. So the device is asked wherever something is made or submitted,
//! and the answer is kept: no call works on a lost device again. What was on it is lost with it;
//! a host opens another [`Gpu`] and builds its weights, tensors and plans there again, which
//! gives the same results.

use super::Gpu;
use crate::error::{Error, Result};

impl Gpu {
    /// Tells the engine that the device is gone: every later call returns
    /// [`Error::DeviceLost`]. The first reason is kept.
    pub fn mark_lost(&self, reason: impl Into<String>) {
        let _ = self.inner.lost.set(reason.into());
    }

    /// [`Error::DeviceLost`] once the device is known to be gone.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.inner.lost.get() {
            None => Ok(()),
            Some(reason) => Err(Error::DeviceLost(reason.clone())),
        }
    }

    /// [`alive`](Self::alive), after asking the device.
    pub(super) fn ask(&self) -> Result<()> {
        self.alive()?;
        // The callback of a device of ours fires in here, with a reason.
        let _ = self.inner.device.poll(wgpu::PollType::Poll);
        if !self.makes_buffers() {
            self.mark_lost("it makes no buffers any more");
        }
        self.alive()
    }

    /// Whether the device is there: buffers made on a lost one cannot be mapped. Callbacks do not tell: that of a
    /// host's device is the host's, and that of ours waits until nothing runs any more.
    fn makes_buffers(&self) -> bool {
        let device = &self.inner.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("whether the device is there"),
            size: wgpu::COPY_BUFFER_ALIGNMENT,
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        let full = super::answered(memory).is_some();
        full || buffer.get_mapped_range(..).is_ok()
    }

    /// The error for a call that wgpu failed without a captured reason: on a device that
    /// still answers it is `message`, else the loss, which is then latched.
    pub(crate) fn lost_or(&self, what: &'static str, message: &str) -> Error {
        match self.ask() {
            Err(lost) => lost,
            Ok(()) => Error::Gpu {
                what,
                message: message.to_owned(),
            },
        }
    }
}
