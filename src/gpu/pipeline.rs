//! Pipelines, made once for each WGSL text and its bindings on a device, several at a time.

use super::Gpu;
use crate::{
    error::{Error, Result},
    kernel::{Dispatch, Operand, Role},
};
use std::{
    borrow::Borrow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
#[cfg(not(target_arch = "wasm32"))]
use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// A compute pipeline with the layout of its only bind group.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// What a pipeline is made of: the text, and the bindings, of which a host may declare others for the same text.
type Key = (String, Vec<wgpu::BindGroupLayoutEntry>);

fn key(dispatch: &Dispatch) -> Key {
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
    let operand = |o: &Operand| {
        let ty = match o.role {
            Role::Piece => wgpu::BufferBindingType::Uniform,
            Role::Tensor(_) | Role::Part(_) | Role::Scratch => wgpu::BufferBindingType::Storage {
                read_only: !o.write,
            },
        };
        entry(o.binding, ty)
    };
    let params = entry(0, wgpu::BufferBindingType::Uniform);
    let operands = dispatch.operands.iter().map(operand);
    (
        dispatch.wgsl(),
        std::iter::once(params).chain(operands).collect(),
    )
}

#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<Key, Arc<Pipeline>>>);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gpu {
    /// The pipelines of `dispatches`. Drivers take long to compile, so those that are new are made on all cores.
    ///
    /// # Errors
    /// Of the first that is refused, as [`Gpu::pipeline`].
    pub(crate) fn pipelines<D: Borrow<Dispatch> + Sync>(
        &self,
        dispatches: &[D],
    ) -> Result<Vec<Arc<Pipeline>>> {
        #[cfg(not(target_arch = "wasm32"))]
        self.prepare(dispatches);
        dispatches
            .iter()
            .map(|d| self.pipeline(d.borrow()))
            .collect()
    }

    /// Makes those that are new. One that is refused stays new: [`Gpu::pipeline`] then says why.
    #[cfg(not(target_arch = "wasm32"))]
    fn prepare<D: Borrow<Dispatch> + Sync>(&self, dispatches: &[D]) {
        let mut seen = HashSet::new();
        let new: Vec<&Dispatch> = {
            let made = self.inner.pipelines.lock();
            let dispatches = dispatches.iter().map(Borrow::borrow);
            dispatches
                .filter(|d| {
                    let key = key(d);
                    !made.contains_key(&key) && seen.insert(key)
                })
                .collect()
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        if new.len().min(cores) < 2 {
            return;
        }
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(dispatch) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.pipeline(dispatch).is_err() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..cores.min(new.len()) {
                // Without a thread the caller makes what is missing.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
        });
    }

    /// The pipeline of `dispatch`, from the cache or new.
    ///
    /// # Errors
    /// [`Error::Kernel`] where the shader or the pipeline is refused; nothing is cached then.
    pub(crate) fn pipeline(&self, dispatch: &Dispatch) -> Result<Arc<Pipeline>> {
        let key = key(dispatch);
        if let Some(found) = self.inner.pipelines.lock().get(&key) {
            return Ok(Arc::clone(found));
        }
        self.alive()?;
        let made = self.scoped("pipeline", 0, || self.make_pipeline(&dispatch.name, &key));
        let made = made.map_err(|e| match e {
            Error::Gpu { message, .. } => Error::Kernel {
                kernel: dispatch.name.clone(),
                message,
            },
            other => other,
        })?;
        self.alive()?;
        let made = Arc::new(made);
        self.inner.pipelines.lock().insert(key, Arc::clone(&made));
        Ok(made)
    }

    fn make_pipeline(&self, name: &str, (text, bindings): &Key) -> Pipeline {
        let label = Some(name);
        let device = self.device();
        let source = wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
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
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: bindings,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        #[cfg(not(target_arch = "wasm32"))]
        let cache = self.inner.kept.get().map(|kept| {
            kept.more.store(true, Ordering::Relaxed);
            &kept.cache
        });
        #[cfg(target_arch = "wasm32")]
        let cache = None;
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
            cache,
        });
        Pipeline { pipeline, layout }
    }
}
