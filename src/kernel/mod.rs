//! What to launch, as values: problems, candidates, and the dispatches they become. No device here.
//!
//! A [`Kernel`] turns a [`Problem`] into [`Dispatch`]es in one or more configurations
//! ([`Config`]). [`survey`] lists them all, with the reason where one is not legal on
//! a device; [`candidates`] keeps the legal ones, best guess first.

mod band_gemv;
pub(crate) mod bands;
pub mod compact;
pub mod convert;
mod cut;
mod dispatch;
mod empty;
mod even;
mod gemm_coop;
mod gemm_gather;
mod gemm_lanes;
mod gemm_tiled;
mod gemv;
mod gemv_bytes;
mod gemv_i8;
mod gqs_gemv;
mod gqs_lanes;
mod gqs_rows;
mod gqs_runs;
mod gqs_tiled;
mod grid;
mod held;
pub mod layout;
mod packed;
mod packet;
mod panels;
mod problem;
mod quantize;
mod reader;
mod runs;
mod sum;
mod transpose;
mod variant;

pub(crate) use cut::cut;
pub use dispatch::{Const, Dispatch, Operand, PARAM_WORDS, Role};
pub use grid::fold;
pub use layout::{Layout, PartLayout};
pub use packed::Packed;
pub use problem::{Problem, Skip};
pub use reader::RowReader;

use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::{Dtype, Format, Precision},
};
use std::{borrow::Cow, collections::HashSet, fmt};

/// The numbers that turn a kernel's shader into one candidate.
///
/// Each kernel gives the fields its own meaning, stated in its file, and is right in the configurations that it
/// proposes ([`Kernel::configs`]): of others only some are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Names the way the kernel works, for example `subgroup-quads`.
    pub variant: &'static str,
    /// Invocations of a workgroup.
    pub workgroup: u32,
    /// Rows of y that a workgroup computes.
    pub rows: u32,
    /// Vectors of y that a workgroup computes.
    pub batch: u32,
    /// Words of the weight that a lane takes at a time.
    pub words: u32,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variant,
            workgroup,
            rows,
            batch,
            words,
        } = self;
        write!(f, "{variant}-g{workgroup}-r{rows}-b{batch}-w{words}")
    }
}

impl Config {
    /// Workgroups that compute the rows of `part`.
    fn tiles(&self, part: &PartLayout) -> u64 {
        part.rows.div_ceil(self.rows).into()
    }

    /// Whether the variant cuts work into equal ranges of kept groups.
    fn by_tasks(&self) -> bool {
        self.variant.starts_with("tasks")
    }
}

/// One way to compute a linear product.
pub trait Kernel: Sync {
    /// The kernel's name: the stem of its shader.
    fn name(&self) -> &'static str;

    /// Whether it computes products of weights in `layout` that skip `skip`: by default only whole products of
    /// weights that lie by rows.
    fn serves(&self, layout: Layout, skip: Skip) -> bool {
        (layout, skip) == (Layout::Rows, Skip::Nothing)
    }

    /// Whether it takes activations in `precision`: by default as they are, which [`Precision::I24`] allows too.
    fn takes(&self, precision: Precision) -> bool {
        matches!(precision, Precision::F32 | Precision::I24)
    }

    /// Whether it is made for few vectors, where memory decides and not arithmetic.
    fn for_few(&self) -> bool {
        false
    }

    /// Its place among kernels on devices of `class`: the lowest is tried first, however many vectors there are.
    fn place(&self, _problem: &Problem, _class: DeviceClass) -> u8 {
        1
    }

    /// Configurations for `problem`, the best guess for the class of `caps` first,
    /// legal or not.
    fn configs(&self, problem: &Problem, caps: &Caps) -> Vec<Config>;

