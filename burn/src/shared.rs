//! One wgpu device with two owners.

use crate::error::{Error, Result};
use burn::tensor::{
    Device,
    wgpu::{WgpuInitError, WgpuOptions, WgpuSetup},
};
use lacuna::{Gpu, Tuning};

/// A wgpu device of Burn's with the engine on it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    device: Device,
    setup: WgpuSetup,
    gpu: Gpu,
}

impl Shared {
    /// Opens the device that `options` (`Device::wgpu_options()`) select, for Burn and the engine.
    ///
    /// Burn opens a device once in a process, and never again with other options: open it here
    /// before a tensor of Burn's does.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(options: WgpuOptions) -> Result<Self> {
        let (device, setup) = options.init_with_setup().map_err(refused)?;
        Ok(Self::of(device, setup))
    }

    /// Gives a device that is already the host's to Burn and to the engine, with the memory and
    /// task limits of `options`. Create it with `SUBGROUP` and `SHADER_INT64` where the adapter
    /// has them.
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

    /// The same device, whose products are chosen by what was measured on it.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self {
            gpu: self.gpu.tuned(tuning),
            ..self
        }
    }

    /// Burn's device: where tensors are made.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The engine.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The wgpu handles of both.
    pub fn setup(&self) -> &WgpuSetup {
        &self.setup
    }
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn refused(error: WgpuInitError) -> Error {
    Error::Open(format!("{error:?}"))
}
