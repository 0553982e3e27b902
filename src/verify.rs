//! Every kernel in every configuration against the reference: a case, and how it is run.
//!
//! The engine's own tests, `lacuna verify` and an embedder's own checks all use this list,
//! so that a kernel that passes here has met the same shapes everywhere.

mod checks;
#[cfg(not(target_arch = "wasm32"))]
mod fence;
mod table;

pub use checks::{Checks, Filter, Known};
#[cfg(not(target_arch = "wasm32"))]
use fence::Fenced;
pub use table::{cases, cases_of};

use crate::{
    caps::{Caps, DeviceClass},
    compress,
    error::Result,
    format::{Dense, Format, Matrix, Precision},
    gpu::Gpu,
    kernel::{self, Candidate, Layout, Problem, Skip},
    plan::{Activation, PlanBuilder},
    reference::{self, Comparison, Reference},
};

/// One product to be checked, with data made from its own shape.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is computed.
    pub problem: Problem,
    /// The weight, already in the problem's format.
    pub weight: Matrix,
    /// `[batch, cols]`.
    pub x: Vec<f32>,
    /// `[rows]`, where the problem has one.
    pub bias: Option<Vec<f32>>,
    /// `[batch, rows]`: what decides about rows where they are skipped.
    pub gate: Vec<f32>,
}

/// Threshold of what is skipped: of numbers in [-1, 1) it leaves half.
const THRESHOLD: f32 = 0.5;

impl Case {
    /// A case with reproducible data in [-1, 1) and a weight pruned by magnitude.
    ///
    /// # Panics
    /// Where `rows · cols` values do not fit in memory.
    pub fn new(rows: usize, cols: usize, batch: usize, format: Format, bias: bool) -> Self {
        let format = format.or_dtype(crate::format::Dtype::F32);
        let mut random = Random(0x9e37_79b9 ^ ((rows * 31 + cols) * 31 + batch) as u64);
        // Codes of small values have a factor beside their scales; a bias would hide what becomes of it.
        let small = !bias && format.quant().is_some();
        let scale = if small { 1.0 / 1024.0 } else { 1.0 };
        let values = random.vector(rows * cols).into_iter().map(|v| scale * v);
        let dense = Dense::from_f32(rows, cols, values.collect()).expect("a case fits in memory");
        let weight =
            compress::compress(&dense, format).expect("finite values in [-1, 1) fit every type");
        let x = random.vector(batch * cols);
        let bias = bias.then(|| random.vector(rows));
        let problem = Problem {
            rows,
            cols,
            batch,
            format,
            bias: bias.is_some(),
            layout: Layout::Rows,
            skip: Skip::Nothing,
            precision: Precision::F32,
        };
        Self {
            problem,
            weight,
            x,
            bias,
            gate: random.vector(batch * rows),
        }
    }

    /// The same with a weight in `layout`, skipping what is not active.
    #[must_use]
    pub fn skipping(mut self, layout: Layout, skip: Skip) -> Self {
        (self.problem.layout, self.problem.skip) = (layout, skip);
        self
    }

    /// The same with x taken in `precision`. Unless that is f32, every other vector is put on the grid of its
    /// numbers or steps, where nothing is lost and the bound is sharp.
    #[must_use]
    pub fn taking(mut self, precision: Precision) -> Self {
        let Problem { rows, cols, .. } = self.problem;
        self.problem.precision = precision;
        if precision == Precision::F16 {
            let vectors = self.x.chunks_mut(cols.max(1)).enumerate();
            for (_, vector) in vectors.filter(|(b, _)| (b + rows).is_multiple_of(2)) {
                for x in vector {
                    *x = half::f16::from_f32(*x).to_f32();
                }
            }
        }
        // How many steps the largest of a block has, and how many 1 has.
        let grid = match precision {
            Precision::F32 | Precision::F16 => None,
            Precision::I8 => Some((127.0, 128.0)),
            Precision::I24 => Some((2_097_152.0, 2_097_152.0)),
        };
        if let Some((steps, one)) = grid {
            let vectors = self.x.chunks_mut(cols.max(1)).enumerate();
            for (_, vector) in vectors.filter(|(b, _)| (b + rows).is_multiple_of(2)) {
                for (c, x) in vector.iter_mut().enumerate() {
                    // The first of any block is its largest.
                    let quotient = if c % 8 == 0 {
                        steps
                    } else {
                        (*x * steps).round()
                    };
                    *x = quotient / one;
                }
            }
        }
        self
    }

