//! From products to recorded commands.
//!
//! A [`PlanBuilder`] chooses a candidate for each product and collects its
//! [`Dispatch`]es; [`PlanBuilder::build`] makes pipelines, one parameter buffer, one
//! scratch buffer and the bind groups. A [`Plan`] then records one compute pass into any
//! encoder, as often as wanted, allocating nothing.

#[cfg(not(target_arch = "wasm32"))]
mod pace;
mod sharing;
mod sparse;

pub use sparse::Activation;

use crate::{
    error::{Error, Result},
    format::Precision,
    gpu::{Gpu, Pipeline, Tensor, Timestamps, Weight},
    kernel::{self, Candidate, Dispatch, Problem, Role, Skip},
};
use std::{collections::BTreeMap, num::NonZero, ops::Range, sync::Arc};

#[cfg(not(target_arch = "wasm32"))]
use std::sync::Mutex;

/// Offset alignment of uniform bindings that every device accepts.
const PARAM_ALIGNMENT: u64 = 256;

/// Where the heaviest panel of rows keeps this many times what the mean one does, equal tasks
/// are faster than panels. Measured on llvmpipe: 0.62 × at 1, 1.22 × at 2; between them by line.
const UNBALANCED: f64 = 1.6;

/// Scratch memory that several plans share; they must not run at the same time.
///
/// Commands of one queue run one after the other, so plans of one [`Gpu`] may.
#[derive(Debug, Clone)]
pub struct Workspace {
    scratch: wgpu::Buffer,
}

impl Workspace {
    /// Allocates `bytes`, the largest [`Memory::scratch`] of the plans that will share it.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::OutOfMemory`].
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        Ok(Self {
            scratch: gpu.buffer("workspace", bytes, wgpu::BufferUsages::STORAGE, None)?,
        })
    }
}

/// Bytes on the device that a plan uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights that its steps read, each counted once.
    pub weights: u64,
    /// Tensors that its steps read or write, each counted once.
    pub tensors: u64,
    /// Scratch, in the plan's own buffer or in the workspace.
    pub scratch: u64,
    /// Parameters.
    pub params: u64,
}

/// One launch with what it is bound to.
struct Step {
    dispatch: Dispatch,
    tensors: Vec<Tensor>,
    parts: Vec<wgpu::Buffer>,
}

/// Collects the steps of a [`Plan`].
pub struct PlanBuilder {
    gpu: Gpu,
    steps: Vec<Step>,
    workspace: Option<Workspace>,
    precision: Precision,
}

