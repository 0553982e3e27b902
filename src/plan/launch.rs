//! One launch with its pipeline and its bind group.

use crate::{
    error::Result,
    gpu::{Gpu, Pipeline, Tensor},
    kernel::{self, Dispatch, Role},
};
use std::{num::NonZero, sync::Arc};

/// Offset alignment of uniform bindings that every device accepts.
pub(super) const PARAM_ALIGNMENT: u64 = 256;

/// One launch with what it is bound to.
pub(super) struct Step {
    pub dispatch: Dispatch,
    pub tensors: Vec<Tensor>,
    pub parts: Vec<wgpu::Buffer>,
}

/// A step ready to be recorded.
pub(super) struct Launch {
    pub step: Step,
    pub params_offset: u64,
    pub pipeline: Arc<Pipeline>,
    pub group: wgpu::BindGroup,
}

/// What the bind groups of a plan share.
pub(super) struct Bindings<'a> {
    pub params: &'a wgpu::Buffer,
    pub params_offset: u64,
    pub scratch: &'a wgpu::Buffer,
}

impl Bindings<'_> {
    pub fn group(&self, gpu: &Gpu, pipeline: &Pipeline, step: &Step) -> Result<wgpu::BindGroup> {
        let params = wgpu::BufferBinding {
            buffer: self.params,
            offset: self.params_offset,
            size: NonZero::new(PARAM_ALIGNMENT.max(4 * step.dispatch.params.len() as u64)),
        };
        let operand = |o: &kernel::Operand| wgpu::BindGroupEntry {
            binding: o.binding,
            resource: wgpu::BindingResource::Buffer(match o.role {
                Role::Tensor(i) => step.tensors[i].binding(),
                Role::Part(i) => step.parts[i].as_entire_buffer_binding(),
                Role::Scratch => self.scratch.as_entire_buffer_binding(),
            }),
        };
        let entries: Vec<_> = std::iter::once(wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(params),
        })
        .chain(step.dispatch.operands.iter().map(operand))
        .collect();
        gpu.scoped("bind group", 0, || {
            gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&step.dispatch.name),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })
    }
}

impl Launch {
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.step.dispatch.grid;
        if x == 0 || y == 0 || z == 0 {
            return;
        }
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}
