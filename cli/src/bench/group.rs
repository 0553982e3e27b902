//! One shape and batch: every format side by side, round by round.

mod rows;

use super::{
    Args, Cache, Op, baseline_of, machine,
    product::Product,
    rotation::{self, Need, Rotation},
    row::{Row, percentile},
    subject::{Key, Refusal, Subject},
};
use crate::{
    error::{Error, Result},
    interrupt,
};
use lacuna::{
    Gpu, PlanBuilder, Tensor, Weight,
    format::{Format, Matrix, Precision},
    kernel::{Candidate, Layout, Packed, Problem},
    verify::Random,
};
use std::{collections::BTreeMap, thread, time::Instant};

/// Rounds that decide which dense candidate is the baseline.
pub const TRIAL_ROUNDS: usize = 9;
/// Candidates that are this many times slower than the fastest in a first estimate are not timed.
const TRIAL_MARGIN: f64 = 1.5;

/// What stays the same over all groups.
pub struct Bench<'a> {
    pub gpu: &'a Gpu,
    pub args: &'a Args,
    pub timestamps: bool,
    pub copy_gb_per_s: f64,
    pub floor: Floor,
}

/// The lower bound on any product's time: bytes over bandwidth, or operations over the peak rate.
pub struct Floor {
    /// Bandwidth of a plain read loop where the device is the processor, of copying elsewhere.
    pub gb_per_s: f64,
    pub gflop_per_s: f64,
}

impl Floor {
    fn us(&self, bytes: f64, operations: f64) -> f64 {
        (bytes / self.gb_per_s).max(operations / self.gflop_per_s) / 1e3
    }
}

/// A weight in all formats of the run.
pub struct Formats {
    /// Its name, if it comes from a file.
    pub tensor: Option<String>,
    /// Its rows and columns.
    pub shape: (usize, usize),
    /// The weight in every requested format, and in the dense ones these are compared with.
    pub weights: Vec<(Format, Matrix)>,
    /// The requested formats.
    pub asked: Vec<Format>,
}

/// The weight in one format and layout, and its copies on the device.
struct Entry<'a> {
    weight: &'a Matrix,
    packed: Packed,
    copies: Vec<Weight>,
    /// Samples taken so far.
    turn: usize,
}

/// One product in every format.
pub struct Group<'a> {
    bench: &'a Bench<'a>,
    layer: &'a Formats,
    x: Tensor,
    values: Vec<f32>,
    entries: BTreeMap<Key, Entry<'a>>,
    /// For each format that others are compared with, its fastest candidate.
    baselines: BTreeMap<String, Candidate>,
    refused: Vec<Row>,
}

/// Measures one product with `batch` vectors in all formats of `layer`.
pub fn measure(bench: &Bench<'_>, layer: &Formats, batch: usize) -> Result<Vec<Row>> {
    let op = bench.args.op;
    let mut group = Group::new(bench, layer, batch)?;
    let mut subjects = vec![];
    for (format, _) in &layer.weights {
        let is_baseline = |f: &Format| baseline_of(op, *f) == *format;
        if layer.asked.iter().any(is_baseline) {
            subjects.extend(group.baseline(*format)?);
        }
    }
    for &format in &layer.asked {
        // A masked product writes its result into its list of active channels, so each share has its own.
        let products: Vec<Product> = match op {
            Op::Linear => {
                let asked = Precision::from(bench.args.activations);
                let changed = Some(asked).filter(|p| p.changes(format));
                let all = [Precision::F32].into_iter().chain(changed);
                all.map(Product::whole).collect()
            }
            Op::Masked | Op::InputSparse => {
                let active = bench.args.active.iter();
                active.map(|p| group.skipping(*p)).collect::<Result<_>>()?
            }
        };
        for product in products {
            subjects.extend(group.asked(format, &product)?);
        }
    }
    let result = group.compete(&mut subjects, bench.args.rounds)?;
    group.rows(&subjects, &result)
}

impl<'a> Group<'a> {
    /// Uploads every format of `layer` in the layouts that the operation needs.
    pub fn new(bench: &'a Bench<'a>, layer: &'a Formats, batch: usize) -> Result<Self> {
        let cols = layer.shape.1;
        let x = Random(batch as u64 + 1).vector(batch * cols);
        let mut group = Self {
            bench,
            layer,
            x: bench.gpu.tensor_from(batch, cols, &x)?,
            values: x,
            entries: BTreeMap::new(),
            baselines: BTreeMap::new(),
            refused: vec![],
        };
        for (format, weight) in &layer.weights {
            group.enter(Layout::Rows, *format, weight)?;
            if bench.args.op == Op::InputSparse {
                group.enter(Layout::Bands, *format, weight)?;
            }
        }
        Ok(group)
    }

