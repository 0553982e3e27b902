//! Products that skip what is not active, and the list that says what is.

use super::builder::{PlanBuilder, check_linear};
use crate::{
    error::{Error, Result},
    format::Dtype,
    gpu::{Active, Tensor, Weight, check_dtype},
    kernel::{Candidate, Problem, Skip, compact},
};

pub use crate::kernel::compact::Activation;

impl PlanBuilder {
    /// Appends the search for active channels: with `v = activation(x[b, c])`,
    /// `active.kept[b, c]` becomes `v` where not `|v| ≤ thresholds[c]`, else zero, and the list
    /// names the channels that any vector keeps.
    ///
    /// `x` is `[batch, channels]`, `thresholds` `[1, channels]`, or `[1, 1]` for all; they are at
    /// least zero, and infinite for channels that are never active. NaN is kept.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Dtype`] for thresholds that are not f32, [`Error::Aliasing`].
    pub fn threshold(
        &mut self,
        x: &Tensor,
        thresholds: &Tensor,
        activation: Activation,
        active: &Active,
    ) -> Result<&mut Self> {
        let (batch, channels) = (active.batch(), active.channels());
        let scalar = thresholds.batch() * thresholds.len() == 1;
        check(&[
            ("x vectors", x.batch(), batch),
            ("x columns", x.len(), channels),
            (
                "thresholds",
                thresholds.batch() * thresholds.len(),
                if scalar { 1 } else { channels },
            ),
        ])?;
        check_dtype("thresholds", thresholds.dtype(), Dtype::F32)?;
        let caps = *self.gpu.caps();
        self.all_or_none(|plan| {
            let x = plan.widened(x)?;
            let tensors = [&x, thresholds, &active.kept, &active.list].map(Clone::clone);
            for launch in compact::dispatches(batch, channels, scalar, activation, &caps) {
                plan.dispatch(launch, &tensors)?;
            }
            Ok(())
        })
    }

    /// Appends `kept[b, r] ← kept[b, r] · (bias[r] + Σ_c W[r, c] · x[b, c])` for the active rows,
    /// without reading the others: a mask on the outputs where what was kept is 1, a gated
    /// layer where it is the gate.
    ///
    /// `weight` lies by rows, as [`Gpu::upload`](crate::Gpu::upload) leaves it.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NoKernel`] for weights that store less than every value,
    /// [`Error::Aliasing`].
    pub fn masked(
        &mut self,
        weight: &Weight,
        x: &Tensor,
        bias: Option<&Tensor>,
        active: &Active,
    ) -> Result<&mut Self> {
        let problem = masked_problem(weight, x, bias, active)?;
        let best = self.candidates(&problem)?[0];
        self.masked_with(best, weight, x, bias, active)
    }

    /// [`masked`](Self::masked) with a candidate of the caller's choice.
    ///
    /// # Errors
    /// Those of [`masked`](Self::masked), and why the candidate is not legal.
    pub fn masked_with(
        &mut self,
        candidate: Candidate,
        weight: &Weight,
        x: &Tensor,
        bias: Option<&Tensor>,
        active: &Active,
    ) -> Result<&mut Self> {
        let problem = masked_problem(weight, x, bias, active)?;
        self.all_or_none(|plan| {
            let x = plan.widened(x)?;
            let tensors = [&x, &active.kept].into_iter().chain(bias);
            let tensors: Vec<_> = tensors.chain([&active.list]).cloned().collect();
            plan.product(candidate, &problem, weight, &tensors)
        })
    }

    /// Appends `y[b, r] = bias[r] + Σ_c W[r, c] · kept[b, c]` over the active columns, without
    /// reading the others.
    ///
    /// `weight` lies in bands, as [`Gpu::upload_bands`](crate::Gpu::upload_bands) leaves it.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NoKernel`] for a weight that lies by rows, [`Error::Aliasing`].
    pub fn input_sparse(
        &mut self,
        weight: &Weight,
        active: &Active,
        bias: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<&mut Self> {
        let problem = input_problem(weight, active, bias, y)?;
        let best = self.candidates(&problem)?[0];
        self.input_sparse_with(best, weight, active, bias, y)
    }

    /// [`input_sparse`](Self::input_sparse) with a candidate of the caller's choice.
    ///
    /// # Errors
    /// Those of [`input_sparse`](Self::input_sparse), and why the candidate is not legal.
    pub fn input_sparse_with(
        &mut self,
        candidate: Candidate,
        weight: &Weight,
        active: &Active,
        bias: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<&mut Self> {
        let problem = input_problem(weight, active, bias, y)?;
        self.all_or_none(|plan| {
            let sums = plan.sums_of(y)?;
            let tensors = [&active.kept, &sums].into_iter().chain(bias);
            let tensors: Vec<_> = tensors.chain([&active.list]).cloned().collect();
            plan.product(candidate, &problem, weight, &tensors)?;
            plan.narrowed(y)
        })
    }
}

fn check(shapes: &[(&'static str, usize, usize)]) -> Result<()> {
    let mut all = shapes.iter();
    all.try_for_each(|&(what, got, expected)| Error::expect(what, got, expected))
}

fn masked_problem(
    weight: &Weight,
    x: &Tensor,
    bias: Option<&Tensor>,
    active: &Active,
) -> Result<Problem> {
    let problem = check_linear(weight, x, bias, &active.kept)?;
    Ok(Problem {
        skip: Skip::Rows,
        ..problem
    })
}

fn input_problem(
    weight: &Weight,
    active: &Active,
    bias: Option<&Tensor>,
    y: &Tensor,
) -> Result<Problem> {
    let problem = check_linear(weight, &active.kept, bias, y)?;
    Ok(Problem {
        skip: Skip::Cols,
        ..problem
    })
}
