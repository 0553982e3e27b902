//! One launch with its pipeline and its bind group.

use super::sharing;
use crate::{
    error::Result,
    gpu::{Gpu, Pipeline, Tensor},
    kernel::{Dispatch, Operand, PARAM_WORDS, Role},
};
use std::{num::NonZero, sync::Arc};

/// One launch with what it is bound to.
pub(super) struct Step {
    pub dispatch: Dispatch,
    pub tensors: Vec<Tensor>,
    pub parts: Vec<wgpu::Buffer>,
    /// Whether it only reads tensors, to leave what later launches need in memory of the plan's own.
    pub prepares: bool,
    /// Whether `tensors` are those of a product, whose result this launch or a later one writes.
    pub product: bool,
}

impl Step {
    pub const fn new(dispatch: Dispatch, tensors: Vec<Tensor>, parts: Vec<wgpu::Buffer>) -> Self {
        Self {
            dispatch,
            tensors,
            parts,
            prepares: false,
            product: false,
        }
    }

    /// A launch of a product, `tensors` being all of the product's.
    pub fn of_product(dispatch: Dispatch, tensors: Vec<Tensor>, parts: Vec<wgpu::Buffer>) -> Self {
        // Reads tensors alone, writes scratch alone.
        let prepares = |o: &Operand| match o.role {
            Role::Tensor(_) => !o.write,
            Role::Scratch => o.write,
            Role::Part(_) | Role::Piece => false,
        };
        let operands = &dispatch.operands;
        let prepares = operands.iter().any(|o| o.write) && operands.iter().all(prepares);
        Self {
            prepares,
            product: true,
            ..Self::new(dispatch, tensors, parts)
        }
    }

    /// One that writes memory of the plan's own, as if it were scratch.
    pub fn preparing(dispatch: Dispatch, tensors: Vec<Tensor>) -> Self {
        Self {
            prepares: true,
            ..Self::new(dispatch, tensors, vec![])
        }
    }

    /// Whether it writes scratch.
    pub fn fills_scratch(&self) -> bool {
        let mut operands = self.dispatch.operands.iter();
        operands.any(|o| o.write && o.role == Role::Scratch)
    }

    /// The operands that are tensors, each with its tensor.
    pub fn bound(&self) -> impl Iterator<Item = (&Operand, &Tensor)> {
        self.dispatch.operands.iter().filter_map(|o| match o.role {
            Role::Tensor(i) => Some((o, &self.tensors[i])),
            Role::Part(_) | Role::Scratch | Role::Piece => None,
        })
    }
}

/// A step ready to be recorded.
pub(super) struct Launch {
    pub step: Step,
    pub params_offset: u64,
    pub pipeline: Arc<Pipeline>,
    pub group: wgpu::BindGroup,
}

/// Makes `steps` ready, and the buffer of their parameters.
pub(super) fn launches(
    gpu: &Gpu,
    steps: Vec<Step>,
    scratch: &wgpu::Buffer,
) -> Result<(wgpu::Buffer, Vec<Launch>)> {
    let mut words = vec![];
    let mut offsets = vec![];
    for Step { dispatch, .. } in &steps {
        offsets.push(4 * words.len() as u64);
        let end = words.len() + blocks(dispatch);
        words.extend_from_slice(&dispatch.params);
        words.resize(end, 0);
    }
    let params = gpu.buffer(
        "params",
        4 * words.len() as u64,
        wgpu::BufferUsages::UNIFORM,
        Some(bytemuck::cast_slice(&words)),
    )?;
    let declared = steps.iter().map(sharing::declared);
    let pipelines = gpu.pipelines(&declared.collect::<Result<Vec<_>>>()?)?;
    let parts = steps.into_iter().zip(offsets).zip(pipelines);
    let launch = |((step, params_offset), pipeline): ((Step, u64), Arc<Pipeline>)| {
        let bindings = Bindings {
            params: &params,
            params_offset,
            scratch,
        };
        let group = bindings.group(gpu, &pipeline, &step)?;
        Ok(Launch {
            step,
            params_offset,
            pipeline,
            group,
        })
    };
    let launches = parts.map(launch).collect::<Result<_>>()?;
    Ok((params, launches))
}

/// What the bind groups of a plan share.
pub(super) struct Bindings<'a> {
    pub params: &'a wgpu::Buffer,
    pub params_offset: u64,
    pub scratch: &'a wgpu::Buffer,
}

impl Bindings<'_> {
    pub fn group(&self, gpu: &Gpu, pipeline: &Pipeline, step: &Step) -> Result<wgpu::BindGroup> {
        let words = blocks(&step.dispatch);
        let params = |first: usize| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: self.params,
                offset: self.params_offset + 4 * first as u64,
                size: NonZero::new(4 * (words - first) as u64),
            })
        };
        let operand = |o: &Operand| wgpu::BindGroupEntry {
            binding: o.binding,
            resource: match o.role {
                Role::Tensor(i) => wgpu::BindingResource::Buffer(step.tensors[i].binding()),
                Role::Part(i) => step.parts[i].as_entire_binding(),
                Role::Scratch => self.scratch.as_entire_binding(),
                Role::Piece => params(words - PARAM_WORDS),
            },
        };
        let entries: Vec<_> = std::iter::once(wgpu::BindGroupEntry {
            binding: 0,
            resource: params(0),
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

/// Words that the parameters of a launch take in the buffer of a plan.
fn blocks(dispatch: &Dispatch) -> usize {
    dispatch.params.len().max(1).next_multiple_of(PARAM_WORDS)
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