    /// The launches of `config` for a problem of at least one vector, row and column; [`Candidate::lower`] takes any.
    ///
    /// # Errors
    /// Where the configuration cannot serve the problem, whatever the device.
    fn lower(
        &self,
        problem: &Problem,
        config: &Config,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>>;
}

/// Every kernel. Tests, benches and the planner iterate over this list.
pub static KERNELS: &[&dyn Kernel] = &[
    &gemv_bytes::GemvBytes,
    &gqs_rows::GqsRows,
    &gemv::Gemv,
    &gemv_i8::GemvI8,
    &band_gemv::BandGemv,
    &gemm_lanes::GemmLanes,
    &gemm_tiled::GemmTiled,
    &gemm_gather::GemmGather,
    &gemm_coop::GemmCoop,
    &gqs_gemv::GqsGemv,
    &gqs_runs::GqsRuns,
    &gqs_lanes::GqsLanes,
    &gqs_tiled::GqsTiled,
];

/// A kernel in one configuration.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// The kernel.
    pub kernel: &'static dyn Kernel,
    /// Its configuration.
    pub config: Config,
}

/// Kernels are told apart by their names.
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        (self.kernel.name(), self.config) == (other.kernel.name(), other.config)
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kernel.name(), self.config)
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Most launches of a candidate: vectors taken in turns may need one each. Drivers keep something for every launch
/// of a plan; Mesa's software driver keeps a mapping, and crashes where Linux grants no more, at some 65 000.
pub(crate) const MOST_LAUNCHES: usize = 20_000;

/// Refuses more than [`MOST_LAUNCHES`], before they are made.
fn check_launches(launches: usize) -> Result<()> {
    if launches <= MOST_LAUNCHES {
        return Ok(());
    }
    Err(Error::Limit {
        what: "launches of a product",
        value: launches as u64,
        limit: MOST_LAUNCHES as u64,
    })
}

impl Candidate {
    /// The launches, each checked against `caps`.
    ///
    /// # Errors
    /// Why the candidate is not legal here.
    pub fn lower(
        &self,
        problem: &Problem,
        parts: &[PartLayout],
        caps: &Caps,
    ) -> Result<Vec<Dispatch>> {
        // Of no vectors or rows nothing is launched, in however many turns; legal is what is for one vector.
        let nothing = problem.batch == 0 || parts.is_empty();
        let problem = &Problem {
            batch: if nothing { 1 } else { problem.batch },
            ..*problem
        };
        let mut dispatches = match problem.cols {
            // With active rows y holds what the sums are multiplied by, and must stay.
            0 if problem.skip != Skip::Rows => empty::dispatches(problem, parts, caps),
            _ => self.kernel.lower(problem, &self.config, parts, caps)?,
        };
        check_launches(dispatches.len())?;
        dispatches.iter().try_for_each(|d| d.fits(caps))?;
        if nothing {
            dispatches.clear();
        }
        Ok(dispatches)
    }

    /// Whether work is cut into equal ranges of kept groups, which pays where rows keep very
    /// different numbers of them.
    pub fn is_task_centric(&self) -> bool {
        self.config.by_tasks()
    }
}

/// Every candidate for `problem`, best guess first, with the reason where one is not legal.
///
/// # Errors
/// Where the weight itself cannot be laid out on the device.
pub fn survey(problem: &Problem, caps: &Caps) -> Result<Vec<(Candidate, Result<()>)>> {
    let parts = problem.parts(caps)?;
    let serving = KERNELS.iter().copied();
    let serving = serving.filter(|k| k.takes(problem.precision));
    let serving = serving.filter(|k| k.serves(problem.layout, problem.skip));
    let mut kernels: Vec<&'static dyn Kernel> = serving.collect();
    // In one place few vectors take kernels in the order of `KERNELS`; many, those for few last.
    let many = problem.batch > few_vectors(problem, caps.class);
    kernels.sort_by_key(|k| (k.place(problem, caps.class), many && k.for_few()));
    let all = kernels.into_iter().flat_map(|kernel| {
        let mut configs = kernel.configs(problem, caps);
        // What a shape or a pattern bounds may make one of two.
        let mut seen = HashSet::new();
        configs.retain(|config| seen.insert(*config));
        configs
            .into_iter()
            .map(move |config| Candidate { kernel, config })
    });
    Ok(all
        .map(|c| (c, c.lower(problem, &parts, caps).map(drop)))
        .collect())
}

