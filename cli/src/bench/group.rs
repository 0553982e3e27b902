//! One shape and batch: every format side by side, round by round.

use super::{
    Args, Cache, machine,
    rotation::{self, Need, Rotation},
    row::{Row, percentile},
    subject::{Refusal, Subject},
};
use crate::{
    error::{Error, Result},
    interrupt,
};
use lacuna::{
    Gpu, Tensor, Weight,
    caps::DeviceClass,
    format::{Dtype, Format, Matrix},
    kernel::{self, Candidate, Layout, Problem, Skip},
    reference::Sampled,
    verify::Random,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Rounds that decide which dense candidate is the baseline.
const TRIAL_ROUNDS: usize = 9;
/// Rounds before the first that counts last this long on a GPU. It idles while the host
/// compresses weights, and then runs at a fifth of its clock: an H100 took twice as long for
/// dense products and four times as long for sparse ones.
const WARM_UP: Duration = Duration::from_secs(1);
/// Dense candidates slower than the fastest by this much at first sight are not tried on.
const TRIAL_MARGIN: f64 = 1.5;

/// What stays the same over all groups.
pub struct Bench<'a> {
    pub gpu: &'a Gpu,
    pub args: &'a Args,
    pub timestamps: bool,
    pub copy_gb_per_s: f64,
}

/// A weight in all formats of the run.
pub struct Formats {
    /// Its name, where it is from a file.
    pub tensor: Option<String>,
    /// Its rows and columns.
    pub shape: (usize, usize),
    /// Every format asked for, and the dense ones they are compared with.
    pub weights: Vec<(Format, Matrix)>,
    /// Those asked for.
    pub asked: Vec<Format>,
}

/// A weight of the group in one format, and its copies on the device.
struct Entry<'a> {
    weight: &'a Matrix,
    truth: Sampled,
    copies: Vec<Weight>,
    /// Samples taken so far.
    turn: usize,
}

/// One product in every format.
pub struct Group<'a> {
    bench: &'a Bench<'a>,
    layer: &'a Formats,
    x: Tensor,
    entries: BTreeMap<String, Entry<'a>>,
    /// The fastest dense candidate of each value type.
    baselines: BTreeMap<&'static str, Candidate>,
    refused: Vec<Row>,
}

/// Measures one product with `batch` vectors in all formats of `layer`.
pub fn measure(bench: &Bench<'_>, layer: &Formats, batch: usize) -> Result<Vec<Row>> {
    let cols = layer.shape.1;
    let x = Random(batch as u64 + 1).vector(batch * cols);
    let mut group = Group {
        bench,
        layer,
        x: bench.gpu.tensor_from(batch, cols, &x)?,
        entries: BTreeMap::new(),
        baselines: BTreeMap::new(),
        refused: vec![],
    };
    for (format, weight) in &layer.weights {
        interrupt::check()?;
        let Some(copy) = group.own(*format, None, bench.gpu.upload(weight).map_err(Error::from))?
        else {
            continue;
        };
        let entry = Entry {
            weight,
            truth: Sampled::new(weight, &x, batch)?,
            copies: vec![copy],
            turn: 0,
        };
        group.entries.insert(format.to_string(), entry);
    }
    let mut subjects = vec![];
    for (format, _) in &layer.weights {
        if let Format::Dense(dtype) = *format {
            subjects.extend(group.baseline(dtype)?);
        }
    }
    for &format in &layer.asked {
        subjects.extend(group.asked(format)?);
    }
    let result = group.compete(&mut subjects, bench.args.rounds)?;
    group.rows(&subjects, &result)
}

