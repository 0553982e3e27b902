//! From products to recorded commands.
//!
//! A [`PlanBuilder`] chooses a candidate for each product and collects its
//! [`Dispatch`]es; [`PlanBuilder::build`] makes pipelines, one parameter buffer, one
//! scratch buffer and the bind groups. A [`Plan`] then records one compute pass into any
//! encoder, as often as wanted, allocating nothing.

mod builder;
mod halves;
mod launch;
mod memory;
#[cfg(not(target_arch = "wasm32"))]
mod pace;
mod prepared;
mod sharing;
mod sparse;

pub use builder::PlanBuilder;
pub use memory::{Memory, Workspace};
pub use sparse::Activation;

use crate::{
    error::{Error, Result},
    gpu::{Gpu, Tensor, Timestamps, check_dtype},
    kernel::Dispatch,
};
use launch::{Bindings, Launch, Step};
use std::{collections::BTreeMap, ops::Range};

#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Mutex, PoisonError};

/// Steps that can be recorded again and again.
pub struct Plan {
    gpu: Gpu,
    launches: Vec<Launch>,
    /// Steps that were left out because launches before their place have done the same, with that place.
    shared: Vec<(usize, Step)>,
    params: wgpu::Buffer,
    workspace: Workspace,
    scratch_bytes: u64,
    #[cfg(not(target_arch = "wasm32"))]
    pace: Mutex<pace::Pace>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps()).finish()
    }
}

