//! A line of the result.

use serde::Serialize;

/// What one candidate did on one product. What could not be measured is `None`, with the
/// reason beside it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// The operation.
    pub op: &'static str,
    /// The weight's name, where it is from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// The weight's format.
    pub format: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Vectors.
    pub batch: usize,
    /// `cold`, `cold(partial)` where memory did not suffice for the rule, or `hot`.
    pub cache: &'static str,
    /// The share that is active, where something is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<f64>,
    /// The kernel in its configuration.
    pub candidate: Option<String>,
    /// Whether this is the fastest dense candidate of its value type.
    pub baseline: bool,
    /// Median over the rounds.
    pub median_us: Option<f64>,
    /// Tenth percentile.
    pub p10_us: Option<f64>,
    /// Ninetieth percentile.
    pub p90_us: Option<f64>,
    /// One a round.
    pub samples_us: Vec<f64>,
    /// Stored bytes of the weight, x and y once each.
    pub bytes: Option<u64>,
    /// `bytes` over the median.
    pub gb_per_s: Option<f64>,
    /// The roof.
    pub copy_gb_per_s: f64,
    /// `gb_per_s` as a share of it.
    pub percent_of_copy: Option<f64>,
    /// What bytes take at the bandwidth, or operations at the peak, whichever is more.
    pub floor_us: Option<f64>,
    /// The floor's share of the median.
    pub percent_of_floor: Option<f64>,
    /// Operations done: two for each stored weight and vector.
    pub gflop_per_s: Option<f64>,
    /// Operations a dense product would have needed.
    pub gflop_per_s_dense: Option<f64>,
    /// Median over the rounds of the baseline's time over this one's.
    pub x_dense: Option<f64>,
    /// The baseline.
    pub dense_candidate: Option<String>,
    /// Worst error as a share of what is allowed.
    pub error_over_bound: Option<f64>,
    /// `timestamp` or `wall`.
    pub timer: &'static str,
    /// Why something above is missing.
    pub reason: Option<String>,
    /// Whether the result was wrong.
    #[serde(skip)]
    pub wrong: bool,
}

/// The value below which a share `p` of `samples` lies, interpolated; `None` of nothing.
pub fn percentile(samples: &[f64], p: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = p * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[3.0], 0.9), Some(3.0));
        assert_eq!(percentile(&[4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
    }
}