    /// The operation's product with `percent` of its rows or columns active.
    pub fn skipping(&self, percent: u8) -> Result<Product> {
        let (Bench { gpu, args, .. }, x) = (self.bench, &self.values);
        let shape = self.layer.shape;
        Product::skipping(gpu, args.op.skip(), percent, shape, self.x.batch(), x)
    }

    /// The arguments of the run.
    pub const fn args(&self) -> &Args {
        self.bench.args
    }

    /// Every legal candidate, the default first.
    pub fn legal(&mut self, format: Format, product: &Product) -> Result<Vec<Candidate>> {
        let gpu = self.bench.gpu;
        let legal = gpu
            .tuning()
            .candidates(&self.problem(format, product), gpu.caps());
        Ok(self
            .own(format, None, legal.map_err(Error::from))?
            .unwrap_or_default())
    }

    /// Puts the weight on the device in one format and layout.
    fn enter(&mut self, layout: Layout, format: Format, weight: &'a Matrix) -> Result<()> {
        interrupt::check()?;
        let gpu = self.bench.gpu;
        let packed = Packed::new(weight, layout, gpu.caps());
        let uploaded = packed.and_then(|packed| Ok((gpu.upload_packed(&packed)?, packed)));
        if let Some((copy, packed)) = self.own(format, None, uploaded.map_err(Error::from))? {
            let entry = Entry {
                weight,
                packed,
                copies: vec![copy],
                turn: 0,
            };
            self.entries.insert((format.to_string(), layout), entry);
        }
        Ok(())
    }

    /// The product in the engine's terms.
    pub fn problem(&self, format: Format, product: &Product) -> Problem {
        let (rows, cols) = self.layer.shape;
        Problem {
            rows,
            cols,
            batch: self.x.batch(),
            format,
            bias: false,
            layout: product.layout,
            skip: product.skip,
            precision: product.precision,
        }
    }

    fn blank(&self, format: Format, candidate: Option<Candidate>) -> Row {
        let mut row = blank(self.bench, self.layer, format, self.x.batch());
        row.candidate = candidate.map(|c| c.to_string());
        row
    }

    /// Records a failure that concerns one format or candidate as a row; any other failure, such as a
    /// lost device or an interrupt, ends the bench.
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
                    | E::Unfit { .. }
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

