//! Weights of one input below each other, so that one product computes what several would.

use super::{Format, Matrix, checked_len};
use crate::error::{Error, Result};

impl Matrix {
    /// Whether [`append`](Self::append) takes `below`.
    pub fn takes(&self, below: &Self) -> bool {
        self.check_append(below).is_ok()
    }

    /// Appends the rows of `below`: then `x · Wᵀ` is what the two products with x were, side by side. Nothing
    /// is rounded anew.
    ///
    /// # Errors
    /// [`Error::Append`] for another format, number of columns or factor of the scales; where rows share
    /// columns and this weight does not end with a whole set of such rows; and for ragged weights, whose format
    /// says how many groups the whole weight keeps. [`Error::TooLarge`].
    pub fn append(&mut self, below: &Self) -> Result<()> {
        self.check_append(below)?;
        match (self, below) {
            (Self::Dense(w), Self::Dense(below)) => w.append(below),
            (Self::Nm(w), Self::Nm(below)) => w.append(below),
            (Self::Quantized(w), Self::Quantized(below)) => w.append(below),
            (Self::Gqs(w), Self::Gqs(below)) => w.append(below),
            _ => unreachable!("weights of one format are of one kind"),
        }
        Ok(())
    }

    fn check_append(&self, below: &Self) -> Result<()> {
        let (format, cols) = (self.format(), self.cols());
        let refuse = |what, got: String, expected: String| {
            Err(Error::Append {
                what,
                got,
                expected,
            })
        };
        if below.format() != format {
            return refuse("format", below.format().to_string(), format.to_string());
        }
        if below.cols() != cols {
            return refuse("columns", below.cols().to_string(), cols.to_string());
        }
        if let (Some(codes), Some(below)) = (self.codes(), below.codes()) {
            let [got, expected] = [below, codes].map(super::Codes::factor);
            if got.to_bits() != expected.to_bits() {
                return refuse("factor", got.to_string(), expected.to_string());
            }
        }
        let set = match format {
            Format::Gqs { pruning, .. } if pruning.ragged() => {
                return refuse("format", format.to_string(), "a balanced one".into());
            }
            Format::Nm { pattern, .. }
            | Format::Quantized {
                pattern: Some(pattern),
                ..
            } => pattern.v(),
            _ => 1,
        };
        if self.rows() % set != 0 {
            let expected = format!("a multiple of the {set} that share columns");
            return refuse("rows above", self.rows().to_string(), expected);
        }
        let rows = self.rows().saturating_add(below.rows());
        checked_len("weight", rows, cols)?;
        if let (Self::Gqs(w), Self::Gqs(below)) = (self, below) {
            // Offsets count the kept groups of all rows above.
            let kept = w.group_indices().len() + below.group_indices().len();
            if u32::try_from(kept).is_err() {
                let what = "weight";
                return Err(Error::TooLarge { what, rows, cols });
            }
        }
        Ok(())
    }
}
