//! `verify`: every kernel × candidate × case against the reference, on this adapter.

use crate::{
    device,
    error::{Error, Result},
    interrupt, out, progress,
    table::Table,
};
use lacuna::verify::cases;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Instant,
};

#[derive(clap::Args)]
pub struct Args {
    /// Leaves out the large and unusual shapes
    #[arg(long)]
    quick: bool,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What became of one kernel.
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

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let gpu = device::open(device)?;
    let begin = Instant::now();
    let mut report = Report {
        tool: "lacuna",
        version: env!("CARGO_PKG_VERSION"),
        adapter: (&gpu.info()).into(),
        quick: args.quick,
        seconds: 0.0,
        cases: 0,
        run: 0,
        failed: 0,
        skipped: 0,
        worst_error_over_bound: 0.0,
        kernels: BTreeMap::new(),
        failures: vec![],
    };
    let spinner = progress::spinner();
    for case in cases(args.quick) {
        interrupt::check()?;
        spinner.set_message(case.problem.to_string());
        let truth = case.reference()?;
        report.cases += 1;
        for (candidate, legal) in case.survey(gpu.caps())? {
            interrupt::check()?;
            let kernel = report.kernels.entry(candidate.kernel.name()).or_default();
            if let Err(why) = legal {
                kernel.skipped += 1;
                *kernel.reasons.entry(class_of(&why)).or_default() += 1;
                continue;
            }
            kernel.run += 1;
            kernel.candidates.insert(candidate.config.to_string());
            spinner.inc(1);
            log::debug!("{candidate}: {}", case.problem);
            let reason = match case.check(&gpu, candidate, &truth) {
                Ok(comparison) => {
                    let worst = &mut kernel.worst_error_over_bound;
                    *worst = worst.max(comparison.error_over_bound);
                    if comparison.passes() {
                        continue;
                    }
                    format!(
                        "error over bound {:.3} at element {}, NMSE {:.1e}",
                        comparison.error_over_bound, comparison.worst, comparison.nmse
                    )
                }
                // Nothing runs on this device any more.
                Err(e @ (lacuna::Error::DeviceLost(_) | lacuna::Error::Timeout(_))) => {
                    return Err(e.into());
                }
                Err(e) => e.to_string(),
            };
            kernel.failed += 1;
            report.failures.push(Failure {
                candidate: candidate.to_string(),
                problem: case.problem.to_string(),
                reason,
            });
        }
    }
    spinner.finish_and_clear();
    report.seconds = begin.elapsed().as_secs_f64();
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
        0 => Err(Error::Check("no kernel can run on this adapter".into())),
        failed => Err(Error::Check(format!(
            "{failed} of {} checks failed",
            report.run
        ))),
    }
}

/// The kind of a refusal, without the numbers of the case.
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
