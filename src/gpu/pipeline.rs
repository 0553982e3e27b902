//! Pipelines, made once for each WGSL text on a device.

use super::Gpu;
use crate::{
    error::{Error, Result},
    kernel::Dispatch,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A compute pipeline with the layout of its only bind group.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<String, Arc<Pipeline>>>);

impl Gpu {
    /// The pipeline of `dispatch`, from the cache or new.
    ///
    /// # Errors
    /// [`Error::Kernel`] where the shader or the pipeline is refused; nothing is cached then.
    pub(crate) fn pipeline(&self, dispatch: &Dispatch) -> Result<Arc<Pipeline>> {
        let text = dispatch.wgsl();
        let cache = || {
            self.inner
                .pipelines
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(found) = cache().get(&text) {
            return Ok(Arc::clone(found));
        }
        self.alive()?;
        let made = self.scoped("pipeline", 0, || self.make_pipeline(dispatch, &text));
        let made = made.map_err(|e| match e {
            Error::Gpu { message, .. } => Error::Kernel {
                kernel: dispatch.name.clone(),
                message,
            },
            other => other,
        })?;
        self.alive()?;
        let made = Arc::new(made);
        cache().insert(text, Arc::clone(&made));
        Ok(made)
    }

    fn make_pipeline(&self, dispatch: &Dispatch, text: &str) -> Pipeline {
        let label = Some(dispatch.name.as_str());
        let device = self.device();
        let source = wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        let module = if self.inner.checked {
            device.create_shader_module(source)
        } else {
            let checks = wgpu::ShaderRuntimeChecks {
                bounds_checks: true,
                force_loop_bounding: false,
                int_div_checks: false,
                ..wgpu::ShaderRuntimeChecks::checked()
            };
            // SAFETY: bounds checks stay on. Every loop of the engine's shaders counts up to a
            // const or a parameter, so all terminate; every divisor is a const that is not zero,
            // or a tile count that the host keeps positive. Shaders that a host adds through
            // `PlanBuilder::dispatch` are held to the same rules by its documentation.
            unsafe { device.create_shader_module_trusted(source, checks) }
        };
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let storage = dispatch.operands.iter().map(|o| {
            entry(
                o.binding,
                wgpu::BufferBindingType::Storage {
                    read_only: !o.write,
                },
            )
        });
        let entries: Vec<_> = std::iter::once(entry(0, wgpu::BufferBindingType::Uniform))
            .chain(storage)
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // No shader reads workgroup memory before it writes it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }
}
