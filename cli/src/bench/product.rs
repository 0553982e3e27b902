//! What is timed: a whole product, or one that skips inactive rows or columns.

use crate::error::Result;
use lacuna::{
    Activation, Active, Gpu, PlanBuilder, Tensor, Weight,
    format::{Matrix, Precision},
    kernel::{Candidate, Layout, Skip},
    reference::{self, Sampled},
    verify::Random,
};

/// A product of the group's vectors with a weight in any format.
#[derive(Clone)]
pub struct Product {
    pub layout: Layout,
    pub skip: Skip,
    pub precision: Precision,
    /// The share of rows or columns that is active, if the product skips the others.
    pub share: Option<f64>,
    search: Option<Search>,
}

/// How the active channels are found. The search is timed with the product, which always needs it.
#[derive(Clone)]
struct Search {
    decides: Tensor,
    kept: Vec<f32>,
    threshold: Tensor,
    active: Active,
}

impl Product {
    /// The whole product, with x in this precision.
    pub const fn whole(precision: Precision) -> Self {
        Self {
            layout: Layout::Rows,
            skip: Skip::Nothing,
            precision,
            share: None,
            search: None,
        }
    }

    /// The product that uses `percent` of the rows or columns of a weight `[rows, cols]`, for the
    /// vectors `x`.
    pub fn skipping(
        gpu: &Gpu,
        skip: Skip,
        percent: u8,
        (rows, cols): (usize, usize),
        batch: usize,
        x: &[f32],
    ) -> Result<Self> {
        // Magnitudes are uniform in [0, 1).
        let threshold = 1.0 - f32::from(percent) / 100.0;
        let (layout, channels, decides) = match skip {
            Skip::Rows => (Layout::Rows, rows, Random(2).vector(batch * rows)),
            Skip::Nothing | Skip::Cols => (Layout::Bands, cols, x.to_vec()),
        };
        let kept = reference::threshold(&decides, &[threshold]);
        let any = |c: &usize| (0..batch).any(|b| kept[b * channels + c] != 0.0);
        let share = (0..channels).filter(any).count() as f64 / channels as f64;
        Ok(Self {
            layout,
            skip,
            precision: Precision::F32,
            share: Some(share),
            search: Some(Search {
                decides: gpu.tensor_from(batch, channels, &decides)?,
                kept,
                threshold: gpu.tensor_from(1, 1, &[threshold])?,
                active: gpu.active(batch, channels)?,
            }),
        })
    }

    /// The same product with a result tensor of its own, which no other candidate writes.
    pub fn apart(&self, gpu: &Gpu) -> Result<Self> {
        let mut same = self.clone();
        if let Some(Search { active, .. }) = &mut same.search {
            *active = gpu.active(active.batch(), active.channels())?;
        }
        Ok(same)
    }

    /// Whether others are compared with it: the whole product, with x in f32.
    pub fn is_plain(&self) -> bool {
        self.skip == Skip::Nothing && self.precision == Precision::F32
    }

    /// The reference results that it is checked against.
    pub fn truth(&self, weight: &Matrix, x: &[f32], batch: usize) -> Result<Sampled> {
        Ok(match (&self.search, self.skip) {
            (Some(search), Skip::Rows) => Sampled::new(weight, x, batch)?.masked(&search.kept)?,
            (Some(search), _) => Sampled::new(weight, &search.kept, batch)?,
            (None, _) => Sampled::new_in(self.precision, weight, x, batch)?,
        })
    }

    /// Appends it to a plan.
    pub fn add(
        &self,
        builder: &mut PlanBuilder,
        candidate: Candidate,
        weight: &Weight,
        x: &Tensor,
        y: &Tensor,
    ) -> Result<()> {
        match &self.search {
            None => {
                builder.precision(self.precision);
                builder.linear_with(candidate, weight, x, None, y)?
            }
            Some(search) => {
                let Search {
                    decides,
                    threshold,
                    active,
                    ..
                } = search;
                builder.threshold(decides, threshold, Activation::None, active)?;
                if self.skip == Skip::Rows {
                    builder.masked_with(candidate, weight, x, None, active)?
                } else {
                    builder.input_sparse_with(candidate, weight, active, None, y)?
                }
            }
        };
        Ok(())
    }

    /// The tensor that receives the result, if that is not y.
    pub fn result(&self) -> Option<&Tensor> {
        let search = self.search.as_ref().filter(|_| self.skip == Skip::Rows)?;
        Some(search.active.kept())
    }
}
