//! A wgpu device that Burn and the engine share.

use crate::error::{Error, Result};
use burn::tensor::{
    Device,
    wgpu::{WgpuInitError, WgpuOptions, WgpuSetup},
};
use lacuna::{Gpu, Tuning};

/// A wgpu device that Burn and the engine share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    device: Device,
    setup: WgpuSetup,
    gpu: Gpu,
}

impl Shared {
    /// Opens the device that `options` (`Device::wgpu_options()`) select, for Burn and the engine.
    ///
    /// Burn opens a device only once per process and cannot reopen it with other options, so call this
    /// before the first Burn tensor on the device is created.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(options: WgpuOptions) -> Result<Self> {
        let (device, setup) = options.init_with_setup().map_err(refused)?;
        Ok(Self::of(device, setup))
    }

    /// Registers a device that the host application already has with Burn and the engine, with the
    /// memory and task limits of `options`. Create the device with the features `SUBGROUP` and
    /// `SHADER_INT64` if the adapter has them.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn register(options: WgpuOptions, setup: WgpuSetup) -> Result<Self> {
        let device = options.setup(setup.clone()).init().map_err(refused)?;
        Ok(Self::of(device, setup))
    }

    fn of(device: Device, setup: WgpuSetup) -> Self {
        let gpu = Gpu::from_wgpu(setup.device.clone(), setup.queue.clone());
        Self {
            device,
            gpu: gpu.cooperative_of(&setup.adapter),
            setup,
        }
    }

    /// The same device, with kernels chosen by the measurements in `tuning`.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self {
            gpu: self.gpu.tuned(tuning),
            ..self
        }
    }

    /// Burn's device, on which to create tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The engine on this device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The wgpu handles that both use.
    pub fn setup(&self) -> &WgpuSetup {
        &self.setup
    }
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn refused(error: WgpuInitError) -> Error {
    Error::Open(format!("{error:?}"))
}