impl Plan {
    /// Records the plan as one compute pass. Nothing is submitted, nothing allocated.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.gpu.alive()?;
        Self::record(encoder, &self.launches, None);
        Ok(())
    }

    /// Records some launches as one compute pass, timed or not.
    fn record<'a>(
        encoder: &mut wgpu::CommandEncoder,
        launches: impl IntoIterator<Item = &'a Launch>,
        timestamps: Option<&Timestamps>,
    ) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: timestamps.map(|t| t.writes(0)),
        });
        launches.into_iter().for_each(|l| l.record(&mut pass));
    }

    /// Records one timed pass for each step: step `i` writes the times of pass `i`. For benches; the caller then
    /// calls [`Timestamps::resolve`].
    ///
    /// # Errors
    /// [`Error::Shape`] unless `timestamps` has as many passes as the plan has steps, [`Error::DeviceLost`].
    pub fn encode_timed(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        timestamps: &Timestamps,
    ) -> Result<()> {
        self.gpu.alive()?;
        check_passes(timestamps, self.launches.len())?;
        for (i, launch) in self.launches.iter().enumerate() {
            let writes = Some(timestamps.writes(i));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some(&launch.step.dispatch.name),
                timestamp_writes: writes,
            });
            launch.record(&mut pass);
        }
        Ok(())
    }

    /// Records the plan as [`Plan::encode`] does, in one pass whose times are the first of `timestamps`: what the
    /// launches cost in a row, with the waits between them.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `timestamps` are for one pass, [`Error::DeviceLost`].
    pub fn encode_span(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        timestamps: &Timestamps,
    ) -> Result<()> {
        self.gpu.alive()?;
        check_passes(timestamps, 1)?;
        Self::record(encoder, &self.launches, Some(timestamps));
        Ok(())
    }

    /// Records and submits the plan by itself; in several submissions where
    /// [`Options::max_submission`](crate::gpu::Options::max_submission) asks for it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn run(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(budget) = self.gpu.max_submission() {
            return self.run_within(budget);
        }
        let mut encoder = self.gpu.encoder();
        self.encode(&mut encoder)?;
        let _turn = self.workspace.turn();
        self.gpu.submit(encoder)?;
        Ok(())
    }

    /// [`encode`](Self::encode) with some tensors replaced by others: a pair `(old, new)` for each. The plan
    /// stays as it was, and keeps nothing of the new ones alive.
    ///
    /// For hosts whose tensors lie elsewhere at every call; [`Gpu::slot`] gives the tensors to build such a plan with.
    /// Each call makes new bind groups, and a pipeline where operands of a step share a buffer for the first time.
    ///
    /// # Errors
    /// [`Error::Shape`] where no launch has an old tensor, or two pairs have the same; [`Error::Shape`] and
    /// [`Error::Dtype`] where a pair differs, [`Error::Aliasing`], [`Error::DeviceLost`]; nothing is recorded then.
    pub fn encode_with(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<()> {
        self.gpu.alive()?;
        for (i, (old, _)) in pairs.iter().enumerate() {
            let again = pairs[..i].iter().filter(|(before, _)| before == old);
            Error::expect("pairs with the same old tensor", 1 + again.count(), 1)?;
            // Launches leave out what is empty.
            Error::expect(
                "launches with an old tensor",
                usize::from(old.is_empty() || self.has(old)),
                1,
            )?;
        }
        let rebound = self.rebound(pairs)?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (launch, other) in self.launches.iter().zip(&rebound) {
            other.as_ref().unwrap_or(launch).record(&mut pass);
        }
        Ok(())
    }

    /// Puts `new` in the place of `old` in every step, and returns how many launches that changed.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Dtype`] where they differ, [`Error::Aliasing`]; the plan is
    /// then as it was.
    pub fn rebind(&mut self, old: &Tensor, new: &Tensor) -> Result<usize> {
        let rebound = self.rebound(&[(old, new)])?;
        for (_, step) in &mut self.shared {
            for tensor in step.tensors.iter_mut().filter(|t| *t == old) {
                *tensor = new.clone();
            }
        }
        let mut count = 0;
        for (launch, other) in self.launches.iter_mut().zip(rebound) {
            if let Some(other) = other {
                *launch = other;
                count += 1;
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        let pace = self.pace.get_mut();
        #[cfg(not(target_arch = "wasm32"))]
        pace.unwrap_or_else(PoisonError::into_inner).unbind();
        Ok(count)
    }

    fn has(&self, tensor: &Tensor) -> bool {
        let launches = self.launches.iter().map(|launch| &launch.step);
        let mut steps = launches.chain(self.shared.iter().map(|(_, step)| step));
        steps.any(|step| step.tensors.contains(tensor))
    }

    /// For each launch that has an old tensor of `pairs`, the same with the new ones.
    fn rebound(&self, pairs: &[(&Tensor, &Tensor)]) -> Result<Vec<Option<Launch>>> {
        for (old, new) in pairs {
            check_dtype("rebound tensor", new.dtype(), old.dtype())?;
            for (what, got, expected) in [
                ("rebound vectors", new.batch(), old.batch()),
                ("rebound elements", new.len(), old.len()),
            ] {
                Error::expect(what, got, expected)?;
            }
        }
        let swapped = |tensor: &Tensor| {
            let pair = pairs.iter().find(|(old, _)| *old == tensor);
            pair.map(|(_, new)| (*new).clone())
        };
        let step_of = |step: &Step| Step {
            dispatch: step.dispatch.clone(),
            tensors: (step.tensors.iter())
                .map(|tensor| swapped(tensor).unwrap_or_else(|| tensor.clone()))
                .collect(),
            parts: step.parts.clone(),
            prepares: step.prepares,
            product: step.product,
        };
        let rebound = |launch: &Launch| {
            let mut tensors = launch.step.tensors.iter();
            if tensors.all(|tensor| swapped(tensor).is_none()) {
                return Ok(None);
            }
            let step = step_of(&launch.step);
            let declared = sharing::declared(&step)?;
            let pipeline = self.gpu.pipeline(&declared)?;
            let bindings = Bindings {
                params: &self.params,
                params_offset: launch.params_offset,
                scratch: &self.workspace.scratch,
            };
            let group = bindings.group(&self.gpu, &pipeline, &step)?;
            Ok(Some(Launch {
                step,
                params_offset: launch.params_offset,
                pipeline,
                group,
            }))
        };
        let rebound: Vec<_> = self.launches.iter().map(rebound).collect::<Result<_>>()?;
        // What products share must still be what each would make.
        for (place, step) in &self.shared {
            let launches = self.launches.iter().zip(&rebound).take(*place);
            let steps = launches.map(|(launch, other)| &other.as_ref().unwrap_or(launch).step);
            if !prepared::already(steps, &step_of(step)) {
                return Err(Error::Aliasing {
                    first: "x that products share",
                    second: "y of one before",
                });
            }
        }
        Ok(rebound)
    }

    /// The launches, in order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Dispatch> {
        self.launches.iter().map(|l| &l.step.dispatch)
    }

    /// What the plan keeps on the device.
    // wgpu compares buffers by identity, which nothing changes.
    #[allow(clippy::mutable_key_type)]
    pub fn memory(&self) -> Memory {
        let mut weights = BTreeMap::new();
        let mut tensors: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for launch in &self.launches {
            for part in &launch.step.parts {
                weights.insert(part, part.size());
            }
            for tensor in &launch.step.tensors {
                // A slot has no memory for what it stands for.
                let end = (tensor.offset + tensor.bytes()).min(tensor.buffer.size());
                let ranges = tensors.entry(&tensor.buffer).or_default();
                ranges.push(tensor.offset..end);
            }
        }
        Memory {
            weights: weights.values().sum(),
            tensors: tensors.into_values().map(covered).sum(),
            scratch: self.scratch_bytes,
            params: self.params.size(),
        }
    }
}

/// Bytes in any of `ranges`: tensors may be views of each other.
fn covered(mut ranges: Vec<Range<u64>>) -> u64 {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut end = 0;
    let new = ranges.into_iter().map(|range| {
        let new = range.end.saturating_sub(range.start.max(end));
        end = range.end.max(end);
        new
    });
    new.sum()
}

/// What a pass has not written cannot be read back.
fn check_passes(timestamps: &Timestamps, expected: usize) -> Result<()> {
    Error::expect("timed passes", timestamps.passes(), expected)
}
