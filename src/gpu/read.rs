//! Getting results back.

use super::{Gpu, Tensor};
use crate::error::{Error, Result};
use futures::channel::oneshot;
use std::{future::Future, pin::Pin, task};

impl Tensor {
    /// The elements, after everything submitted so far has run.
    ///
    /// Natively the future asks the device for progress each time it is polled, so it
    /// works under any executor, which it keeps busy; [`Tensor::read_blocking`] sleeps.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; never stale data. [`Error::Buffer`] for a host buffer without `COPY_SRC`.
    pub async fn read(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        let pending = self.start_read(gpu)?;
        let Some((staging, mapped)) = pending else {
            return Ok(vec![]);
        };
        let mapped = Polled { gpu, mapped }.await;
        finish_read(gpu, &staging, &mapped, self.bytes())
    }

    /// [`Tensor::read`], waiting for the device.
    ///
    /// # Errors
    /// Those of [`Tensor::read`], and [`Error::Timeout`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        let pending = self.start_read(gpu)?;
        let Some((staging, mapped)) = pending else {
            return Ok(vec![]);
        };
        gpu.wait()?;
        finish_read(gpu, &staging, &pollster::block_on(mapped), self.bytes())
    }

    fn start_read(&self, gpu: &Gpu) -> Result<Option<(wgpu::Buffer, Mapped)>> {
        gpu.alive()?;
        if self.is_empty() {
            return Ok(None);
        }
        if !self.buffer.usage().contains(wgpu::BufferUsages::COPY_SRC) {
            return Err(Error::Buffer {
                what: "tensor",
                reason: "it lacks the usage COPY_SRC".into(),
            });
        }
        start(gpu, &self.buffer, self.offset, self.bytes()).map(Some)
    }
}

type Mapped = oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>;
type MapResult = <Mapped as Future>::Output;

/// Copies a range into a staging buffer and asks for its mapping.
pub(super) fn start(
    gpu: &Gpu,
    buffer: &wgpu::Buffer,
    offset: u64,
    bytes: u64,
) -> Result<(wgpu::Buffer, Mapped)> {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let staging = gpu.buffer("read-back", bytes, usage, None)?;
    let mut encoder = gpu
        .device()
        .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
    gpu.submit(encoder)?;
    let (done, mapped) = oneshot::channel();
    let asked = gpu.scoped("read-back", bytes, || {
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only where the read was abandoned.
            let _ = done.send(result);
        });
    });
    if asked.is_err() {
        return Err(unmappable(gpu));
    }
    Ok((staging, mapped))
}

/// Takes the bytes out of a mapped staging buffer.
pub(super) fn finish_read<T: bytemuck::Pod>(
    gpu: &Gpu,
    staging: &wgpu::Buffer,
    mapped: &MapResult,
    bytes: u64,
) -> Result<Vec<T>> {
    gpu.alive()?;
    if *mapped != Ok(Ok(())) {
        return Err(unmappable(gpu));
    }
    let view = staging.get_mapped_range(..bytes);
    let view = view.map_err(|e| gpu.lost_or("read-back", &e.to_string()))?;
    let data = bytemuck::pod_collect_to_vec(&view);
    drop(view);
    staging.unmap();
    Ok(data)
}

/// Mapping a fresh buffer of ours fails on a dead device only: a host's device, whose
/// callback is not ours, is known to be lost by this.
fn unmappable(gpu: &Gpu) -> Error {
    let error = gpu.lost_or("read-back", "the buffer could not be mapped");
    gpu.mark_lost("a read-back could not be mapped");
    gpu.alive().err().unwrap_or(error)
}

/// Polls the device whenever it is itself polled.
struct Polled<'a> {
    gpu: &'a Gpu,
    mapped: Mapped,
}

impl Future for Polled<'_> {
    type Output = MapResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<Self::Output> {
        if let ready @ task::Poll::Ready(_) = Pin::new(&mut self.mapped).poll(context) {
            return ready;
        }
        let _ = self.gpu.device().poll(wgpu::PollType::Poll);
        if self.gpu.alive().is_err() {
            return task::Poll::Ready(Err(oneshot::Canceled));
        }
        if cfg!(not(target_arch = "wasm32")) {
            context.waker().wake_by_ref();
        }
        task::Poll::Pending
    }
}