    /// Runs and checks each candidate once; those that fail become rows.
    pub fn try_out(
        &mut self,
        format: Format,
        product: &Product,
        candidates: &[Candidate],
    ) -> Result<Vec<Subject>> {
        let key = (format.to_string(), product.layout);
        let Some(entry) = self.entries.get(&key) else {
            return Ok(vec![]);
        };
        let truth = product.truth(entry.weight, &self.values, self.x.batch())?;
        // Compiling all takes a slow adapter minutes: an interruption waits for one pipeline a core.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for some in candidates.chunks(cores) {
            interrupt::check()?;
            self.compile(product, some, &entry.copies[0]);
        }
        let mut ready = vec![];
        for &candidate in candidates {
            interrupt::check()?;
            let weight = &self.entries[&key].copies[0];
            let what = (product, candidate);
            let tried = Subject::try_out(self.bench.gpu, what, weight, &self.x, &truth);
            match self.own(format, Some(candidate), tried)? {
                None => {}
                Some(Ok(subject)) => ready.push(subject),
                Some(Err(Refusal { reason, wrong })) => {
                    let mut row = self.blank(format, Some(candidate));
                    (row.reason, row.wrong) = (Some(reason), wrong);
                    row.active = product.share;
                    self.refused.push(row);
                }
            }
        }
        Ok(ready)
    }

    /// Compiles the pipelines of several candidates at once, on all cores. Errors are ignored here: a
    /// candidate that fails reports it when it is tried.
    fn compile(&self, product: &Product, candidates: &[Candidate], weight: &Weight) {
        let gpu = self.bench.gpu;
        let Ok(y) = gpu.tensor(self.x.batch(), weight.rows()) else {
            return;
        };
        let mut builder = PlanBuilder::new(gpu);
        for &candidate in candidates {
            let _ = product.add(&mut builder, candidate, weight, &self.x, &y);
        }
        let _ = builder.build();
    }

    /// The fastest candidate for the whole product: other rows are compared with the best, not with
    /// the default.
    fn baseline(&mut self, format: Format) -> Result<Option<Subject>> {
        let whole = Product::whole(Precision::F32);
        let legal = self.legal(format, &whole)?;
        let best = self
            .contest(format, &whole, &legal, TRIAL_ROUNDS)?
            .into_iter()
            .next();
        if let Some(best) = &best {
            self.baselines.insert(format.to_string(), best.candidate);
        }
        Ok(best)
    }

    /// Times candidates against each other and returns them, fastest first. Those that are far slower
    /// in a first estimate are left out, except the first of `candidates`, which is always timed.
    pub fn contest(
        &mut self,
        format: Format,
        product: &Product,
        candidates: &[Candidate],
        rounds: usize,
    ) -> Result<Vec<Subject>> {
        let mut tried = self.try_out(format, product, candidates)?;
        let seconds = tried.iter().map(|s| s.seconds);
        let fastest = seconds.fold(f64::INFINITY, f64::min);
        let first = candidates.first();
        tried.retain(|s| s.seconds <= fastest * TRIAL_MARGIN || Some(&s.candidate) == first);
        if tried.len() > 1 {
            self.compete(&mut tried, rounds)?;
        }
        let median = |s: &Subject| percentile(&s.samples, 0.5).unwrap_or(s.seconds);
        tried.sort_by(|a, b| median(a).total_cmp(&median(b)));
        Ok(tried)
    }

    /// The candidates of `format` that the arguments select, without the baseline.
    fn asked(&mut self, format: Format, product: &Product) -> Result<Vec<Subject>> {
        let mut legal = self.legal(format, product)?;
        if legal.is_empty() {
            return Ok(vec![]);
        }
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
        legal.retain(|c| !(product.is_plain() && self.is_baseline(format, *c)));
        self.try_out(format, product, &legal)
    }

    fn is_baseline(&self, format: Format, candidate: Candidate) -> bool {
        self.baselines.get(&format.to_string()) == Some(&candidate)
    }

    /// Whether other subjects are compared with this one.
    fn is_baseline_subject(&self, subject: &Subject) -> bool {
        subject.product.is_plain() && self.is_baseline(subject.format, subject.candidate)
    }

    /// Times `subjects` against each other; returns how each weight was rotated.
    pub fn compete(
        &mut self,
        subjects: &mut [Subject],
        rounds: usize,
    ) -> Result<BTreeMap<Key, Rotation>> {
        let gpu = self.bench.gpu;
        let mut names: Vec<Key> = subjects.iter().map(Subject::key).collect();
        names.sort();
        names.dedup();
        let need = |name: &Key| {
            let of = || subjects.iter().filter(|s| s.key() == *name);
            Need {
                bytes: self.entries[name].copies[0].bytes(),
                subjects: of().count(),
                seconds: of().map(|s| s.seconds).fold(f64::INFINITY, f64::min),
            }
        };
        let needs: Vec<Need> = names.iter().map(need).collect();
        for entry in self.entries.values_mut() {
            entry.copies.truncate(1);
            entry.turn = 0;
        }
        // wgpu frees dropped buffers when the device is polled.
        gpu.wait()?;
        let rotations = match self.bench.args.cache {
            Cache::Hot => rotation::hot(&needs),
            Cache::Cold => rotation::cold(
                &needs,
                machine::cold_bytes(gpu),
                machine::memory_budget(gpu),
            ),
        };
        let mut rotations: BTreeMap<Key, Rotation> = names.into_iter().zip(rotations).collect();
        for (name, rotation) in &mut rotations {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            while entry.copies.len() < rotation.copies {
                interrupt::check()?;
                match gpu.upload_packed(&entry.packed) {
                    Ok(copy) => entry.copies.push(copy),
                    // Fewer copies than the budget promised: the row says that it is not wholly cold.
                    Err(lacuna::Error::OutOfMemory { .. }) => {
                        rotation.shrink_to(entry.copies.len());
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        for subject in &mut *subjects {
            let name = subject.key();
            let copies = &self.entries[&name].copies;
            subject.arm(
                gpu,
                copies,
                &self.x,
                rotations[&name],
                self.bench.timestamps,
            )?;
        }
        let begin = Instant::now();
        self.round(subjects, false)?;
        while begin.elapsed() < machine::warm_up(gpu) {
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
            if let Some(entry) = self.entries.get_mut(&subject.key()) {
                subject.sample(self.bench.gpu, entry.turn, counts)?;
                entry.turn += 1;
            }
        }
        Ok(())
    }
}

/// A row without measurements.
pub fn blank(bench: &Bench<'_>, layer: &Formats, format: Format, batch: usize) -> Row {
    Row {
        op: bench.args.op.name(),
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
