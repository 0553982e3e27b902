//! A host application that owns everything: device, queue, one arena for all activations, the encoder.
//! Its own compute pass runs between two products of the engine, in one submission:
//!
//! ```text
//! arena | x | h | y |      h = W₁·x     h ← max(h, 0), the host's     y = W₂·h
//! ```
//! ```text
//! cargo run --release --example host
//! ```

use lacuna::{
    Gpu, PlanBuilder, compress,
    format::{Dense, Matrix},
    reference,
    verify::Random,
    wgpu,
};
use std::error::Error;

const MODEL: usize = 512;
const HIDDEN: usize = 2048;
const BATCH: usize = 3;

/// Offsets in the arena are multiples of this many bytes, which suits every device.
const STEP: usize = 256;

const RELU: &str = "
@group(0) @binding(0) var<storage, read_write> h: array<f32>;

@compute @workgroup_size(64)
fn relu(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&h) {
        h[id.x] = max(h[id.x], 0.0);
    }
}";

fn weight(rows: usize, cols: usize, format: &str, seed: u64) -> lacuna::Result<Matrix> {
    let dense = Dense::from_f32(rows, cols, Random(seed).vector(rows * cols))?;
    compress::compress(&dense, format.parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let wanted = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_INT64;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & wanted,
        required_limits: adapter.limits(),
        ..Default::default()
    }))?;

    // One buffer for all activations.
    let place = |floats: usize| (floats * 4).next_multiple_of(STEP) as u64;
    let x_at = 0;
    let h_at = x_at + place(BATCH * MODEL);
    let y_at = h_at + place(BATCH * HIDDEN);
    let arena = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("arena"),
        size: y_at + place(BATCH * MODEL),
        usage: wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });

    let gpu = Gpu::from_wgpu(device.clone(), queue.clone());
    let x = gpu.tensor_in(&arena, x_at, BATCH, MODEL)?;
    let h = gpu.tensor_in(&arena, h_at, BATCH, HIDDEN)?;
    let y = gpu.tensor_in(&arena, y_at, BATCH, MODEL)?;
    let (w1, w2) = (
        weight(HIDDEN, MODEL, "2:4x8", 1)?,
        weight(MODEL, HIDDEN, "w4g64", 2)?,
    );
    let (up, down) = (gpu.upload(&w1)?, gpu.upload(&w2)?);
    let mut plan = PlanBuilder::new(&gpu);
    plan.linear(&up, &x, None, &h)?;
    let first = plan.build()?;
    let mut plan = PlanBuilder::new(&gpu);
    plan.linear(&down, &h, None, &y)?;
    let second = plan.build()?;

    // The host's own pass over h.
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("relu"),
        source: wgpu::ShaderSource::Wgsl(RELU.into()),
    });
    let relu = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("relu"),
        layout: None,
        module: &module,
        entry_point: Some("relu"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("relu"),
        layout: &relu.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &arena,
                offset: h_at,
                size: std::num::NonZero::new(h.bytes()),
            }),
        }],
    });

    let input = Random(3).vector(BATCH * MODEL);
    queue.write_buffer(&arena, x_at, bytemuck::cast_slice(&input));
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    first.encode(&mut encoder)?;
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&relu);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups((BATCH * HIDDEN).div_ceil(64) as u32, 1, 1);
    }
    second.encode(&mut encoder)?;
    queue.submit([encoder.finish()]);

    let hidden = h.read_blocking(&gpu)?;
    let found = y.read_blocking(&gpu)?;
    let mut truth = reference::linear(&w1, &input, BATCH, None)?;
    truth.y.iter_mut().for_each(|v| *v = v.max(0.0));
    let first = truth.compare(&hidden)?;
    let second = reference::linear(&w2, &hidden, BATCH, None)?.compare(&found)?;
    for (name, comparison) in [("W1 and the host's pass", first), ("W2", second)] {
        if !comparison.passes() {
            return Err(format!("{name}: wrong, {comparison:?}").into());
        }
        println!(
            "{name}: error {:.4} of what is allowed",
            comparison.error_over_bound
        );
    }
    Ok(())
}
