//! A line of the result.

use serde::Serialize;

/// The measurements of one candidate on one product. A figure that could not be measured is
/// `None`, and `reason` says why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// The operation.
    pub op: &'static str,
    /// The weight's name, if it comes from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// The weight's format.
    pub format: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Number of vectors.
    pub batch: usize,
    /// `cold`, `cold(partial)` if memory did not suffice for enough copies, or `hot`.
    pub cache: &'static str,
    /// The share of rows or columns that is active, if the product skips the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<f64>,
    /// The kernel and its configuration.
    pub candidate: Option<String>,
    /// Whether other rows are compared with this one: the fastest whole product of the baseline format.
    pub baseline: bool,
    /// Median over the rounds.
    pub median_us: Option<f64>,
    /// Tenth percentile.
    pub p10_us: Option<f64>,
    /// Ninetieth percentile.
    pub p90_us: Option<f64>,
    /// One sample per round.
    pub samples_us: Vec<f64>,
    /// Stored bytes of the weight, or of its active share, and of x and y, each counted once.
    pub bytes: Option<u64>,
    /// `bytes` over the median.
    pub gb_per_s: Option<f64>,
    /// Copy bandwidth of the device.
    pub copy_gb_per_s: f64,
    /// `gb_per_s` as a percentage of `copy_gb_per_s`.
    pub percent_of_copy: Option<f64>,
    /// The time of moving `bytes` at full bandwidth or of the operations at peak rate, whichever is longer.
    pub floor_us: Option<f64>,
    /// `floor_us` as a percentage of the median.
    pub percent_of_floor: Option<f64>,
    /// Rate of the operations done: two for each weight that is stored and active, and each vector.
    pub gflop_per_s: Option<f64>,
    /// Rate of the operations that a dense product would have needed.
    pub gflop_per_s_dense: Option<f64>,
    /// Median over the rounds of the baseline's time over this one's.
    pub x_dense: Option<f64>,
    /// The baseline's candidate.
    pub dense_candidate: Option<String>,
    /// The worst ratio of an error to its bound.
    pub error_over_bound: Option<f64>,
    /// `timestamp` or `wall`.
    pub timer: &'static str,
    /// Why something above is missing.
    pub reason: Option<String>,
    /// Whether the result was wrong.
    #[serde(skip)]
    pub wrong: bool,
}

/// The value below which a share `p` of `samples` lies, interpolated; `None` without samples.
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
