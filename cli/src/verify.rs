//! `verify`: checks every kernel × candidate × case against the reference on this adapter.

use crate::{
    device,
    error::{Error, Result},
    interrupt, out, progress,
    table::Table,
};
use indicatif::ProgressBar;
use lacuna::{
    Gpu,
    caps::DeviceClass,
    format::Format,
    kernel::{Candidate, KERNELS},
    reference::Comparison,
    verify::{Checks, Filter, Known},
    wgpu,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    panic::resume_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, available_parallelism},
    time::Instant,
};

#[derive(clap::Args)]
pub struct Args {
    /// Leaves out the large and unusual shapes, and most repetitions of a candidate
    #[arg(long)]
    quick: bool,
    /// Kernels to check [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = kernel)]
    kernel: Vec<String>,
    /// Weight formats to check, with every value type if none is named; they need not be in the
    /// built-in table [default: those of the table]
    #[arg(long, value_name = "FORMAT", value_delimiter = ',')]
    format: Vec<Format>,
    /// Only candidates whose invocations share workgroup memory: those that a detector of races judges
    #[arg(long)]
    sharing: bool,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Args {
    fn filter(&self) -> Filter {
        Filter {
            quick: self.quick,
            kernels: self.kernel.clone(),
            formats: self.format.clone(),
            sharing: self.sharing,
        }
    }
}

/// The name of a kernel.
fn kernel(name: &str) -> Result<String, String> {
    let names: Vec<_> = KERNELS.iter().map(|k| k.name()).collect();
    if names.contains(&name) {
        return Ok(name.into());
    }
    Err(format!("the kernels are {}", names.join(", ")))
}

/// The results of one kernel.
#[derive(Serialize, Default)]
struct Kernel {
    candidates: BTreeSet<String>,
    run: usize,
    failed: usize,
    skipped: usize,
    worst_error_over_bound: f64,
    /// Why candidates were skipped, and how often.
    reasons: BTreeMap<String, usize>,
}

#[derive(Serialize)]
struct Failure {
    candidate: String,
    problem: String,
    reason: String,
}

#[derive(Serialize)]
struct Report {
    tool: &'static str,
    version: &'static str,
    adapter: device::Adapter,
    quick: bool,
    seconds: f64,
    cases: usize,
    run: usize,
    failed: usize,
    skipped: usize,
    worst_error_over_bound: f64,
    kernels: BTreeMap<&'static str, Kernel>,
    failures: Vec<Failure>,
}

impl Report {
    fn record(&mut self, known: &Known, candidate: Candidate, outcome: lacuna::Result<Comparison>) {
        let kernel = self.kernels.entry(candidate.kernel.name()).or_default();
        kernel.run += 1;
        kernel.candidates.insert(candidate.config.to_string());
        let reason = match outcome {
            Ok(comparison) => {
                let worst = &mut kernel.worst_error_over_bound;
                *worst = worst.max(comparison.error_over_bound);
                if comparison.passes() {
                    return;
                }
                format!(
                    "error over bound {:.3} at element {}, NMSE {:.1e}",
                    comparison.error_over_bound, comparison.worst, comparison.nmse
                )
            }
            Err(e) => e.to_string(),
        };
        kernel.failed += 1;
        self.failures.push(Failure {
            candidate: candidate.to_string(),
            problem: known.case.problem.to_string(),
            reason,
        });
    }

