//! Turns the samples of a run into rows, one per subject.

use super::{Cache, Group, Key, Rotation, Row, Subject, baseline_of, percentile};
use crate::error::Result;
use lacuna::format::Matrix;
use std::collections::BTreeMap;

impl Group<'_> {
    pub(super) fn rows(
        mut self,
        subjects: &[Subject],
        rotations: &BTreeMap<Key, Rotation>,
    ) -> Result<Vec<Row>> {
        self.settle(subjects);
        let mut rows = std::mem::take(&mut self.refused);
        for subject in subjects {
            let format = subject.format;
            let mut row = self.blank(format, Some(subject.candidate));
            row.baseline = self.is_baseline_subject(subject);
            row.active = subject.product.share;
            row.error_over_bound = Some(subject.error_over_bound);
            if self.bench.args.cache == Cache::Cold && !rotations[&subject.key()].cold {
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

    /// Chooses the baselines anew, as the trial before the run may have been disturbed: of the plain
    /// candidates that ran, the one with the least median.
    fn settle(&mut self, subjects: &[Subject]) {
        let median = |s: &Subject| percentile(&s.samples, 0.5).unwrap_or(f64::INFINITY);
        for (format, best) in &mut self.baselines {
            let whole = |s: &&Subject| s.product.is_plain() && s.format.to_string() == *format;
            let least = subjects
                .iter()
                .filter(whole)
                .min_by(|a, b| median(a).total_cmp(&median(b)));
            if let Some(least) = least {
                *best = least.candidate;
            }
        }
    }

    fn numbers(&self, row: &mut Row, subject: &Subject, subjects: &[Subject]) {
        let us = |p| percentile(&subject.samples, p).map(|s| s * 1e6);
        (row.median_us, row.p10_us, row.p90_us) = (us(0.5), us(0.1), us(0.9));
        row.samples_us = subject.samples.iter().map(|s| s * 1e6).collect();
        let weight = self.entries[&subject.key()].weight;
        let batch = row.batch as f64;
        let active = |all: f64| all * row.active.unwrap_or(1.0);
        let bytes = active(weight.stored_bytes() as f64) as u64
            + self.x.bytes()
            + 4 * (row.rows * row.batch) as u64;
        row.bytes = Some(bytes);
        // A clock too coarse for the product says 0.
        let per_ns = |amount: f64| {
            row.median_us
                .filter(|&us| us > 0.0)
                .map(|us| amount / us / 1e3)
        };
        row.gb_per_s = per_ns(bytes as f64);
        row.percent_of_copy = row.gb_per_s.map(|g| 100.0 * g / row.copy_gb_per_s);
        let operations = 2.0 * active(stored(weight) as f64) * batch;
        row.gflop_per_s = per_ns(operations);
        let floor = self.bench.floor.us(bytes as f64, operations);
        row.floor_us = Some(floor);
        row.percent_of_floor = per_ns(1e5 * floor);
        row.gflop_per_s_dense = per_ns(2.0 * row.rows as f64 * row.cols as f64 * batch);
        if row.gb_per_s.is_none() {
            row.reason = Some("the clock is too coarse for so short a product".into());
        }
        let whole = baseline_of(self.bench.args.op, subject.format);
        let dense = subjects
            .iter()
            .find(|s| s.format == whole && self.is_baseline_subject(s));
        match dense {
            None => {
                row.reason = Some(format!("x_dense: no candidate of {whole} could be timed"));
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

/// Number of stored values that the product uses.
fn stored(weight: &Matrix) -> usize {
    match weight {
        Matrix::Dense(w) => w.values().len(),
        w => (0..w.rows()).map(|row| w.entries(row).count()).sum(),
    }
}
