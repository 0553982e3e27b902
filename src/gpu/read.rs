//! Getting results back.

use super::{Element, Gpu, Tensor, check_dtype, tensor::check_usage};
#[cfg(doc)]
use crate::error::Error;
use crate::{error::Result, format::Dtype};
use futures::channel::oneshot;
use half::{bf16, f16};
use std::{future::Future, pin::Pin, task};

impl Tensor {
    /// The elements as f32, after everything submitted so far has run.
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
        self.finish(gpu, &staging, &mapped)
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
        self.finish(gpu, &staging, &pollster::block_on(mapped))
    }

    /// What `staging` holds, as f32.
    fn finish(&self, gpu: &Gpu, staging: &wgpu::Buffer, mapped: &MapResult) -> Result<Vec<f32>> {
        let bytes = self.bytes();
        if self.dtype() == Dtype::F32 {
            return finish_read(gpu, staging, mapped, bytes);
        }
        let bits: Vec<u16> = finish_read(gpu, staging, mapped, bytes)?;
        let elements = bits.iter().take(self.batch() * self.len());
        Ok(match self.dtype() {
            Dtype::F16 => elements.map(|&b| f16::from_bits(b).to_f32()).collect(),
            _ => elements.map(|&b| bf16::from_bits(b).to_f32()).collect(),
        })
    }

    fn start_read(&self, gpu: &Gpu) -> Result<Option<(wgpu::Buffer, Mapped)>> {
        gpu.alive()?;
        if self.is_empty() {
            return Ok(None);
        }
        check_usage(&self.buffer, wgpu::BufferUsages::COPY_SRC)?;
        start(gpu, &self.buffer, self.offset, self.bytes()).map(Some)
    }
}

/// A staging buffer kept from one read-back to the next, for loops that often read a little.
#[derive(Debug)]
pub struct ReadBack {
    tensor: Tensor,
    staging: wgpu::Buffer,
}

impl ReadBack {
    /// Staging for `tensor`.
    ///
    /// # Errors
    /// [`Error::Buffer`] for a host buffer without `COPY_SRC`, [`Error::Limit`],
    /// [`Error::OutOfMemory`].
    pub fn new(gpu: &Gpu, tensor: &Tensor) -> Result<Self> {
        check_usage(&tensor.buffer, wgpu::BufferUsages::COPY_SRC)?;
        Ok(Self {
            staging: staging(gpu, tensor.bytes())?,
            tensor: tensor.clone(),
        })
    }

    /// Records the copy, behind whatever wrote the tensor.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let (from, bytes) = (&self.tensor, self.tensor.bytes());
        if bytes > 0 {
            encoder.copy_buffer_to_buffer(&from.buffer, from.offset, &self.staging, 0, bytes);
        }
    }

    /// What the last submitted copy brought, waiting for it.
    ///
    /// # Errors
    /// [`Error::Dtype`] for a tensor of another type, [`Error::DeviceLost`], [`Error::Timeout`]; never
    /// stale data.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking<E: Element>(&self, gpu: &Gpu) -> Result<Vec<E>> {
        self.read_after(gpu, || gpu.wait())
    }

    /// [`ReadBack::read_blocking`], waiting for `submission` alone, which has the last copy: the device may go on with
    /// what was submitted after it.
    ///
    /// # Errors
    /// Those of [`ReadBack::read_blocking`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking_of<E: Element>(
        &self,
        gpu: &Gpu,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<E>> {
        self.read_after(gpu, || gpu.wait_for(submission))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn read_after<E: Element>(
        &self,
        gpu: &Gpu,
        wait: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<E>> {
        check_dtype("a read-back", E::DTYPE, self.tensor.dtype())?;
        gpu.alive()?;
        if self.tensor.is_empty() {
            return Ok(vec![]);
        }
        let mapped = map(gpu, &self.staging)?;
        if let Err(error) = wait() {
            // Cancels the mapping: while it is pending, the next copy would be refused.
            gpu.unmap(&self.staging);
            return Err(error);
        }
        self.finish(gpu, &pollster::block_on(mapped))
    }

    /// [`ReadBack::read_blocking`] for executors; see [`Tensor::read`].
    ///
    /// # Errors
    /// [`Error::Dtype`] for a tensor of another type, [`Error::DeviceLost`]; never stale data.
    pub async fn read<E: Element>(&self, gpu: &Gpu) -> Result<Vec<E>> {
        check_dtype("a read-back", E::DTYPE, self.tensor.dtype())?;
        gpu.alive()?;
        if self.tensor.is_empty() {
            return Ok(vec![]);
        }
        let mapped = map(gpu, &self.staging)?;
        let mut asked = Asked {
            gpu,
            buffer: Some(&self.staging),
        };
        let mapped = Polled { gpu, mapped }.await;
        asked.buffer = None;
        self.finish(gpu, &mapped)
    }

    fn finish<E: Element>(&self, gpu: &Gpu, mapped: &MapResult) -> Result<Vec<E>> {
        let mut elements = finish_read(gpu, &self.staging, mapped, self.tensor.bytes())?;
        elements.truncate(self.tensor.batch() * self.tensor.len());
        Ok(elements)
    }
}

/// A pending mapping, which is cancelled if the read is given up before it comes, because the next copy needs the
/// buffer.
struct Asked<'a> {
    gpu: &'a Gpu,
    buffer: Option<&'a wgpu::Buffer>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer {
            self.gpu.unmap(buffer);
        }
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
    let staging = staging(gpu, bytes)?;
    let mut encoder = gpu.encoder();
    encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
    gpu.submit(encoder)?;
    let mapped = map(gpu, &staging)?;
    Ok((staging, mapped))
}

fn staging(gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer> {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    gpu.buffer("read-back", bytes, usage, None)
}

/// Asks for the mapping of a staging buffer.
fn map(gpu: &Gpu, staging: &wgpu::Buffer) -> Result<Mapped> {
    let (done, mapped) = oneshot::channel();
    gpu.scoped("read-back", staging.size(), || {
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only where the read was abandoned.
            let _ = done.send(result);
        });
    })?;
    Ok(mapped)
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
        return Err(gpu.lost_or("read-back", "the buffer could not be mapped"));
    }
    let view = staging.get_mapped_range(..bytes);
    let view = view.map_err(|e| gpu.lost_or("read-back", &e.to_string()))?;
    let data = bytemuck::pod_collect_to_vec(&view);
    drop(view);
    gpu.unmap(staging);
    Ok(data)
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