/// The most vectors for which GEMV, in turns where it must be, beats the kernels of many vectors (measured at
/// 2048 x 2048).
fn few_vectors(problem: &Problem, class: DeviceClass) -> usize {
    if class == DeviceClass::Gpu {
        // Two turns of four vectors beat tiles for 16 on an H100. Other codes are taken one or two vectors a
        // turn, and lose beyond four; the tiles of ragged weights are slow.
        return match problem.format {
            Format::Quantized { quant, .. } if !matches!(quant.bits(), 4 | 8) => 4,
            Format::Gqs { pruning, .. } if pruning.ragged() => 16,
            _ => gemv::MAX_BATCH,
        };
    }
    if problem.precision == Precision::I8 {
        return usize::MAX;
    }
    // Kernels of many vectors gather, or multiply zeros too: the fewer rows share a choice, the longer they take.
    if let Some(pattern) = problem.format.pattern()
        && gemv::picks_windows(problem)
    {
        match (pattern.v(), pattern.n()) {
            (1, 2..) => return 12,
            (1..4, _) => return 10,
            (4..8, _) => return 8,
            _ => {}
        }
    }
    match problem.format {
        Format::Dense(dtype) => match (problem.layout, dtype) {
            (Layout::Rows, Dtype::F32) => 12,
            (Layout::Bands, Dtype::F32) | (Layout::Rows, _) => 8,
            (Layout::Bands, _) => 4,
        },
        Format::Nm { dtype, .. } if dtype.unwrap_or(Dtype::F32) == Dtype::F32 => 8,
        Format::Nm { .. } => 4,
        Format::Quantized { pattern, quant } => match (pattern, quant.bits()) {
            // Codes that straddle words are taken one vector a turn.
            (Some(_), bits) if !bits.is_power_of_two() => 2,
            (Some(_), 4 | 8) => 6,
            (None, 4 | 8) => 12,
            (None, 2) => 8,
            _ => 4,
        },
        // Long groups fill the registers of a lane at two vectors (measured at 16 and 64 columns); the longest,
        // of wide codes, at one.
        Format::Gqs { quant, .. } => match quant.group_cols(problem.cols) {
            128.. if quant.bits() > 6 => 0,
            ..64 => 7,
            _ => 4,
        },
    }
}

/// The legal candidates for `problem`, best guess first.
///
/// # Errors
/// [`Error::NoKernel`] with every reason where none is legal.
pub fn candidates(problem: &Problem, caps: &Caps) -> Result<Vec<Candidate>> {
    let survey = survey(problem, caps)?;
    let legal: Vec<_> = survey
        .iter()
        .filter(|(_, why)| why.is_ok())
        .map(|(c, _)| *c)
        .collect();
    if legal.is_empty() {
        let reasons = rejections(&survey);
        let reasons = match (problem.layout, problem.skip) {
            _ if !reasons.is_empty() => reasons,
            _ if problem.precision == Precision::F16 => {
                "x in f16 meets whole products that lie by rows".into()
            }
            _ if problem.precision == Precision::I8 => {
                "x in 8 bits meets whole products of codes that lie by rows".into()
            }
            (Layout::Rows, _) => "columns are skipped of weights in bands".into(),
            (Layout::Bands, _) => "rows are skipped of weights that lie by rows".into(),
        };
        return Err(Error::NoKernel {
            problem: problem.to_string(),
            reasons,
        });
    }
    Ok(legal)
}

/// Why no candidate is legal: each reason once, behind the candidates that it rules out, if it is not all.
fn rejections(survey: &[(Candidate, Result<()>)]) -> String {
    let mut by_reason: Vec<(String, Vec<String>)> = vec![];
    for (candidate, why) in survey {
        let Err(why) = why else { continue };
        let (reason, name) = (why.to_string(), candidate.to_string());
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => by_reason.push((reason, vec![name])),
        }
    }
    match &by_reason[..] {
        [(reason, _)] => reason.clone(),
        several => several
            .iter()
            .map(|(reason, names)| format!("{}: {reason}", names.join(", ")))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// WGSL that turns a word of stored values into numbers: `PER_WORD` and
/// `decode(word: u32) -> array<f32, PER_WORD>`.
fn decode_fragment(dtype: Dtype) -> Cow<'static, str> {
    match dtype {
        Dtype::F32 => fragment!("decode_f32"),
        Dtype::F16 => fragment!("decode_f16"),
        Dtype::Bf16 => fragment!("decode_bf16"),
    }
}

