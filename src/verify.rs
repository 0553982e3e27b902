//! Every kernel in every configuration against the reference: the case table and its runner.
//!
//! The engine's own tests, `lacuna verify` and an embedder's own checks all use this list,
//! so that a kernel that passes here has met the same shapes everywhere.

#[cfg(not(target_arch = "wasm32"))]
mod fence;

#[cfg(not(target_arch = "wasm32"))]
use fence::Fenced;

use crate::{
    caps::{Caps, DeviceClass},
    compress,
    error::{Error, Result},
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

/// Formats whose cases are checked: both extremes of n and m, every width of a device
/// index, windows that divide nothing, index sets narrower, equal and wider than tiles; codes
/// that straddle words, groups shorter and longer than what a lane takes.
const FORMATS: &[&str] = &[
    "f32",
    "f16",
    "bf16",
    "2:4",
    "1:4@f16",
    "3:4@bf16",
    "1:8",
    "1:16@f16",
    "1:32",
    "3:5@f16",
    "1:1",
    "2:2",
    "31:32",
    "2:4x4",
    "2:4x8@f16",
    "1:8x16@bf16",
    "4:8x32",
    "2:7x3",
    "8:32x64@f16",
    "w4g128",
    "w4g16-sym",
    "w2g64",
    "w3g32",
    "w8row",
    "w5g24",
    "2:4+w4g64",
    "1:8x16+w3g16-sym",
    "2:4x2+w8g16-sym",
    "w4g32-real",
    "2:4+w3g16-real",
    "w4g16s50",
    "w4g64s30-sym",
    "w2g8s60-ragged",
    "w3g40s50-ragged",
    "w4g96s50",
];

/// `(rows, cols, batch)`: ones, primes, tiles ± 1, empty sides, more vectors than any tile.
const SHAPES: &[(usize, usize, usize)] = &[
    (1, 1, 1),
    (64, 128, 1),
    (67, 131, 1),
    (33, 257, 3),
    (127, 64, 8),
    (65, 96, 9),
    (129, 61, 17),
    (31, 33, 67),
    (132, 160, 129),
    (0, 5, 2),
    (5, 0, 2),
    (5, 5, 0),
];

/// Formats of products that skip rows or columns, or whose weights lie so that they can.
const SKIPPING: &[&str] = &[
    "f32",
    "f16",
    "bf16",
    "w4g128",
    "w2g64",
    "w8row",
    "w4g16-sym",
    "w4g32-real",
];

/// What most products are.
const PLAIN: (Layout, Skip) = (Layout::Rows, Skip::Nothing);

/// What those products are.
const WAYS: &[(Layout, Skip)] = &[
    (Layout::Bands, Skip::Nothing),
    (Layout::Bands, Skip::Cols),
    (Layout::Rows, Skip::Rows),
];

/// Formats of products that take x in eight bits.
const QUANTIZING: &[&str] = &[
    "w4g128",
    "w2g64",
    "w8row",
    "w4g16-sym",
    "w8g24",
    "w4g32-real",
    "w8g16-real",
    "w4g16s50",
    "w4g64s50",
    "w8g24s30-sym",
    "w2g16s60-ragged",
    "w4g8s50",
];

/// Formats of products that take x in 24 bits.
const TRIPLES: &[&str] = &[
    "w4g128",
    "w8g16-sym",
    "w2g64",
    "w8row",
    "w4g8",
    "w8g32-real",
    "w4g64s50",
    "w2g16s60-ragged",
];

/// Formats of products that take x in f16.
const HALVES: &[&str] = &[
    "f16",
    "bf16",
    "2:4x16@f16",
    "1:8x32@bf16",
    "4:8x64@f16",
    "w4g128",
    "w4g32-real",
    "w3g40-sym",
    "1:8x16+w3g16-sym",
];

/// Shapes left to the thorough list, each with every fourth format.
const MORE_SHAPES: &[(usize, usize, usize)] = &[
    (1, 4096, 1),
    (4096, 1, 2),
    (63, 127, 4),
    (255, 1024, 5),
    (8, 8, 6),
    (512, 511, 7),
    (66, 260, 16),
    (128, 256, 64),
    (257, 515, 65),
    (70_001, 3, 1),
    (2, 3, 70_001),
];

/// The case table: the quick one, or the thorough one that contains it.
///
/// Thorough is every format at every shape of the first dozen, and at the others every fourth
/// format, shifted from shape to shape. Quick takes each of the first dozen with every twelfth, so
/// that all shapes and all formats are met; products that skip, or take x in eight bits, are among
/// them.
///
/// # Panics
/// Never: the table's formats are valid.
pub fn cases(quick: bool) -> impl Iterator<Item = Case> {
    let of = |formats: &'static [&str], (layout, skip), precision| {
        let parsed = |format: &&str| format.parse().expect("the table holds formats");
        let all = formats.iter().map(parsed);
        all.map(move |format| (layout, skip, precision, format))
    };
    let products = of(FORMATS, PLAIN, Precision::F32)
        .chain(
            WAYS.iter()
                .flat_map(|&way| of(SKIPPING, way, Precision::F32)),
        )
        .chain(of(QUANTIZING, PLAIN, Precision::I8))
        .chain(of(TRIPLES, PLAIN, Precision::I24))
        .chain(of(HALVES, PLAIN, Precision::F16));
    met(products.collect(), quick, 12)
}

