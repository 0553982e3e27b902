//! `tune`: which candidate of each product is the fastest here, and where skipping pays.

use super::{
    Args as BenchArgs, Cache, Op,
    bandwidth::Copier,
    clock, formats,
    group::{Bench, Floor, Group, TRIAL_ROUNDS},
    layers::{Preset, Shape, Source},
    product::Product,
    report::Style,
    row::percentile,
    subject::Subject,
};
use crate::{
    activations::Activations,
    device::{self, tuning},
    error::Result,
    interrupt, out, progress,
    table::Table,
};
use lacuna::{
    Tuning,
    format::{Format, Precision},
    kernel::{Candidate, Skip},
};
use std::path::PathBuf;

/// A candidate replaces the default if it is at least this many times as fast.
const LEAST_GAIN: f64 = 1.03;
/// Percentages active at which skipping is timed; the break-even is interpolated between them.
const SHARES: [u8; 5] = [5, 25, 50, 75, 100];

#[derive(clap::Args)]
pub struct Args {
    /// What to tune [default: all]
    #[arg(long = "op", value_enum, value_delimiter = ',', default_values_t = [Op::Linear, Op::Masked, Op::InputSparse])]
    ops: Vec<Op>,
    /// Shapes of the weights [default: 4096x4096]
    #[arg(long = "shape", value_name = "ROWSxCOLS", value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// The layer shapes of a model
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Numbers of vectors; a result serves all numbers in its range: 1, 2 to 4, 5 to 8, 9 to 16,
    /// 17 to 64, or 65 and more
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,65", value_parser = super::at_least_one)]
    batch: Vec<usize>,
    /// Weight formats
    #[arg(
        long = "format",
        value_name = "FORMAT",
        value_delimiter = ',',
        default_value = "f32,f16,2:4x8@f16,w4g128,w4g64s50"
    )]
    formats: Vec<Format>,
    /// Precisions of activations for --op linear, where formats have such products
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32")]
    activations: Vec<Activations>,
    /// Samples of each candidate
    #[arg(long, value_name = "N", default_value = "15", value_parser = super::at_least_one)]
    rounds: usize,
    /// The table to write or extend [default: that of the adapter in your data folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    /// The products of a weight in `format`.
    fn products(&self, group: &Group<'_>, format: Format) -> Result<Vec<Product>> {
        match group.args().op {
            Op::Linear => {
                let precisions = self.activations.iter().map(|&a| Precision::from(a));
                let served = precisions.filter(|p| *p == Precision::F32 || p.changes(format));
                Ok(served.map(Product::whole).collect())
            }
            Op::Masked | Op::InputSparse => Ok(vec![group.skipping(50)?]),
        }
    }

    /// The arguments of `bench` for the same work.
    fn bench(&self, op: Op) -> BenchArgs {
        BenchArgs {
            op,
            active: SHARES.to_vec(),
            shapes: self.shapes.clone(),
            preset: self.preset,
            batch: self.batch.clone(),
            formats: self.formats.clone(),
            activations: Activations::F32,
            cache: Cache::Cold,
            output: Style::Md,
            json: false,
            rounds: self.rounds,
            unbalanced: false,
            candidate: None,
            all_candidates: true,
            baseline: None,
            fail_above: None,
            weights: None,
            tensors: vec![],
        }
    }
}