/// Text of a fragment under `shaders/lib/`.
macro_rules! fragment {
    ($name:literal) => {
        std::borrow::Cow::Borrowed(include_str!(concat!("../../shaders/lib/", $name, ".wgsl")))
    };
}

/// Text of a shader under `shaders/`.
macro_rules! shader {
    ($name:literal) => {
        std::borrow::Cow::Borrowed(include_str!(concat!("../../shaders/", $name, ".wgsl")))
    };
}
use {fragment, shader};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_take_few_vectors_by_what_is_bound_by_memory_and_more_by_tiles() {
        let caps = Caps {
            class: DeviceClass::Gpu,
            max_workgroup_bytes: 48 << 10,
            ..Caps::PORTABLE
        };
        for (problem, expected) in [
            ("w4g16s50 4096x4096 batch 1", "gqs_rows"),
            ("w4g16s50 4096x4096 batch 8, x in 8 bits", "gqs_rows"),
            ("w4g16s50 4096x4096 batch 9", "gemm_tiled"),
            ("w4g16s50-ragged 4096x4096 batch 16", "gqs_gemv"),
            ("w4g16s50-ragged 4096x4096 batch 17", "gqs_tiled"),
            ("w4g128 4096x4096 batch 4, x in 24 bits", "gemv_bytes"),
            ("w4g128 4096x4096 batch 8", "gemv"),
            ("w2g64 4096x4096 batch 8", "gemm_tiled"),
            ("f16 4096x4096 batch 8", "gemv"),
            ("f16 4096x4096 batch 9", "gemm_tiled"),
        ] {
            let problem: Problem = problem.parse().unwrap();
            let best = candidates(&problem, &caps).unwrap()[0];
            assert_eq!(best.kernel.name(), expected, "{problem}: {best}");
        }
    }

    #[test]
    fn matrix_units_take_the_weights_that_f16_serves() {
        let caps = Caps {
            class: DeviceClass::Gpu,
            subgroups: Some(crate::caps::Subgroups { min: 32, max: 32 }),
            cooperative: Some(16),
            max_workgroup_bytes: 48 << 10,
            max_invocations: 1024,
            ..Caps::PORTABLE
        };
        for (format, taken) in [
            ("f16", true),
            ("bf16", true),
            ("w4g128", true),
            ("2:4x16@f16", true),
            ("f32", false),
            ("2:4x16@f32", false),
            ("w4g16s50", true),
            ("w4g16s50-ragged", false),
        ] {
            let problem: Problem = format!("{format} 64x128 batch 64, x in f16")
                .parse()
                .unwrap();
            assert_eq!(Precision::F16.serves(problem.format), taken, "{problem}");
            let found = candidates(&problem, &caps);
            assert_eq!(found.is_ok(), taken, "{problem}: {found:?}");
        }
    }

    #[test]
    fn batches_beyond_all_limits_are_refused_or_empty() {
        let most = usize::MAX;
        let [cpu, gpu] = [DeviceClass::Cpu, DeviceClass::Gpu].map(|class| Caps {
            class,
            ..Caps::PORTABLE
        });
        for shape in [
            "0x0 batch 4294967295",
            "32x0 batch 1000000",
            "1x1 batch 30000000",
            &format!("0x0 batch {most}"),
            &format!("0x1 batch {most}"),
            &format!("1x0 batch {most}"),
            &format!("{most}x1 batch 0"),
            &format!("1x{most} batch 0"),
            &format!("{most}x{most} batch 0"),
            &format!("{most}x{most} batch {most}"),
        ] {
            for format in [
                "f32",
                "2:4x8@f16",
                "w4g32",
                "2:4+w3g32",
                "w4g16s50",
                "w4g16s50-ragged",
            ] {
                for more in ["", ", x in 8 bits", ", x in f16"] {
                    let problem: Problem = format!("{format} {shape}{more}").parse().unwrap();
                    for caps in [&cpu, &gpu] {
                        match survey(&problem, caps) {
                            Ok(_) | Err(Error::Limit { .. }) => {}
                            Err(other) => panic!("{problem}: {other}"),
                        }
                    }
                }
            }
        }
    }
}