impl Group<'_> {
    fn problem(&self, format: Format) -> Problem {
        let (rows, cols) = self.layer.shape;
        Problem {
            rows,
            cols,
            batch: self.x.batch(),
            format,
            bias: false,
            layout: Layout::Rows,
            skip: Skip::Nothing,
        }
    }

    fn blank(&self, format: Format, candidate: Option<Candidate>) -> Row {
        let mut row = blank(self.bench, self.layer, format, self.x.batch());
        row.candidate = candidate.map(|c| c.to_string());
        row
    }

    /// Takes a failure that concerns one format or candidate down as a row; one that
    /// concerns the device or the user ends the bench.
    fn own<T>(
        &mut self,
        format: Format,
        candidate: Option<Candidate>,
        result: Result<T>,
    ) -> Result<Option<T>> {
        use lacuna::Error as E;
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(e) => e,
        };
        let fatal = !matches!(
            error,
            Error::Engine(
                E::OutOfMemory { .. }
                    | E::Limit { .. }
                    | E::NoKernel { .. }
                    | E::Kernel { .. }
                    | E::Gpu { .. }
            )
        );
        if fatal {
            return Err(error);
        }
        let mut row = self.blank(format, candidate);
        row.reason = Some(crate::error::one_line(&error.to_string()));
        row.wrong = matches!(error, Error::Engine(E::Kernel { .. } | E::Gpu { .. }));
        self.refused.push(row);
        Ok(None)
    }

    /// Tries candidates out; those that fail become rows.
    fn try_out(&mut self, format: Format, candidates: &[Candidate]) -> Result<Vec<Subject>> {
        let mut ready = vec![];
        for &candidate in candidates {
            interrupt::check()?;
            let Some(entry) = self.entries.get(&format.to_string()) else {
                continue;
            };
            let tried = Subject::try_out(
                self.bench.gpu,
                candidate,
                &entry.copies[0],
                &self.x,
                &entry.truth,
            );
            match self.own(format, Some(candidate), tried)? {
                None => {}
                Some(Ok(subject)) => ready.push(subject),
                Some(Err(Refusal { reason, wrong })) => {
                    let mut row = self.blank(format, Some(candidate));
                    (row.reason, row.wrong) = (Some(reason), wrong);
                    self.refused.push(row);
                }
            }
        }
        Ok(ready)
    }

    /// The fastest dense candidate of `dtype`: sparse must beat the best, not the default.
    fn baseline(&mut self, dtype: Dtype) -> Result<Option<Subject>> {
        let format = Format::Dense(dtype);
        let legal = kernel::candidates(&self.problem(format), self.bench.gpu.caps());
        let Some(legal) = self.own(format, None, legal.map_err(Error::from))? else {
            return Ok(None);
        };
        let mut tried = self.try_out(format, &legal)?;
        let fastest = tried
            .iter()
            .map(|s| s.seconds)
            .fold(f64::INFINITY, f64::min);
        tried.retain(|s| s.seconds <= fastest * TRIAL_MARGIN);
        if tried.len() > 1 {
            self.compete(&mut tried, TRIAL_ROUNDS)?;
        }
        let median = |s: &Subject| percentile(&s.samples, 0.5).unwrap_or(s.seconds);
        let best = tried
            .into_iter()
            .min_by(|a, b| median(a).total_cmp(&median(b)));
        if let Some(best) = &best {
            self.baselines.insert(dtype.name(), best.candidate);
        }
        Ok(best)
    }

    /// The candidates of `format` that the arguments name, less the baseline.
    fn asked(&mut self, format: Format) -> Result<Vec<Subject>> {
        let legal = kernel::candidates(&self.problem(format), self.bench.gpu.caps());
        let Some(mut legal) = self.own(format, None, legal.map_err(Error::from))? else {
            return Ok(vec![]);
        };
        if let Some(name) = &self.bench.args.candidate {
            legal.retain(|c| c.to_string().contains(name.as_str()));
            if legal.is_empty() {
                let mut row = self.blank(format, None);
                row.reason = Some(format!("no legal candidate is called {name}"));
                self.refused.push(row);
            }
        } else if !self.bench.args.all_candidates {
            legal.truncate(1);
        }
        legal.retain(|c| !self.is_baseline(format, *c));
        self.try_out(format, &legal)
    }

    fn is_baseline(&self, format: Format, candidate: Candidate) -> bool {
        let Format::Dense(dtype) = format else {
            return false;
        };
        let baseline = self.baselines.get(dtype.name());
        baseline.is_some_and(|b| b.to_string() == candidate.to_string())
    }

    /// Times `subjects` against each other; how each weight was rotated.
    fn compete(
        &mut self,
        subjects: &mut [Subject],
        rounds: usize,
    ) -> Result<BTreeMap<String, Rotation>> {
        let gpu = self.bench.gpu;
        let mut names: Vec<String> = subjects.iter().map(|s| s.format.to_string()).collect();
        names.sort();
        names.dedup();
        let need = |name: &String| {
            let of = || subjects.iter().filter(|s| s.format.to_string() == *name);
            Need {
                bytes: self.entries[name].copies[0].bytes(),
                subjects: of().count(),
                seconds: of().map(|s| s.seconds).fold(f64::INFINITY, f64::min),
                passes: of().map(|s| s.passes).max().unwrap_or(1),
            }
        };
        let needs: Vec<Need> = names.iter().map(need).collect();
        for entry in self.entries.values_mut() {
            entry.copies.truncate(1);
            entry.turn = 0;
        }
        // Dropped buffers go when the device is asked.
        gpu.wait()?;
        let rotations = match self.bench.args.cache {
            Cache::Hot => rotation::hot(&needs),
            Cache::Cold => rotation::cold(
                &needs,
                machine::cold_bytes(gpu),
                machine::memory_budget(gpu),
            ),
        };
        let mut rotations: BTreeMap<String, Rotation> = names.into_iter().zip(rotations).collect();
        for (name, rotation) in &mut rotations {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            while entry.copies.len() < rotation.copies {
                interrupt::check()?;
                match gpu.upload(entry.weight) {
                    Ok(copy) => entry.copies.push(copy),
                    // Fewer copies than the budget promised: less cold, and said so.
                    Err(lacuna::Error::OutOfMemory { .. }) => {
                        rotation.shrink_to(entry.copies.len());
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        for subject in &mut *subjects {
            let name = subject.format.to_string();
            let copies = &self.entries[&name].copies;
            subject.arm(
                gpu,
                copies,
                &self.x,
                rotations[&name],
                self.bench.timestamps,
            )?;
        }
        let warm_up = match gpu.caps().class {
            DeviceClass::Gpu => WARM_UP,
            DeviceClass::Cpu => Duration::ZERO,
        };
        let begin = Instant::now();
        self.round(subjects, false)?;
        while begin.elapsed() < warm_up {
            self.round(subjects, false)?;
        }
        for _ in 0..rounds {
            self.round(subjects, true)?;
        }
        Ok(rotations)
    }

    /// One sample of each subject.
    fn round(&mut self, subjects: &mut [Subject], counts: bool) -> Result<()> {
        for subject in subjects {
            interrupt::check()?;
            if let Some(entry) = self.entries.get_mut(&subject.format.to_string()) {
                subject.sample(self.bench.gpu, entry.turn, counts)?;
                entry.turn += 1;
            }
        }
        Ok(())
    }

    fn rows(
        mut self,
        subjects: &[Subject],
        rotations: &BTreeMap<String, Rotation>,
    ) -> Result<Vec<Row>> {
        self.settle(subjects);
        let mut rows = std::mem::take(&mut self.refused);
        for subject in subjects {
            let format = subject.format;
            let mut row = self.blank(format, Some(subject.candidate));
            row.baseline = self.is_baseline(format, subject.candidate);
            row.error_over_bound = Some(subject.error_over_bound);
            if self.bench.args.cache == Cache::Cold && !rotations[&format.to_string()].cold {
                row.cache = "cold(partial)";
            }
            if subject.still_right(self.bench.gpu)? {
                self.numbers(&mut row, subject, subjects);
            } else {
                row.wrong = true;
                row.reason = Some(
                    "check failed: the timed runs gave other bits than the checked one".into(),
                );
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The trial before the run may have been disturbed: of the dense candidates that ran,
    /// the one whose median is least is the baseline.
    fn settle(&mut self, subjects: &[Subject]) {
        let median = |s: &Subject| percentile(&s.samples, 0.5).unwrap_or(f64::INFINITY);
        for dtype in Dtype::ALL {
            let dense = subjects.iter().filter(|s| s.format == Format::Dense(dtype));
            if let Some(best) = dense.min_by(|a, b| median(a).total_cmp(&median(b))) {
                self.baselines.insert(dtype.name(), best.candidate);
            }
        }
    }

    fn numbers(&self, row: &mut Row, subject: &Subject, subjects: &[Subject]) {
        let us = |p| percentile(&subject.samples, p).map(|s| s * 1e6);
        (row.median_us, row.p10_us, row.p90_us) = (us(0.5), us(0.1), us(0.9));
        row.samples_us = subject.samples.iter().map(|s| s * 1e6).collect();
        let weight = self.entries[&row.format].weight;
        let batch = row.batch as f64;
        let bytes =
            weight.stored_bytes() as u64 + self.x.bytes() + 4 * (row.rows * row.batch) as u64;
        row.bytes = Some(bytes);
        // A clock too coarse for the product says 0.
        let per_ns = |amount: f64| {
            row.median_us
                .filter(|&us| us > 0.0)
                .map(|us| amount / us / 1e3)
        };
        row.gb_per_s = per_ns(bytes as f64);
        row.percent_of_copy = row.gb_per_s.map(|g| 100.0 * g / row.copy_gb_per_s);
        row.gflop_per_s = per_ns(2.0 * stored(weight) as f64 * batch);
        row.gflop_per_s_dense = per_ns(2.0 * row.rows as f64 * row.cols as f64 * batch);
        if row.gb_per_s.is_none() {
            row.reason = Some("the clock is too coarse for so short a product".into());
        }
        let dtype = super::value_type(subject.format);
        let dense = subjects
            .iter()
            .find(|s| s.format == Format::Dense(dtype) && self.is_baseline(s.format, s.candidate));
        match dense {
            None => {
                row.reason = Some(format!(
                    "x_dense: no dense {dtype} candidate could be timed"
                ));
            }
            Some(dense) => {
                row.dense_candidate = Some(dense.candidate.to_string());
                let pairs = dense.samples.iter().zip(&subject.samples);
                let ratios: Vec<f64> = pairs
                    .map(|(d, s)| d / s)
                    .filter(|r| r.is_finite())
                    .collect();
                row.x_dense = percentile(&ratios, 0.5);
            }
        }
    }
}

/// A row without numbers.
pub fn blank(bench: &Bench<'_>, layer: &Formats, format: Format, batch: usize) -> Row {
    Row {
        op: "linear",
        tensor: layer.tensor.clone(),
        format: format.to_string(),
        rows: layer.shape.0,
        cols: layer.shape.1,
        batch,
        cache: bench.args.cache.name(),
        copy_gb_per_s: bench.copy_gb_per_s,
        timer: if bench.timestamps {
            "timestamp"
        } else {
            "wall"
        },
        ..Row::default()
    }
}

/// Weights that are stored and used.
fn stored(weight: &Matrix) -> usize {
    match weight {
        Matrix::Dense(w) => w.values().len(),
        w => (0..w.rows()).map(|row| w.entries(row).count()).sum(),
    }
}
