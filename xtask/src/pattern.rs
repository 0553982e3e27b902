//! Checks the N:M rule on the values themselves, independently of the engine's code.

use crate::safetensors::Matrix;

/// `kept` of every `window` neighbouring weights of a row; `rows` rows share the choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pattern {
    pub kept: usize,
    pub window: usize,
    pub rows: usize,
}

impl Pattern {
    /// Reads `2:4`, `2:4x8`, `2:4@f16`; dense formats have no pattern.
    pub fn parse(format: &str) -> Option<Self> {
        let pattern = format.split('@').next()?;
        let (kept, rest) = pattern.split_once(':')?;
        let (window, rows) = rest.split_once('x').unwrap_or((rest, "1"));
        Some(Self {
            kept: kept.parse().ok()?,
            window: window.parse().ok()?,
            rows: rows.parse().ok()?,
        })
    }

    /// What is wrong with `pruned` as the magnitude-pruned form of `original`, if anything: each
    /// window must keep its largest weights bit for bit, and the others must be zero.
    pub fn fault(&self, original: &Matrix, pruned: &Matrix) -> Option<String> {
        if (original.rows, original.cols) != (pruned.rows, pruned.cols) {
            return Some(format!(
                "{} x {} became {} x {}",
                original.rows, original.cols, pruned.rows, pruned.cols
            ));
        }
        let altered = original
            .values
            .iter()
            .zip(&pruned.values)
            .position(|(&w, &p)| p != 0.0 && p.to_bits() != w.to_bits());
        if let Some(place) = altered {
            return Some(format!(
                "row {}, column {} was altered",
                place / original.cols,
                place % original.cols
            ));
        }
        for first in (0..original.rows).step_by(self.rows) {
            let rows = first..(first + self.rows).min(original.rows);
            for start in (0..original.cols).step_by(self.window) {
                let columns = start..(start + self.window).min(original.cols);
                if let Some(fault) = self.window_fault(original, pruned, rows.clone(), columns) {
                    return Some(format!("rows from {first}, columns from {start}: {fault}"));
                }
            }
        }
        None
    }

    fn window_fault(
        &self,
        original: &Matrix,
        pruned: &Matrix,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> Option<String> {
        let (mut kept, mut least_kept, mut most_dropped) = (0, f64::INFINITY, 0_f64);
        for column in columns {
            let weights = || rows.clone().map(|row| f64::from(original.row(row)[column]));
            let score: f64 = weights().map(|w| w * w).sum();
            if rows.clone().any(|row| pruned.row(row)[column] != 0.0) {
                kept += 1;
                least_kept = least_kept.min(score);
            } else {
                most_dropped = most_dropped.max(score);
            }
        }
        // Sums in another order may differ in the last digits, so either choice is right in a near tie.
        let best = most_dropped <= least_kept * (1.0 + 1e-5);
        if kept > self.kept {
            Some(format!("{kept} columns kept"))
        } else if kept < self.kept && most_dropped > 0.0 {
            Some(format!("only {kept} columns kept"))
        } else if !best {
            Some("a larger weight was dropped than one kept".into())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Pattern};

    fn matrix(rows: usize, values: &[f32]) -> Matrix {
        Matrix {
            rows,
            cols: values.len() / rows,
            values: values.to_vec(),
        }
    }

    #[test]
    fn formats_are_read() {
        assert_eq!(
            Pattern::parse("2:4"),
            Some(Pattern {
                kept: 2,
                window: 4,
                rows: 1
            })
        );
        assert_eq!(
            Pattern::parse("1:8x16@f16"),
            Some(Pattern {
                kept: 1,
                window: 8,
                rows: 16
            })
        );
        assert_eq!(Pattern::parse("f32"), None);
    }

    #[test]
    fn right_and_wrong_masks_are_told_apart() {
        let half = Pattern::parse("1:2").expect("a pattern");
        let original = matrix(1, &[1.0, -3.0, 5.0, 4.0, 7.0]);
        let fault = |values: &[f32]| half.fault(&original, &matrix(1, values));
        assert_eq!(fault(&[0.0, -3.0, 5.0, 0.0, 7.0]), None);
        assert!(
            fault(&[1.0, 0.0, 5.0, 0.0, 7.0])
                .expect("a fault")
                .contains("larger")
        );
        assert!(
            fault(&[1.0, -3.0, 5.0, 0.0, 7.0])
                .expect("a fault")
                .contains("2 columns")
        );
        assert!(
            fault(&[0.0, 0.0, 5.0, 0.0, 7.0])
                .expect("a fault")
                .contains("only 0")
        );
        assert!(
            fault(&[0.0, -3.0, 6.0, 0.0, 7.0])
                .expect("a fault")
                .contains("altered")
        );
    }

    #[test]
    fn rows_that_share_a_choice_are_judged_together() {
        let pattern = Pattern::parse("1:2x2").expect("a pattern");
        let original = matrix(2, &[1.0, 2.0, 4.0, 1.0]);
        assert_eq!(
            pattern.fault(&original, &matrix(2, &[1.0, 0.0, 4.0, 0.0])),
            None
        );
        assert!(
            pattern
                .fault(&original, &matrix(2, &[0.0, 2.0, 4.0, 0.0]))
                .is_some()
        );
    }
}
