//! One launch with its pipeline and its bind group.

use super::sharing;
use crate::{
    error::{Error, Result},
    gpu::{Gpu, Pipeline, Tensor},
    kernel::{self, Dispatch, PARAM_WORDS, Role},
};
use std::{num::NonZero, sync::Arc};

/// One launch with what it is bound to.
pub(super) struct Step {
    pub dispatch: Dispatch,
    pub tensors: Vec<Tensor>,
    pub parts: Vec<wgpu::Buffer>,
}

/// A step ready to be recorded.
pub(super) struct Launch {
    pub step: Step,
    pub params_offset: u32,
    pub pipeline: Arc<Pipeline>,
    pub group: wgpu::BindGroup,
}

/// How many launches back one is looked for that binds the same.
const BACK: usize = 8;

/// Makes `steps` ready, and the buffer of their parameters.
pub(super) fn launches(
    gpu: &Gpu,
    steps: Vec<Step>,
    scratch: &wgpu::Buffer,
) -> Result<(wgpu::Buffer, Vec<Launch>)> {
    let mut words = vec![];
    let mut offsets = vec![];
    for Step { dispatch, .. } in &steps {
        let bytes = 4 * words.len() as u64;
        offsets.push(u32::try_from(bytes).map_err(|_| Error::Limit {
            what: "bytes of the parameters of a plan",
            value: bytes,
            limit: u32::MAX.into(),
        })?);
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
    let declared = steps
        .iter()
        .map(|s| sharing::declared(&s.dispatch, &s.tensors));
    let pipelines = gpu.pipelines(&declared.collect::<Result<Vec<_>>>()?)?;
    let mut launches: Vec<Launch> = vec![];
    for ((step, params_offset), pipeline) in steps.into_iter().zip(offsets).zip(pipelines) {
        // Vectors taken in turns differ in parameters only: thousands of launches, one bind group.
        // Software drivers map memory for each, and crash where a system grants no more.
        let mut last = launches.iter().rev().take(BACK);
        let same = last.find(|launch| launch.binds(&step, &pipeline));
        let group = match same {
            Some(same) => same.group.clone(),
            None => bind_group(gpu, &pipeline, &step, &params, scratch)?,
        };
        launches.push(Launch {
            step,
            params_offset,
            pipeline,
            group,
        });
    }
    Ok((params, launches))
}

/// What `step` is bound to; where in `params` its own begin is told when it is recorded.
pub(super) fn bind_group(
    gpu: &Gpu,
    pipeline: &Pipeline,
    step: &Step,
    params: &wgpu::Buffer,
    scratch: &wgpu::Buffer,
) -> Result<wgpu::BindGroup> {
    let params = |words: usize| {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: params,
            offset: 0,
            size: NonZero::new(4 * words as u64),
        })
    };
    let operand = |o: &kernel::Operand| wgpu::BindGroupEntry {
        binding: o.binding,
        resource: match o.role {
            Role::Tensor(i) => wgpu::BindingResource::Buffer(step.tensors[i].binding()),
            Role::Part(i) => step.parts[i].as_entire_binding(),
            Role::Scratch => scratch.as_entire_binding(),
            Role::Piece => params(PARAM_WORDS),
        },
    };
    let entries: Vec<_> = std::iter::once(wgpu::BindGroupEntry {
        binding: 0,
        resource: params(blocks(&step.dispatch)),
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

/// Words that the parameters of a launch take in the buffer of a plan.
fn blocks(dispatch: &Dispatch) -> usize {
    dispatch.params.len().max(1).next_multiple_of(PARAM_WORDS)
}

impl Launch {
    /// Whether `step`, launched by `pipeline`, would be bound to the same.
    fn binds(&self, step: &Step, pipeline: &Arc<Pipeline>) -> bool {
        let own = &self.step;
        Arc::ptr_eq(&self.pipeline, pipeline)
            && blocks(&own.dispatch) == blocks(&step.dispatch)
            && own.dispatch.operands == step.dispatch.operands
            && own.tensors == step.tensors
            && own.parts == step.parts
    }

    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let dispatch = &self.step.dispatch;
        let [x, y, z] = dispatch.grid;
        if x == 0 || y == 0 || z == 0 {
            return;
        }
        // The block of a piece is the last of the parameters, and its binding the last of all.
        let last = 4 * (blocks(dispatch) - PARAM_WORDS) as u32;
        let offsets = [self.params_offset, self.params_offset + last];
        let piece = dispatch.operands.last().map(|o| o.role) == Some(Role::Piece);
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.group, &offsets[..=usize::from(piece)]);
        pass.dispatch_workgroups(x, y, z);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Gpu, PlanBuilder, format::Precision, verify::Case};

    #[test]
    fn vectors_taken_in_turns_share_a_bind_group() {
        let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let gpu = Gpu::from_wgpu(device, queue);
        let case = Case::new(8, 64, 33, "w8row".parse().expect("a format"), false);
        let weight = gpu.upload(&case.weight).expect("room");
        let x = gpu.tensor_from(33, 64, &case.x).expect("room");
        let y = gpu.tensor(33, 8).expect("room");
        let mut builder = PlanBuilder::new(&gpu);
        builder.precision(Precision::I8);
        let appended = builder.linear(&weight, &x, None, &y);
        appended.expect("a candidate that takes vectors in turns");
        let plan = builder.build().expect("pipelines");
        let mut groups: Vec<_> = plan.launches.iter().map(|l| &l.group).collect();
        groups.dedup();
        // x to eight bits, whole turns, the rest.
        assert!(plan.launches.len() > 3);
        assert_eq!(groups.len(), 3);
    }
}