    fn skip(&mut self, candidate: Candidate, why: &lacuna::Error) {
        let kernel = self.kernels.entry(candidate.kernel.name()).or_default();
        kernel.skipped += 1;
        *kernel.reasons.entry(class_of(why)).or_default() += 1;
    }
}

/// State that the workers share.
struct Shared {
    checks: Checks,
    report: Report,
    spinner: ProgressBar,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks before a device is replaced by a new one: pipelines stay in memory as long as their device,
/// and on software adapters each takes half a megabyte.
const PER_DEVICE: usize = 512;

/// Products of more vectors than this are checked one at a time: each may take thousands of launches, for
/// which a software driver maps memory, and it crashes if the system refuses more.
const MANY_VECTORS: usize = 1000;

/// Held while such a product is checked.
static MANY: Mutex<()> = Mutex::new(());

/// Takes checks from the list until none is left.
fn work(mut gpu: Gpu, device: &device::Args, shared: &Mutex<Shared>) -> Result<()> {
    for n in 1.. {
        interrupt::check()?;
        if n % PER_DEVICE == 0 {
            gpu = device::open(device)?;
        }
        let next = {
            let Shared {
                checks,
                report,
                spinner,
            } = &mut *lock(shared);
            let next = checks.next(|candidate, why| report.skip(candidate, &why))?;
            if let Some((known, _)) = &next {
                spinner.set_message(known.case.problem.to_string());
                spinner.inc(1);
            }
            next
        };
        let Some((known, candidate)) = next else {
            return Ok(());
        };
        log::debug!("{candidate}: {}", known.case.problem);
        let many = known.case.problem.batch > MANY_VECTORS;
        let alone = many.then(|| MANY.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = known.case.check(&gpu, candidate, &known.truth);
        drop(alone);
        // This device can run nothing more.
        if let Err(e @ (lacuna::Error::DeviceLost(_) | lacuna::Error::Timeout(_))) = outcome {
            return Err(e.into());
        }
        lock(shared).report.record(&known, candidate, outcome);
    }
    Ok(())
}

/// One device per core on software adapters of Vulkan, which compile and run shaders on the cores, as a
/// device compiles only one shader at a time; elsewhere a single device.
fn devices(device: &device::Args) -> Result<Vec<Gpu>> {
    let gpu = device::open(device)?;
    let cores = match (gpu.caps().class, gpu.info().backend) {
        (DeviceClass::Cpu, wgpu::Backend::Vulkan) => available_parallelism().map_or(1, usize::from),
        _ => 1,
    };
    let more = (1..cores).map(|_| device::open(device));
    std::iter::once(Ok(gpu)).chain(more).collect()
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let gpus = devices(device)?;
    let begin = Instant::now();
    let shared = Mutex::new(Shared {
        checks: Checks::new(gpus[0].caps(), args.filter())?,
        report: Report {
            tool: "lacuna",
            version: env!("CARGO_PKG_VERSION"),
            adapter: (&gpus[0].info()).into(),
            quick: args.quick,
            seconds: 0.0,
            cases: 0,
            run: 0,
            failed: 0,
            skipped: 0,
            worst_error_over_bound: 0.0,
            kernels: BTreeMap::new(),
            failures: vec![],
        },
        spinner: progress::spinner(),
    });
    let worker = |gpu| {
        let outcome = work(gpu, device, &shared);
        if outcome.is_err() {
            lock(&shared).checks.stop();
        }
        outcome
    };
    thread::scope(|scope| {
        let spawn = |gpu| scope.spawn(|| worker(gpu));
        let workers: Vec<_> = gpus.into_iter().map(spawn).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|e| resume_unwind(e)))
    })?;
    let Shared {
        checks,
        mut report,
        spinner,
    } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    spinner.finish_and_clear();
    report.seconds = begin.elapsed().as_secs_f64();
    report.cases = checks.count;
    for kernel in report.kernels.values() {
        report.run += kernel.run;
        report.failed += kernel.failed;
        report.skipped += kernel.skipped;
        report.worst_error_over_bound = report
            .worst_error_over_bound
            .max(kernel.worst_error_over_bound);
    }
    if args.json {
        out::json(&report)?;
    } else {
        out::write(&text(&report))?;
    }
    match report.failed {
        0 if report.run > 0 => Ok(()),
        0 => Err(Error::Check(
            "no such kernel can run on this adapter".into(),
        )),
        failed => Err(Error::Check(format!(
            "{failed} of {} checks failed",
            report.run
        ))),
    }
}

/// The kind of a refusal, without the figures of the case.
fn class_of(why: &lacuna::Error) -> String {
    match why {
        lacuna::Error::Limit { what, .. } => format!("{what} past the limit"),
        lacuna::Error::MissingFeature { feature, .. } => format!("no feature {feature}"),
        lacuna::Error::Shape { what, .. } => format!("{what} of another size"),
        other => crate::error::one_line(&other.to_string()),
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::new([
        "kernel",
        "candidates",
        "run",
        "failed",
        "skipped",
        "worst error / bound",
    ]);
    for (name, kernel) in &report.kernels {
        table.row([
            (*name).into(),
            kernel.candidates.len().to_string(),
            kernel.run.to_string(),
            kernel.failed.to_string(),
            kernel.skipped.to_string(),
            format!("{:.3}", kernel.worst_error_over_bound),
        ]);
    }
    let mut text = format!("{}\n\n{}\n", report.adapter, table.text());
    for (name, kernel) in &report.kernels {
        for (reason, count) in &kernel.reasons {
            let _ = writeln!(text, "skipped {count} x {name}: {reason}");
        }
    }
    for Failure {
        candidate,
        problem,
        reason,
    } in &report.failures
    {
        let reason = crate::error::one_line(reason);
        let _ = writeln!(text, "FAILED {candidate}, {problem}: {reason}");
    }
    let Report {
        cases,
        run,
        failed,
        skipped,
        seconds,
        ..
    } = report;
    text + &format!(
        "{cases} cases: {run} checks, {failed} failed, {skipped} candidates skipped, {seconds:.1} s\n"
    )
}
