//! Choosing candidates and collecting launches.

use super::{
    Plan, Workspace,
    halves::Wide,
    launch::{self, Step},
    prepared, sharing,
};
use crate::{
    caps::Caps,
    error::{Error, Result},
    format::{Dtype, Format, Precision},
    gpu::{Gpu, Tensor, Weight, check_dtype},
    kernel::{Candidate, Dispatch, Problem, Role, Skip},
};

/// Where the heaviest panel of rows keeps this many times what the mean one does, equal tasks are faster than
/// panels. Measured on llvmpipe: 0.62 × at 1, 1.22 × at 2; interpolated between them.
const UNBALANCED: f64 = 1.6;

/// Collects the steps of a [`Plan`]. A call that fails appends nothing.
pub struct PlanBuilder {
    pub(super) gpu: Gpu,
    steps: Vec<Step>,
    workspace: Option<Workspace>,
    precision: Precision,
    shares: bool,
    pub(super) wide: Wide,
    /// Steps that were left out because those before their place have done the same, with that place.
    shared: Vec<(usize, Step)>,
}

impl std::fmt::Debug for PlanBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dispatches = self.steps.iter().map(|step| &step.dispatch);
        f.debug_list().entries(dispatches).finish()
    }
}

impl PlanBuilder {
    /// An empty plan on `gpu`.
    pub fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            steps: vec![],
            workspace: None,
            precision: Precision::F32,
            shares: true,
            wide: Wide::default(),
            shared: vec![],
        }
    }

    /// Uses `workspace` for scratch instead of a buffer of the plan's own.
    pub fn workspace(&mut self, workspace: &Workspace) -> &mut Self {
        self.workspace = Some(workspace.clone());
        self
    }

    /// How [`linear`](Self::linear) products appended from here on take their activations: by default in f32. The
    /// engine never makes another choice for the caller.
    pub fn precision(&mut self, precision: Precision) -> &mut Self {
        self.precision = precision;
        self
    }

    /// Whether successive products of the same x share what they first make of it, transposed or as integers: by
    /// default they do. Benchmarks of single products must turn it off.
    pub fn sharing(&mut self, shares: bool) -> &mut Self {
        self.shares = shares;
        self
    }

    /// Appends `y[b, r] = bias[r] + Σ_c W[r, c] · x[b, c]` with the best legal candidate.
    ///
    /// `x` is `[batch, cols]`, `y` is `[batch, rows]`, `bias` is `[1, rows]` in f32. Where x has 16 bits an element,
    /// a launch in front widens it to f32; where y has, a launch behind rounds to it, to the nearest, ties to even.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Dtype`], [`Error::Limit`], [`Error::NoKernel`], [`Error::Aliasing`].
    pub fn linear(
        &mut self,
        weight: &Weight,
        x: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<&mut Self> {
        let problem = self.linear_problem(weight, x, bias, y)?;
        // Kept groups lie for devices of one class: a weight of the other's is multiplied by its kernels.
        let caps = Caps {
            class: match problem.format {
                Format::Gqs { .. } => weight.class,
                _ => self.gpu.caps().class,
            },
            ..*self.gpu.caps()
        };
        let legal = self.gpu.tuning().candidates(&problem, &caps)?;
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
        self.all_or_none(|plan| {
            let (x, sums) = (plan.widened(x)?, plan.sums_of(y)?);
            let tensors: Vec<_> = [&x, &sums].into_iter().chain(bias).cloned().collect();
            plan.product(candidate, &problem, weight, &tensors)?;
            plan.narrowed(y)
        })
    }

    /// The legal candidates for a product, best first; there is one at least.
    pub(super) fn candidates(&self, problem: &Problem) -> Result<Vec<Candidate>> {
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
    pub(super) fn product(
        &mut self,
        candidate: Candidate,
        problem: &Problem,
        weight: &Weight,
        tensors: &[Tensor],
    ) -> Result<()> {
        let layouts: Vec<_> = weight.parts.iter().map(|p| p.layout).collect();
        let parts: Vec<_> = weight.parts.iter().map(|p| p.buffer.clone()).collect();
        for dispatch in candidate.lower(problem, &layouts, self.gpu.caps())? {
            self.push(Step::of_product(dispatch, tensors.to_vec(), parts.clone()))?;
        }
        Ok(())
    }

    /// Appends the steps of `call`, or none of them where it fails.
    pub(super) fn all_or_none(
        &mut self,
        call: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<&mut Self> {
        let (steps, shared) = (self.steps.len(), self.shared.len());
        if let Err(e) = call(self) {
            self.steps.truncate(steps);
            self.shared.truncate(shared);
            return Err(e);
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
        self.push(Step::new(dispatch, tensors.to_vec(), parts))?;
        Ok(self)
    }

    /// Appends a launch of the host's own; its operands name `tensors` by their places.
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
        self.push(Step::new(dispatch, tensors.to_vec(), vec![]))?;
        Ok(self)
    }

    /// Appends a step whose operands may name what is not there.
    fn push(&mut self, step: Step) -> Result<()> {
        for operand in &step.dispatch.operands {
            let (what, index, len) = match operand.role {
                Role::Tensor(i) => ("tensor of an operand", i, step.tensors.len()),
                Role::Part(i) => ("weight part of an operand", i, step.parts.len()),
                Role::Scratch => continue,
                Role::Piece => {
                    let reason = "only a plan that cuts a launch binds pieces".into();
                    let what = operand.name;
                    return Err(Error::Buffer { what, reason });
                }
            };
            if index >= len {
                return Err(Error::Shape {
                    what,
                    got: index,
                    expected: len.saturating_sub(1),
                });
            }
        }
        self.step(step)
    }

    /// Appends a step whose operands are all there.
    pub(super) fn step(&mut self, step: Step) -> Result<()> {
        sharing::declared(&step)?;
        if self.shares && prepared::already(self.steps.iter(), &step) {
            self.shared.push((self.steps.len(), step));
        } else {
            self.steps.push(step);
        }
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
            shared,
            ..
        } = self;
        let workspace = match workspace {
            Some(w) if w.scratch.size() < scratch_bytes => {
                return Err(Error::Limit {
                    what: "bytes of scratch in the workspace",
                    value: scratch_bytes,
                    limit: w.scratch.size(),
                });
            }
            Some(w) => w,
            None => Workspace::new(&gpu, scratch_bytes)?,
        };

        let (params, launches) = launch::launches(&gpu, steps, &workspace.scratch)?;
        Ok(Plan {
            gpu,
            launches,
            shared,
            params,
            workspace,
            scratch_bytes,
            #[cfg(not(target_arch = "wasm32"))]
            pace: std::sync::Mutex::default(),
        })
    }
}

pub(super) fn check_linear(
    weight: &Weight,
    x: &Tensor,
    bias: Option<&Tensor>,
    y: &Tensor,
) -> Result<Problem> {
    let bias_len = bias.map_or(weight.rows(), |b| b.batch() * b.len());
    for (what, got, expected) in [
        ("x columns", x.len(), weight.cols()),
        ("y columns", y.len(), weight.rows()),
        ("y vectors", y.batch(), x.batch()),
        ("bias elements", bias_len, weight.rows()),
    ] {
        Error::expect(what, got, expected)?;
    }
    if let Some(bias) = bias {
        check_dtype("bias", bias.dtype(), Dtype::F32)?;
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
