//! One candidate on one weight: checked first, then timed.

use super::{clock::Timed, product::Product, rotation::Rotation};
use crate::error::Result;
use lacuna::{
    Gpu, Plan, PlanBuilder, Tensor, Weight, Workspace,
    format::Format,
    kernel::{Candidate, Layout},
    reference::Sampled,
};
use std::time::Instant;

/// How long the run that estimates a candidate's time should last.
const ESTIMATE_SECONDS: f64 = 0.004;

/// A candidate whose result was right.
pub struct Subject {
    /// The weight's format.
    pub format: Format,
    /// What is computed.
    pub product: Product,
    /// The kernel and its configuration.
    pub candidate: Candidate,
    /// Estimated seconds per product.
    pub seconds: f64,
    /// The worst ratio of an error to its bound.
    pub error_over_bound: f64,
    /// Seconds of a product in each round.
    pub samples: Vec<f64>,
    y: Tensor,
    checked: Vec<f32>,
    workspace: Workspace,
    timed: Option<Timed>,
}

/// Why a candidate is not timed.
pub struct Refusal {
    /// In words.
    pub reason: String,
    /// Whether it ran and was wrong.
    pub wrong: bool,
}

impl Subject {
    /// Runs `candidate` once and checks its result. The inner error concerns this candidate only.
    pub fn try_out(
        gpu: &Gpu,
        (product, candidate): (&Product, Candidate),
        weight: &Weight,
        x: &Tensor,
        truth: &Sampled,
    ) -> Result<Result<Self, Refusal>> {
        let (batch, rows) = (x.batch(), weight.rows());
        // Elements that the kernel fails to write stay NaN.
        let y = gpu.tensor_from(batch, rows, &vec![f32::NAN; batch * rows])?;
        let product = product.apart(gpu)?;
        let plan = plan(gpu, (&product, candidate), &[weight], x, &y, None)?;
        plan.run()?;
        let checked = product.result().unwrap_or(&y).read_blocking(gpu)?;
        let comparison = truth.compare(&checked)?;
        if !comparison.passes() {
            let reason = format!(
                "check failed: error over bound {:.3} at element {}, NMSE {:.1e}",
                comparison.error_over_bound, comparison.worst, comparison.nmse
            );
            return Ok(Err(Refusal {
                reason,
                wrong: true,
            }));
        }
        let workspace = Workspace::new(gpu, plan.memory().scratch)?;
        let mut seconds = wall(gpu, &plan)?;
        if seconds < ESTIMATE_SECONDS / 2.0 {
            let many = (ESTIMATE_SECONDS / seconds).ceil().min(256.0) as usize;
            let (what, weights) = ((&product, candidate), vec![weight; many]);
            let plan = self::plan(gpu, what, &weights, x, &y, Some(&workspace))?;
            wall(gpu, &plan)?;
            seconds = wall(gpu, &plan)? / many as f64;
        }
        log::info!(
            "{} {candidate}: {:.1} us at first sight",
            weight.format(),
            1e6 * seconds
        );
        Ok(Ok(Self {
            format: weight.format(),
            product,
            candidate,
            seconds,
            error_over_bound: comparison.error_over_bound,
            samples: vec![],
            y,
            checked,
            workspace,
            timed: None,
        }))
    }

    /// Builds one plan for each turn of `rotation` over `copies`.
    pub fn arm(
        &mut self,
        gpu: &Gpu,
        copies: &[Weight],
        x: &Tensor,
        rotation: Rotation,
        timestamps: bool,
    ) -> Result<()> {
        let products = rotation.per_sample;
        let plan_of = |turn: usize| {
            let used = (0..products).map(|i| &copies[(turn * products + i) % copies.len()]);
            let used: Vec<&Weight> = used.collect();
            plan(
                gpu,
                (&self.product, self.candidate),
                &used,
                x,
                &self.y,
                Some(&self.workspace),
            )
        };
        let plans = (0..rotation.turns()).map(plan_of).collect::<Result<_>>()?;
        self.timed = Some(Timed::new(gpu, plans, products, timestamps)?);
        self.samples.clear();
        Ok(())
    }

    /// The key of the weight that it uses.
    pub fn key(&self) -> Key {
        (self.format.to_string(), self.product.layout)
    }

    /// Times one turn; `keep` is false for the warm-up.
    pub fn sample(&mut self, gpu: &Gpu, turn: usize, keep: bool) -> Result<()> {
        if let Some(timed) = &self.timed {
            let seconds = timed.sample(gpu, turn)?;
            if keep {
                self.samples.push(seconds);
            }
        }
        Ok(())
    }

    /// Whether the timed runs gave bit for bit the result that was checked.
    pub fn still_right(&self, gpu: &Gpu) -> Result<bool> {
        let y = self.product.result().unwrap_or(&self.y);
        let y = y.read_blocking(gpu)?;
        Ok(y.iter()
            .zip(&self.checked)
            .all(|(a, b)| a.to_bits() == b.to_bits()))
    }
}

/// Identifies a weight of the group by its format and layout.
pub type Key = (String, Layout);

/// One product for each weight, all into `y`.
fn plan(
    gpu: &Gpu,
    (product, candidate): (&Product, Candidate),
    weights: &[&Weight],
    x: &Tensor,
    y: &Tensor,
    workspace: Option<&Workspace>,
) -> Result<Plan> {
    let mut builder = PlanBuilder::new(gpu);
    if let Some(workspace) = workspace {
        builder.workspace(workspace);
    }
    // Products share no prepared x, as each is timed as if it stood alone.
    builder.sharing(false);
    for weight in weights {
        product.add(&mut builder, candidate, weight, x, y)?;
    }
    Ok(builder.build()?)
}

fn wall(gpu: &Gpu, plan: &Plan) -> Result<f64> {
    let begin = Instant::now();
    plan.run()?;
    gpu.wait()?;
    Ok(begin.elapsed().as_secs_f64().max(1e-9))
}