/// The same for any one format, in every way in which weights like it can be multiplied: thorough at
/// the shapes of [`cases`], quick with every third way at each.
///
/// # Errors
/// Those of laying its weights out.
pub fn cases_of(format: Format, quick: bool) -> Result<impl Iterator<Item = Case>> {
    let format = format.or_dtype(crate::format::Dtype::F32);
    let precisions = [Precision::I8, Precision::I24, Precision::F16];
    let precisions = precisions.into_iter().filter(|p| p.changes(format));
    let all = std::iter::once((PLAIN, Precision::F32))
        .chain(WAYS.iter().map(|&way| (way, Precision::F32)))
        .chain(precisions.map(|precision| (PLAIN, precision)));
    let mut ways = vec![];
    for ((layout, skip), precision) in all {
        // Some format's weights do not lie in bands, others have no rows to be skipped.
        let case = Case::new(8, 128, 1, format, false).skipping(layout, skip);
        let problem = case.taking(precision).problem;
        match kernel::survey(&problem, &Caps::PORTABLE) {
            Ok(candidates) => {
                // Devices may have what these least caps lack, but none skips what no kernel skips.
                let legal = candidates.iter().any(|(_, legal)| legal.is_ok());
                if legal || (skip == Skip::Nothing && !candidates.is_empty()) {
                    ways.push((layout, skip, precision, format));
                }
            }
            Err(Error::Unfit { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(met(ways, quick, 3))
}

/// A format, how its weight lies, what is skipped, and how x is taken.
type Product = (Layout, Skip, Precision, Format);

/// Products at shapes: each of the first dozen with all, or where `quick` with every so manieth, and
/// others.
fn met(products: Vec<Product>, quick: bool, quick_every: usize) -> impl Iterator<Item = Case> {
    let every = if quick { quick_every } else { 1 };
    let products: Vec<_> = products.into_iter().enumerate().collect();
    let first = SHAPES.iter().map(move |shape| (shape, every));
    let more = if quick { &[] } else { MORE_SHAPES };
    let shapes = first.chain(more.iter().map(|shape| (shape, 4)));
    let pairs = shapes.enumerate().flat_map(move |(i, (shape, every))| {
        let products = products.clone().into_iter();
        let pairs = products.map(move |(j, product)| (i + j, shape, product));
        pairs.filter(move |(n, ..)| n % every == 0)
    });
    pairs.map(
        |(n, &(rows, cols, batch), (layout, skip, precision, format))| {
            let case = Case::new(rows, cols, batch, format, n % 2 == 1);
            case.skipping(layout, skip).taking(precision)
        },
    )
}

impl Case {
    /// A case with reproducible data in [-1, 1) and a weight pruned by magnitude.
    ///
    /// # Panics
    /// Where `rows · cols` values do not fit in memory.
    pub fn new(rows: usize, cols: usize, batch: usize, format: Format, bias: bool) -> Self {
        let format = format.or_dtype(crate::format::Dtype::F32);
        let mut random = Random(0x9e37_79b9 ^ ((rows * 31 + cols) * 31 + batch) as u64);
        let dense =
            Dense::from_f32(rows, cols, random.vector(rows * cols)).expect("a case fits in memory");
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

    /// The same with a weight that lies so, skipping what is not active.
    #[must_use]
    pub fn skipping(mut self, layout: Layout, skip: Skip) -> Self {
        (self.problem.layout, self.problem.skip) = (layout, skip);
        self
    }

    /// The same with x taken so. As integers every other vector is put on the grid of its steps, where
    /// nothing is lost and the bound is sharp.
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
        // Steps to the largest of a block, and to one.
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
                if !all
                    .iter()
                    .any(|(c, _)| c.to_string() == candidate.to_string())
                {
                    all.push((candidate, legal));
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
        let is_own = |(c, legal): &(Candidate, Result<()>)| {
            legal.is_ok() && c.to_string() == candidate.to_string()
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_format_is_met_in_every_way_that_it_has() {
        for (format, ways) in [
            ("w4g64-real", 7),
            ("w6g16-sym", 3),
            ("w4g16s70", 3),
            ("2:4x8@f16", 2),
            ("2:4", 1),
        ] {
            let format = format
                .parse::<Format>()
                .unwrap()
                .or_dtype(crate::format::Dtype::F32);
            let met = cases_of(format, true).unwrap();
            let mut met: Vec<_> = met
                .map(|case| {
                    assert_eq!(case.problem.format, case.weight.format());
                    let Problem {
                        layout,
                        skip,
                        precision,
                        ..
                    } = case.problem;
                    format!("{layout:?} {skip:?} {precision:?}")
                })
                .collect();
            met.sort();
            met.dedup();
            assert_eq!(met.len(), ways, "{format}: {met:?}");
        }
    }
}