    /// The truth.
    ///
    /// # Errors
    /// Never for a case made by [`Case::new`].
    pub fn reference(&self) -> Result<Reference> {
        let kept = |v: &[f32]| reference::threshold(v, &[THRESHOLD]);
        let (batch, bias) = (self.problem.batch, self.bias.as_deref());
        let precision = self.problem.precision;
        let linear = |x: &[f32]| reference::linear_in(precision, &self.weight, x, batch, bias);
        match self.problem.skip {
            Skip::Nothing => linear(&self.x),
            Skip::Cols => linear(&kept(&self.x)),
            Skip::Rows => linear(&self.x)?.masked(&kept(&self.gate)),
        }
    }

    /// Every candidate of either device class with what keeps it from running on `caps`.
    ///
    /// # Errors
    /// Where the weight cannot be laid out on the device.
    pub fn survey(&self, caps: &Caps) -> Result<Vec<(Candidate, Result<()>)>> {
        let mut all: Vec<(Candidate, Result<()>)> = vec![];
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            for (candidate, legal) in kernel::survey(&self.problem, &Caps { class, ..*caps })? {
                // The two may lay a weight out differently, so that what one refuses serves the other.
                match all.iter_mut().find(|(c, _)| *c == candidate) {
                    None => all.push((candidate, legal)),
                    Some((_, why)) if legal.is_ok() => *why = legal,
                    Some(_) => {}
                }
            }
        }
        Ok(all)
    }

    /// Runs one candidate. x and y lie between fences of NaN, and y is NaN before: reads past x and
    /// elements of y that the kernel does not write show in the result.
    ///
    /// # Errors
    /// Whatever building or running the plan refuses; [`Kernel`](crate::Error::Kernel) where something was
    /// written beside y.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&self, gpu: &Gpu, candidate: Candidate) -> Result<Vec<f32>> {
        let Problem {
            rows,
            cols,
            batch,
            layout,
            skip,
            precision,
            ..
        } = self.problem;
        // Candidates for the other class of devices may want another layout.
        let is_own = |(c, legal): &(Candidate, Result<()>)| legal.is_ok() && *c == candidate;
        let class = match gpu.caps().class {
            own if kernel::survey(&self.problem, gpu.caps())?
                .iter()
                .any(is_own) =>
            {
                own
            }
            DeviceClass::Cpu => DeviceClass::Gpu,
            DeviceClass::Gpu => DeviceClass::Cpu,
        };
        let weight = gpu.upload_as(layout, class, &self.weight)?;
        let x = Fenced::new(gpu, batch, cols, &self.x)?.tensor;
        let fenced = Fenced::new(gpu, batch, rows, &vec![f32::NAN; batch * rows])?;
        let y = &fenced.tensor;
        let bias = self
            .bias
            .as_ref()
            .map(|b| gpu.tensor_from(1, rows, b))
            .transpose()?;
        let mut builder = PlanBuilder::new(gpu);
        if skip == Skip::Nothing {
            builder.precision(precision);
            builder.linear_with(candidate, &weight, &x, bias.as_ref(), y)?;
            builder.build()?.run()?;
            return fenced.read_blocking(gpu, candidate);
        }
        let thresholds = gpu.tensor_from(1, 1, &[THRESHOLD])?;
        let gate = gpu.tensor_from(batch, rows, &self.gate)?;
        let (decides, active) = match skip {
            Skip::Rows => (&gate, gpu.active(batch, rows)?),
            _ => (&x, gpu.active(batch, cols)?),
        };
        builder.threshold(decides, &thresholds, Activation::None, &active)?;
        if skip == Skip::Rows {
            builder.masked_with(candidate, &weight, &x, bias.as_ref(), &active)?;
            builder.build()?.run()?;
            return active.kept().read_blocking(gpu);
        }
        builder.input_sparse_with(candidate, &weight, &active, bias.as_ref(), y)?;
        builder.build()?.run()?;
        fenced.read_blocking(gpu, candidate)
    }

    /// Runs one candidate and compares it with the truth.
    ///
    /// # Errors
    /// Those of [`Case::run`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn check(&self, gpu: &Gpu, candidate: Candidate, truth: &Reference) -> Result<Comparison> {
        truth.compare(&self.run(gpu, candidate)?)
    }
}

/// Reproducible numbers (the `SplitMix64` generator), the same on every platform.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// Next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Next number, uniform in [-1, 1).
    pub fn signed(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// `len` numbers, uniform in [-1, 1).
    pub fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.signed()).collect()
    }
}