impl PlanBuilder {
    /// An empty plan on `gpu`.
    pub fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            steps: vec![],
            workspace: None,
            precision: Precision::F32,
        }
    }

    /// Uses `workspace` for scratch instead of a buffer of the plan's own.
    #[must_use]
    pub fn workspace(mut self, workspace: &Workspace) -> Self {
        self.workspace = Some(workspace.clone());
        self
    }

    /// How [`linear`](Self::linear) products appended from here on take their activations: in f32
    /// unless this says otherwise. No other choice is ever made for the caller.
    pub fn precision(&mut self, precision: Precision) -> &mut Self {
        self.precision = precision;
        self
    }

    /// Appends `y[b, r] = bias[r] + Σ_c W[r, c] · x[b, c]` with the best legal candidate.
    ///
    /// `x` is `[batch, cols]`, `y` is `[batch, rows]`, `bias` is `[1, rows]`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Limit`], [`Error::NoKernel`], [`Error::Aliasing`].
    pub fn linear(
        &mut self,
        weight: &Weight,
        x: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<&mut Self> {
        let problem = self.linear_problem(weight, x, bias, y)?;
        let legal = self.candidates(&problem)?;
        let mut best = legal[0];
        if weight.imbalance > UNBALANCED && !best.is_task_centric() {
            let suits =
                |c: &&Candidate| c.is_task_centric() && c.kernel.name() == best.kernel.name();
            best = *legal.iter().find(suits).unwrap_or(&best);
        }
        self.linear_with(best, weight, x, bias, y)
    }

    /// [`linear`](Self::linear) with a candidate of the caller's choice.
    ///
    /// # Errors
    /// Those of [`linear`](Self::linear), and why the candidate is not legal.
    pub fn linear_with(
        &mut self,
        candidate: Candidate,
        weight: &Weight,
        x: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<&mut Self> {
        let problem = self.linear_problem(weight, x, bias, y)?;
        let tensors: Vec<_> = [x, y].into_iter().chain(bias).cloned().collect();
        self.product(candidate, &problem, weight, &tensors)
    }

    /// The legal candidates for a product, best first; there is one at least.
    fn candidates(&self, problem: &Problem) -> Result<Vec<Candidate>> {
        self.gpu.tuning().candidates(problem, self.gpu.caps())
    }

    fn linear_problem(
        &self,
        weight: &Weight,
        x: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<Problem> {
        Ok(Problem {
            precision: self.precision,
            ..check_linear(weight, x, bias, y)?
        })
    }

    /// The launches of `candidate`, bound to `weight` and `tensors`.
    fn product(
        &mut self,
        candidate: Candidate,
        problem: &Problem,
        weight: &Weight,
        tensors: &[Tensor],
    ) -> Result<&mut Self> {
        let layouts: Vec<_> = weight.parts.iter().map(|p| p.layout).collect();
        let parts: Vec<_> = weight.parts.iter().map(|p| p.buffer.clone()).collect();
        for dispatch in candidate.lower(problem, &layouts, self.gpu.caps())? {
            self.push(dispatch, tensors, &parts)?;
        }
        Ok(self)
    }

    /// [`dispatch`](Self::dispatch) for a launch that also reads parts of `weight`.
    ///
    /// # Errors
    /// Those of [`dispatch`](Self::dispatch).
    pub fn dispatch_on(
        &mut self,
        dispatch: Dispatch,
        weight: &Weight,
        tensors: &[Tensor],
    ) -> Result<&mut Self> {
        dispatch.fits(self.gpu.caps())?;
        let parts: Vec<_> = weight.parts.iter().map(|p| p.buffer.clone()).collect();
        self.push(dispatch, tensors, &parts)?;
        Ok(self)
    }

    /// Appends a launch of the host's own, `tensors` being what its operands name.
    ///
    /// Its shader runs without wgpu's guards against endless loops and division by zero:
    /// every loop must count up to a const or a parameter, every divisor be non-zero.
    /// Set [`Options::checked`](crate::gpu::Options::checked) to keep the guards.
    ///
    /// Operands may share a buffer in disjoint ranges; where one of them is written, those that
    /// are only read must be declared as `var<storage, read> name:`.
    ///
    /// # Errors
    /// [`Error::Shape`] where an operand names no tensor, [`Error::Aliasing`], and those of
    /// [`Dispatch::fits`].
    pub fn dispatch(&mut self, dispatch: Dispatch, tensors: &[Tensor]) -> Result<&mut Self> {
        dispatch.fits(self.gpu.caps())?;
        self.push(dispatch, tensors, &[])?;
        Ok(self)
    }

    fn push(
        &mut self,
        dispatch: Dispatch,
        tensors: &[Tensor],
        parts: &[wgpu::Buffer],
    ) -> Result<()> {
        for operand in &dispatch.operands {
            let (what, index, len) = match operand.role {
                Role::Tensor(i) => ("tensor of an operand", i, tensors.len()),
                Role::Part(i) => ("weight part of an operand", i, parts.len()),
                Role::Scratch => continue,
            };
            if index >= len {
                return Err(Error::Shape {
                    what,
                    got: index,
                    expected: len.saturating_sub(1),
                });
            }
        }
        sharing::declared(&dispatch, tensors)?;
        self.steps.push(Step {
            dispatch,
            tensors: tensors.to_vec(),
            parts: parts.to_vec(),
        });
        Ok(())
    }

    /// Bytes of scratch that the steps so far need: what a [`Workspace`] must hold.
    pub fn scratch_bytes(&self) -> u64 {
        let steps = self.steps.iter();
        steps.map(|s| s.dispatch.scratch_bytes).max().unwrap_or(0)
    }

    /// Makes everything that running the plan needs.
    ///
    /// # Errors
    /// [`Error::Kernel`] where a pipeline is refused, [`Error::OutOfMemory`],
    /// [`Error::Limit`] where the workspace is too small, [`Error::DeviceLost`].
    pub fn build(self) -> Result<Plan> {
        let scratch_bytes = self.scratch_bytes();
        let Self {
            gpu,
            steps,
            workspace,
            ..
        } = self;
        let scratch = match workspace {
            Some(w) if w.scratch.size() < scratch_bytes => {
                return Err(Error::Limit {
                    what: "bytes of scratch in the workspace",
                    value: scratch_bytes,
                    limit: w.scratch.size(),
                });
            }
            Some(w) => w.scratch,
            None => gpu.buffer("scratch", scratch_bytes, wgpu::BufferUsages::STORAGE, None)?,
        };

        let mut blocks = vec![];
        let mut offsets = vec![];
        for step in &steps {
            offsets.push(blocks.len() as u64);
            blocks.extend_from_slice(bytemuck::cast_slice(&step.dispatch.params));
            blocks.resize(
                blocks
                    .len()
                    .next_multiple_of(PARAM_ALIGNMENT as usize)
                    .max(PARAM_ALIGNMENT as usize),
                0,
            );
        }
        let params = gpu.buffer(
            "params",
            blocks.len() as u64,
            wgpu::BufferUsages::UNIFORM,
            Some(&blocks),
        )?;

        let pipelines = {
            let declared = steps
                .iter()
                .map(|s| sharing::declared(&s.dispatch, &s.tensors));
            gpu.pipelines(&declared.collect::<Result<Vec<_>>>()?)?
        };
        let mut launches = vec![];
        for ((step, params_offset), pipeline) in steps.into_iter().zip(offsets).zip(pipelines) {
            let bindings = Bindings {
                params: &params,
                params_offset,
                scratch: &scratch,
            };
            let group = bindings.group(&gpu, &pipeline, &step)?;
            launches.push(Launch {
                step,
                params_offset,
                pipeline,
                group,
            });
        }
        Ok(Plan {
            gpu,
            launches,
            params,
            scratch,
            scratch_bytes,
            #[cfg(not(target_arch = "wasm32"))]
            pace: Mutex::default(),
        })
    }
}

/// A step ready to be recorded.
struct Launch {
    step: Step,
    params_offset: u64,
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
}

/// What the bind groups of a plan share.
struct Bindings<'a> {
    params: &'a wgpu::Buffer,
    params_offset: u64,
    scratch: &'a wgpu::Buffer,
}

impl Bindings<'_> {
    fn group(&self, gpu: &Gpu, pipeline: &Pipeline, step: &Step) -> Result<wgpu::BindGroup> {
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

/// Steps that can be recorded again and again.
pub struct Plan {
    gpu: Gpu,
    launches: Vec<Launch>,
    params: wgpu::Buffer,
    scratch: wgpu::Buffer,
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
        self.record(encoder, 0..self.launches.len());
        Ok(())
    }

    /// Records some launches as one compute pass.
    fn record(&self, encoder: &mut wgpu::CommandEncoder, launches: Range<usize>) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let launches = self.launches[launches].iter();
        launches.for_each(|l| l.record(&mut pass));
    }

    /// Records one timed pass a step: step `i` writes the times of pass `i`. For benches;
    /// the caller then calls [`Timestamps::resolve`].
    ///
    /// # Errors
    /// [`Error::Shape`] where `timestamps` has not one pass a step, [`Error::DeviceLost`].
    pub fn encode_timed(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        timestamps: &Timestamps,
    ) -> Result<()> {
        self.gpu.alive()?;
        if timestamps.passes() < self.launches.len() {
            let (got, expected) = (timestamps.passes(), self.launches.len());
            return Err(Error::Shape {
                what: "timed passes",
                got,
                expected,
            });
        }
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
        self.gpu.submit(encoder)
    }

    /// [`encode`](Self::encode) with other tensors in the places of some: `(old, new)` for each.
    /// The plan stays as it was, and keeps nothing of them alive.
    ///
    /// For hosts whose tensors lie elsewhere at every call; [`Gpu::slot`] gives the tensors to
    /// build such a plan with. Bind groups are made anew, and a pipeline where operands of a step
    /// share a buffer for the first time.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes of a pair differ, [`Error::Aliasing`],
    /// [`Error::DeviceLost`]; nothing is recorded then.
    pub fn encode_with(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<()> {
        self.gpu.alive()?;
        let rebound = self.rebound(pairs)?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (launch, other) in self.launches.iter().zip(&rebound) {
            other.as_ref().unwrap_or(launch).record(&mut pass);
        }
        Ok(())
    }

    /// Puts `new` in the place of `old` in every step, and returns in how many.
    ///
    /// # Errors
    /// [`Error::Shape`] where their shapes differ, [`Error::Aliasing`]; the plan is then
    /// as it was.
    pub fn rebind(&mut self, old: &Tensor, new: &Tensor) -> Result<usize> {
        let rebound = self.rebound(&[(old, new)])?;
        let mut count = 0;
        for (launch, other) in self.launches.iter_mut().zip(rebound) {
            if let Some(other) = other {
                *launch = other;
                count += 1;
            }
        }
        Ok(count)
    }

    /// For each launch that has an old tensor of `pairs`, the same with the new ones.
    fn rebound(&self, pairs: &[(&Tensor, &Tensor)]) -> Result<Vec<Option<Launch>>> {
        for (old, new) in pairs {
            for (what, got, expected) in [
                ("rebound vectors", new.batch(), old.batch()),
                ("rebound elements", new.len(), old.len()),
            ] {
                if got != expected {
                    return Err(Error::Shape {
                        what,
                        got,
                        expected,
                    });
                }
            }
        }
        let swapped = |tensor: &Tensor| {
            let pair = pairs.iter().find(|(old, _)| *old == tensor);
            pair.map(|(_, new)| (*new).clone())
        };
        let rebound = |launch: &Launch| {
            let tensors = launch.step.tensors.iter();
            if tensors.clone().all(|tensor| swapped(tensor).is_none()) {
                return Ok(None);
            }
            let step = Step {
                dispatch: launch.step.dispatch.clone(),
                tensors: tensors
                    .map(|tensor| swapped(tensor).unwrap_or_else(|| tensor.clone()))
                    .collect(),
                parts: launch.step.parts.clone(),
            };
            let declared = sharing::declared(&step.dispatch, &step.tensors)?;
            let pipeline = self.gpu.pipeline(&declared)?;
            let bindings = Bindings {
                params: &self.params,
                params_offset: launch.params_offset,
                scratch: &self.scratch,
            };
            let group = bindings.group(&self.gpu, &pipeline, &step)?;
            Ok(Some(Launch {
                step,
                params_offset: launch.params_offset,
                pipeline,
                group,
            }))
        };
        self.launches.iter().map(rebound).collect()
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
        let mut tensors = BTreeMap::new();
        for launch in &self.launches {
            for part in &launch.step.parts {
                weights.insert(part, part.size());
            }
            for tensor in &launch.step.tensors {
                tensors.insert((&tensor.buffer, tensor.offset), tensor.bytes());
            }
        }
        Memory {
            weights: weights.values().sum(),
            tensors: tensors.values().sum(),
            scratch: self.scratch_bytes,
            params: self.params.size(),
        }
    }
}

impl Launch {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.step.dispatch.grid;
        if x == 0 || y == 0 || z == 0 {
            return;
        }
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

fn check_linear(weight: &Weight, x: &Tensor, bias: Option<&Tensor>, y: &Tensor) -> Result<Problem> {
    let bias_len = bias.map_or(weight.rows(), |b| b.batch() * b.len());
    for (what, got, expected) in [
        ("x columns", x.len(), weight.cols()),
        ("y columns", y.len(), weight.rows()),
        ("y vectors", y.batch(), x.batch()),
        ("bias elements", bias_len, weight.rows()),
    ] {
        if got != expected {
            return Err(Error::Shape {
                what,
                got,
                expected,
            });
        }
    }
    Ok(Problem {
        rows: weight.rows(),
        cols: weight.cols(),
        batch: x.batch(),
        format: weight.format(),
        bias: bias.is_some(),
        layout: weight.layout(),
        skip: Skip::Nothing,
        precision: Precision::F32,
    })
}
