//! How sparse a dense weight already is.

use lacuna::format::{Dense, Pattern};

/// The zeros of a weight, and which patterns they follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparsity {
    /// Number of weights.
    pub elements: usize,
    /// Number of weights that are zero. −0.0 counts as zero, NaN does not.
    pub zeros: usize,
    /// One entry for each pattern asked for, in that order.
    pub patterns: Vec<Compliance>,
}

/// How far a weight obeys one pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compliance {
    /// The pattern.
    pub pattern: Pattern,
    /// Number of windows.
    pub windows: usize,
    /// Number of windows in which more than n columns are used.
    pub violating: usize,
}

impl Compliance {
    /// Whether the weight obeys the pattern, and so converts without loss.
    pub const fn holds(&self) -> bool {
        self.violating == 0
    }

    /// Share of the windows that violate the pattern, from 0 to 1.
    pub fn violating_share(&self) -> f64 {
        share(self.violating, self.windows)
    }
}

/// The patterns that pruned checkpoints come in.
///
/// # Panics
/// Never: the patterns are constants within the limits.
pub fn usual_patterns() -> Vec<Pattern> {
    [
        (2, 4),
        (1, 4),
        (4, 8),
        (2, 8),
        (1, 8),
        (2, 16),
        (1, 16),
        (1, 32),
    ]
    .into_iter()
    .map(|(n, m)| Pattern::new(n, m).expect("1 <= n <= m <= 32"))
    .collect()
}

impl Sparsity {
    /// Counts zeros and the windows of `patterns` that violate them.
    pub fn of(dense: &Dense, patterns: &[Pattern]) -> Self {
        let cols = dense.cols();
        let values = dense.values();
        let used: Vec<bool> = (0..values.len()).map(|i| values.get(i) != 0.0).collect();
        let rows: Vec<&[bool]> = used.chunks(cols.max(1)).collect();
        Self {
            elements: used.len(),
            zeros: used.iter().filter(|&&u| !u).count(),
            patterns: patterns
                .iter()
                .map(|&pattern| compliance(&rows, cols, pattern))
                .collect(),
        }
    }

    /// Share of the weights that are zero, from 0 to 1.
    pub fn zero_share(&self) -> f64 {
        share(self.zeros, self.elements)
    }

    /// The patterns that the weight obeys exactly.
    pub fn satisfied(&self) -> impl Iterator<Item = Pattern> + '_ {
        self.patterns
            .iter()
            .filter(|c| c.holds())
            .map(|c| c.pattern)
    }
}

fn compliance(rows: &[&[bool]], cols: usize, pattern: Pattern) -> Compliance {
    let mut violating = 0;
    let mut shared = vec![false; cols];
    for sharing in rows.chunks(pattern.v()) {
        shared.copy_from_slice(sharing[0]);
        for row in &sharing[1..] {
            shared.iter_mut().zip(*row).for_each(|(s, r)| *s |= r);
        }
        let over = |window: &&[bool]| window.iter().filter(|&&u| u).count() > pattern.n();
        violating += shared.chunks(pattern.m()).filter(over).count();
    }
    let windows = pattern.sets(rows.len()) * pattern.windows(cols);
    Compliance {
        pattern,
        windows,
        violating,
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_violating_windows_are_counted() {
        let values = vec![1., 2., 3., -0.0, 5., 0., 0., f32::NAN, 0., 7., 0., 0.];
        let dense = Dense::from_f32(2, 6, values).unwrap();
        let patterns: Vec<Pattern> = ["2:4", "1:4", "2:4x2"]
            .iter()
            .map(|p| p.parse().unwrap())
            .collect();
        let sparsity = Sparsity::of(&dense, &patterns);
        assert_eq!((sparsity.elements, sparsity.zeros), (12, 6));
        let counts: Vec<_> = sparsity
            .patterns
            .iter()
            .map(|c| (c.windows, c.violating))
            .collect();
        // Row 0: 3 used of 4, 1 of 2. Row 1: 2 of 4 (NaN counts), 0 of 2 … shared: 4 of 4, 1 of 2.
        assert_eq!(counts, [(4, 1), (4, 2), (2, 1)]);
        assert_eq!(sparsity.satisfied().count(), 0);
    }

    #[test]
    fn a_zero_matrix_obeys_every_pattern() {
        let dense = Dense::from_f32(3, 5, vec![0.0; 15]).unwrap();
        let sparsity = Sparsity::of(&dense, &usual_patterns());
        assert_eq!(sparsity.satisfied().count(), usual_patterns().len());
        assert!((sparsity.zero_share() - 1.0).abs() < 1e-12);
    }
}