pub fn run(args: &Args, device: &device::Args) -> Result<()> {
    let gpu = device::open(device)?.tuned(Tuning::default());
    for activations in &args.activations {
        activations.check(&gpu)?;
    }
    interrupt::defer();
    let path = match &args.output {
        Some(path) => {
            lacuna_io::check_place(path)?;
            path.clone()
        }
        None => tuning::path(&gpu)?,
    };
    let mut tuning = match tuning::read(&path)? {
        Some(known) if tuning::is_of(&known, &gpu) => known,
        _ => tuning::new(&gpu),
    };
    let mut table = Table::new(["product", "default", "fastest", "gain", "kept"]);
    let copier = Copier::new(&gpu)?;
    let timestamps =
        gpu.caps().timestamps && clock::trustworthy(&gpu, &copier.work(&copier.measure()?)?)?;
    drop(copier);
    for &op in &args.ops {
        let bench_args = args.bench(op);
        let (source, layers) = Source::open(&bench_args)?;
        let bench = Bench {
            gpu: &gpu,
            args: &bench_args,
            timestamps,
            // `tune` compares candidates with each other only, never with the device's limits.
            copy_gb_per_s: 0.0,
            floor: Floor {
                gb_per_s: f64::INFINITY,
                gflop_per_s: f64::INFINITY,
            },
        };
        let bar = progress::bar(layers.len() * args.batch.len());
        for layer in &layers {
            let Shape { rows, cols } = layer.shape;
            let formats = formats(layer, &source.dense(layer)?, &bench_args)?;
            for &batch in &args.batch {
                bar.set_message(format!("{} {rows}x{cols} batch {batch}", op.name()));
                let mut group = Group::new(&bench, &formats, batch)?;
                for &format in &formats.asked {
                    for product in args.products(&group, format)? {
                        group.tune(format, &product, &mut tuning, &mut table)?;
                    }
                }
                // Saves after each shape and batch, so that an interrupt loses little.
                tuning::write(&path, &tuning)?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
    }
    out::write(&table.text())?;
    out::write(&format!(
        "\nwritten to {}\n",
        lacuna_io::printable(&path.to_string_lossy())
    ))
}

impl Group<'_> {
    /// Finds the fastest candidate of a product and, if it skips, the break-even share.
    fn tune(
        &mut self,
        format: Format,
        product: &Product,
        tuning: &mut Tuning,
        table: &mut Table,
    ) -> Result<()> {
        let problem = self.problem(format, product);
        let legal = self.legal(format, product)?;
        let ranking = self.contest(format, product, &legal, self.args().rounds)?;
        let (Some(default), Some(fastest)) = (legal.first(), ranking.first()) else {
            table.row([
                problem.to_string(),
                "none".into(),
                String::new(),
                String::new(),
                String::new(),
            ]);
            return Ok(());
        };
        let gains = ranking
            .iter()
            .find(|s| s.candidate == *default)
            .map(|s| ratios(s, fastest));
        let gain = |p| gains.as_ref().and_then(|g| percentile(g, p)).unwrap_or(1.0);
        // Faster by the median, and faster at all in nine rounds of ten.
        let kept = gain(0.5) >= LEAST_GAIN && gain(0.1) > 1.0;
        if kept {
            tuning.prefer(&problem, &fastest.candidate);
        } else {
            tuning.forget(&problem);
        }
        table.row([
            problem.to_string(),
            default.to_string(),
            fastest.candidate.to_string(),
            format!("{:.2}", gain(0.5)),
            if kept { "yes" } else { "no" }.into(),
        ]);
        let best = if kept { fastest.candidate } else { *default };
        if product.skip != Skip::Nothing
            && problem.batch == 1
            && let Some(share) = self.break_even(format, best)?
        {
            tuning.pays_below(&problem, share);
            let pays = format!("up to {:.0} % active", 100.0 * share);
            table.row([
                problem.to_string(),
                "whole".into(),
                pays,
                String::new(),
                "yes".into(),
            ]);
        }
        Ok(())
    }

    /// The active share up to which `candidate` is faster than the fastest whole product.
    fn break_even(&mut self, format: Format, candidate: Candidate) -> Result<Option<f64>> {
        let whole = Product::whole(Precision::F32);
        let legal = self.legal(format, &whole)?;
        let mut subjects = self.contest(format, &whole, &legal, TRIAL_ROUNDS)?;
        subjects.truncate(1);
        if subjects.is_empty() {
            return Ok(None);
        }
        for percent in SHARES {
            let product = self.skipping(percent)?;
            subjects.extend(self.try_out(format, &product, &[candidate])?);
        }
        self.compete(&mut subjects, self.args().rounds)?;
        let (whole, skipping) = subjects.split_at(1);
        let points: Vec<(f64, f64)> = skipping
            .iter()
            .filter_map(|s| Some((s.product.share?, percentile(&ratios(s, &whole[0]), 0.5)?)))
            .collect();
        Ok(crossing(&points))
    }
}

/// The time of `a` over the time of `b`, round by round.
fn ratios(a: &Subject, b: &Subject) -> Vec<f64> {
    let pairs = a.samples.iter().zip(&b.samples);
    pairs
        .map(|(a, b)| a / b)
        .filter(|r| r.is_finite())
        .collect()
}

/// The share at which the relative time reaches 1, interpolated between `points` of
/// `(share, time over that of the whole product)` in ascending order; `None` without points.
fn crossing(points: &[(f64, f64)]) -> Option<f64> {
    let first = points.first()?;
    if first.1 > 1.0 {
        return Some(0.0);
    }
    let over = points.windows(2).find(|pair| pair[1].1 > 1.0);
    Some(over.map_or(1.0, |pair| {
        let [(s, t), (later, slower)] = [pair[0], pair[1]];
        s + (later - s) * (1.0 - t) / (slower - t)
    }))
}

#[cfg(test)]
mod tests {
    use super::crossing;

    #[test]
    fn skipping_pays_until_it_takes_as_long_as_the_whole() {
        assert_eq!(crossing(&[]), None);
        assert_eq!(crossing(&[(0.05, 1.2), (1.0, 3.0)]), Some(0.0));
        assert_eq!(crossing(&[(0.05, 0.1), (1.0, 1.0)]), Some(1.0));
        let share = crossing(&[(0.25, 0.5), (0.5, 0.75), (0.75, 1.25), (1.0, 2.0)]).unwrap();
        assert!((share - 0.625).abs() < 1e-12);
    }
}
