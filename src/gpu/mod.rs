//! The only floor that knows wgpu: devices, buffers, pipelines, timestamps.
//! It executes [`Dispatch`](crate::kernel::Dispatch) values and does not know what sparsity is.

mod active;
mod adapter;
#[cfg(not(target_arch = "wasm32"))]
mod kept;
mod loss;
mod pipeline;
mod read;
#[cfg(test)]
pub(crate) mod refusal;
mod tensor;
mod timing;
mod weight;

pub use active::Active;
pub use adapter::{AdapterReport, Options, Selector, adapters};
pub(crate) use pipeline::Pipeline;
pub use read::ReadBack;
pub(crate) use tensor::check_dtype;
pub use tensor::{Element, Tensor};
pub use timing::Timestamps;
pub use weight::{Part, Weight};

use crate::{
    caps::{Caps, DeviceClass, Subgroups},
    error::{Error, Result},
    tuning::Tuning,
};
use futures::FutureExt;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// A device with its queue, its capabilities and the pipelines made on it. Cheap to clone.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
    caps: Caps,
    tuning: Arc<Tuning>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    checked: bool,
    timeout: Option<Duration>,
    max_submission: Option<Duration>,
    /// Set once, never cleared: no call works on a lost device again.
    lost: Arc<OnceLock<String>>,
    pipelines: pipeline::Cache,
    #[cfg(not(target_arch = "wasm32"))]
    kept: OnceLock<kept::Kept>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Inner {
    fn drop(&mut self) {
        // What a lost device says of its pipelines is worth nothing.
        if let (Some(kept), None) = (self.kept.get(), self.lost.get()) {
            kept.save();
        }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let info = self.inner.device.adapter_info();
        f.debug_struct("Gpu")
            .field("adapter", &info.name)
            .field("caps", &self.caps)
            .finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens the adapter that `options` select, with every limit and optional feature
    /// that the engine can use.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] or [`Error::NoDevice`].
    pub async fn new(options: &Options) -> Result<Self> {
        let adapter = adapter::select(options).await?;
        let wanted = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        let mut features = adapter.features() & wanted;
        let cooperative = options
            .cooperative
            .then(|| adapter::cooperative(&adapter))
            .flatten();
        let mut experimental = wgpu::ExperimentalFeatures::disabled();
        if cooperative.is_some() {
            features |= adapter::COOPERATIVE;
            // SAFETY: the caller asked for the experimental feature. Of it the engine uses sizes that
            // the adapter lists, in uniform control flow, on pointers that stay in their arrays.
            experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("lacuna"),
                required_features: features,
                experimental_features: experimental,
                required_limits: adapter.limits(),
                memory_hints: wgpu::MemoryHints::Performance,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::NoDevice(e.to_string()))?;
        let lost = Arc::new(OnceLock::new());
        let latch = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            let _ = latch.set(format!("{reason:?}: {message}"));
        });
        Ok(Self::assemble(device, queue, lost, options).with_cooperative(cooperative))
    }

    /// [`Gpu::new`] for callers without an executor.
    ///
    /// # Errors
    /// See [`Gpu::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new_blocking(options: &Options) -> Result<Self> {
        pollster::block_on(Self::new(options))
    }

    /// The best adapter, for unit tests; `None` without one, unless one was promised.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Option<Self> {
        let gpu = Self::new_blocking(&Options::default());
        let promised = std::env::var_os("LACUNA_TEST_ADAPTER").is_some();
        assert!(gpu.is_ok() || !promised, "an adapter was promised: {gpu:?}");
        gpu.ok()
    }

    /// Works on the host's own device. Uses the features it was created with, installs no handler or callback.
    /// The next call that makes, submits or reads something notices that the device is lost; a host that knows
    /// before says so with [`mark_lost`](Self::mark_lost).
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self::from_wgpu_with(device, queue, &Options::default())
    }

    /// [`from_wgpu`](Self::from_wgpu) with `options`, of which those that choose an adapter and its features have
    /// no effect.
    pub fn from_wgpu_with(device: wgpu::Device, queue: wgpu::Queue, options: &Options) -> Self {
        Self::assemble(device, queue, Arc::default(), options)
    }

    /// The same device, which then also uses the cooperative matrices of `adapter`, the adapter that it is of, if
    /// it was created with these and `SHADER_F16`. A device alone does not say which sizes it has.
    #[must_use]
    pub fn cooperative_of(self, adapter: &wgpu::Adapter) -> Self {
        let has = self.inner.device.features().contains(adapter::COOPERATIVE);
        let size = has.then(|| adapter::cooperative(adapter)).flatten();
        self.with_cooperative(size)
    }

    fn with_cooperative(mut self, size: Option<u32>) -> Self {
        self.caps.cooperative = size;
        self
    }

    fn assemble(
        device: wgpu::Device,
        queue: wgpu::Queue,
        lost: Arc<OnceLock<String>>,
        options: &Options,
    ) -> Self {
        let caps = caps_of(&device);
        let checked =
            options.checked || std::env::var_os("LACUNA_CHECKED").is_some_and(|v| v != "0");
        Self {
            inner: Arc::new(Inner {
                device,
                queue,
                checked,
                timeout: options.timeout,
                max_submission: options.max_submission,
                lost,
                pipelines: pipeline::Cache::default(),
                #[cfg(not(target_arch = "wasm32"))]
                kept: OnceLock::new(),
            }),
            caps,
            tuning: Arc::default(),
        }
    }

    /// The same device, whose plans then choose kernels by `tuning`, which was measured on it.
    #[must_use]
    pub fn tuned(mut self, tuning: Tuning) -> Self {
        self.tuning = Arc::new(tuning);
        self
    }

    /// The same device, whose compiled pipelines are read from a file in `folder`, if an earlier
    /// process left one there, and written to it when the last clone of this `Gpu` is dropped.
    ///
    /// For drivers that keep nothing themselves, as on Android, or that have no folder to keep it
    /// in. Works on Vulkan, for devices with `PIPELINE_CACHE`, as [`Gpu::new`] opens them;
    /// elsewhere nothing happens. A file that is damaged or of another driver is not used, one
    /// that cannot be read or written is logged: neither is an error, shaders are compiled again.
    /// Keep the folder private to the user: the driver trusts what is in it. Of several calls
    /// the first counts.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn keep_pipelines(self, folder: &std::path::Path) -> Self {
        if let Some(kept) = kept::Kept::open(&self, folder) {
            let _ = self.inner.kept.set(kept);
        }
        self
    }

    /// The file that [`keep_pipelines`](Self::keep_pipelines) uses, if it uses one.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn pipelines_file(&self) -> Option<&std::path::Path> {
        self.inner.kept.get().map(|kept| kept.file.as_path())
    }

    /// What was measured on the device.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// What the device can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Name and driver of the adapter.
    pub fn info(&self) -> wgpu::AdapterInfo {
        self.inner.device.adapter_info()
    }

    /// How long one submission may work.
    pub fn max_submission(&self) -> Option<Duration> {
        self.inner.max_submission
    }

    /// A new encoder, for [`Plan::encode`](crate::Plan::encode) and [`Gpu::submit`].
    pub fn encoder(&self) -> wgpu::CommandEncoder {
        let described = wgpu::CommandEncoderDescriptor::default();
        self.inner.device.create_command_encoder(&described)
    }

    /// Submits `encoder`'s commands. Who wants to wait for these alone, not for what is submitted after them, gives
    /// what this returns to [`Gpu::wait_for`].
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::Gpu`] where wgpu refuses the commands.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        self.alive()?;
        self.scoped("commands", 0, || {
            self.inner.queue.submit([encoder.finish()])
        })
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// [`Error::Timeout`] after [`Options::timeout`], [`Error::DeviceLost`].
    pub fn wait(&self) -> Result<()> {
        self.wait_until(None)
    }

    /// Waits until a submission, and everything before it, has run.
    ///
    /// # Errors
    /// Those of [`Gpu::wait`].
    pub fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        self.wait_until(Some(submission))
    }

    fn wait_until(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.alive()?;
        let poll = wgpu::PollType::Wait {
            submission_index,
            timeout: self.inner.timeout,
        };
        let polled = self.inner.device.poll(poll);
        self.ask()?;
        match (polled, self.inner.timeout) {
            (Ok(_), _) => Ok(()),
            (Err(wgpu::PollError::Timeout), Some(timeout)) => Err(Error::Timeout(timeout)),
            (Err(e), _) => Err(Error::Gpu {
                what: "waiting for the device",
                message: e.to_string(),
            }),
        }
    }

    /// Runs `make` inside error scopes of its own, so that the host's handlers see nothing.
    ///
    /// Natively the scopes answer at once; in a browser they answer later, and an error
    /// then surfaces at the next read-back.
    pub(crate) fn scoped<T>(
        &self,
        what: &'static str,
        bytes: u64,
        make: impl FnOnce() -> T,
    ) -> Result<T> {
        #[cfg(test)]
        if refusal::is_due() {
            return Err(Error::OutOfMemory { what, bytes });
        }
        let device = &self.inner.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make();
        let refused = [validation, internal].map(answered);
        if answered(memory).is_some() {
            return Err(Error::OutOfMemory { what, bytes });
        }
        match refused.into_iter().flatten().next() {
            None => self.ask().map(|()| made),
            Some(e) => Err(self.lost_or(what, &e.to_string())),
        }
    }

    /// A buffer of at least 16 bytes, the least that every view can bind.
    pub(crate) fn buffer(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        contents: Option<&[u8]>,
    ) -> Result<wgpu::Buffer> {
        self.alive()?;
        let size = bytes.max(16).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        let caps = self.caps();
        let limit = if usage.contains(wgpu::BufferUsages::STORAGE) {
            caps.max_storage_bytes()
        } else {
            caps.max_buffer_bytes
        };
        if size > limit {
            return Err(Error::Limit {
                what: "bytes of one buffer",
                value: size,
                limit,
            });
        }
        let buffer = self.scoped(what, size, || {
            self.inner.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size,
                usage,
                mapped_at_creation: contents.is_some(),
            })
        })?;
        if let Some(contents) = contents {
            let mapped = buffer.get_mapped_range_mut(..);
            let mut mapped =
                mapped.map_err(|e| self.lost_or("filling a buffer", &e.to_string()))?;
            mapped.slice(..contents.len()).copy_from_slice(contents);
            drop(mapped);
            self.unmap(&buffer);
        }
        Ok(buffer)
    }

    /// Unmaps a buffer. A host that destroys its device destroys the buffer with it, at any time: that is not told
    /// here, but by the next call.
    pub(crate) fn unmap(&self, buffer: &wgpu::Buffer) {
        let scope = self
            .inner
            .device
            .push_error_scope(wgpu::ErrorFilter::Validation);
        buffer.unmap();
        let _ = answered(scope);
    }
}

/// What a scope caught, where it answers at once.
fn answered(scope: wgpu::ErrorScopeGuard) -> Option<wgpu::Error> {
    scope.pop().now_or_never().flatten()
}

/// Reads the capabilities that a device was created with.
fn caps_of(device: &wgpu::Device) -> Caps {
    let (limits, features, info) = (device.limits(), device.features(), device.adapter_info());
    let class = if info.device_type == wgpu::DeviceType::Cpu {
        DeviceClass::Cpu
    } else {
        DeviceClass::Gpu
    };
    Caps {
        class,
        threads: threads(class),
        masked_loads: class == DeviceClass::Cpu && has_masked_loads(),
        subgroups: (features.contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size > 0)
            .then_some(Subgroups {
                min: info.subgroup_min_size,
                max: info.subgroup_max_size,
            }),
        int64: features.contains(wgpu::Features::SHADER_INT64),
        cooperative: None,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_invocations: limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x),
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        storage_alignment: limits.min_storage_buffer_offset_alignment,
    }
}

/// Whether this processor, which runs the shaders of a software adapter, has the masked loads of AVX-512.
fn has_masked_loads() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Threads that a software adapter has: one a processor.
fn threads(class: DeviceClass) -> u32 {
    if class == DeviceClass::Gpu {
        return 1;
    }
    let processors = std::thread::available_parallelism();
    processors.map_or(1, |n| n.get().min(256) as u32)
}
