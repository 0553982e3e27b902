//! The adapter of the tests, opened with other limits.

use lacuna::{Gpu, wgpu};

/// Opens the same adapter with these limits.
pub fn reopen(limits: wgpu::Limits) -> Option<Gpu> {
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    pollster::block_on(async {
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions::default())
            .await
            .ok()?;
        let required_features = adapter.features() & wgpu::Features::SUBGROUP;
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: limits,
            required_features,
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .expect("lower limits are granted");
        Some(Gpu::from_wgpu(device, queue))
    })
}
