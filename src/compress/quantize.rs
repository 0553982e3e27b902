//! Values → codes, group by group.

use crate::{
    error::{Error, Result},
    format::{
        Codes, Columns, Dense, Gqs, GroupPruning, Nm, Quant, Quantized, ZeroPoint, Zeros,
        checked_len,
    },
};
use half::f16;
use std::ops::Range;

/// Scales that the clip search tries, as shares of the one that spans the group.
const CLIPS: [f32; 9] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6];

/// Rounds groups of values to codes and collects them.
///
/// The scale of a group spans its values and 0, so that 0 is a code and the zero fits the bits; where zeros are
/// real, it spans the values alone. With importances (how much the square of each value's error costs, such as
/// `E[x²]` of its column) the span may be clipped where that costs less.
#[derive(Debug)]
pub struct Quantizer {
    quant: Quant,
    factor: f32,
    codes: Vec<u8>,
    scales: Vec<f16>,
    zeros: Zeros,
}

/// The scale and zero of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    scale: f16,
    zero: f32,
    max_code: u8,
    factor: f32,
}

impl Grid {
    /// The code nearest to `value`.
    pub fn code(self, value: f32) -> u8 {
        let steps = value / self.step() + self.zero;
        // A cast saturates: NaN and what lies below become 0.
        (steps.round() as u8).min(self.max_code)
    }

    /// What `code` stands for.
    pub fn value(self, code: u8) -> f32 {
        self.step() * (f32::from(code) - self.zero)
    }

    /// The grid whose scale is `by` times this one's, rounded to a half that codes may have.
    #[must_use]
    pub fn scaled(self, by: f32) -> Self {
        Self {
            scale: half_scale(self.scale.to_f32() * by),
            ..self
        }
    }

    /// How far the values of neighbouring codes are apart; negative where values fall as codes rise.
    pub fn step(self) -> f32 {
        self.factor * self.scale.to_f32()
    }
}

/// The half nearest to `scale` whose magnitude is one that [`Codes`] may hold.
fn half_scale(scale: f32) -> f16 {
    let rounded = f16::from_f32(scale.clamp(-65504.0, 65504.0));
    if rounded.to_f32().abs() >= Codes::MIN_SCALE {
        rounded
    } else {
        f16::from_f32(Codes::MIN_SCALE.copysign(scale))
    }
}

impl Quantizer {
    /// A quantiser for the values of `dense`.
    ///
    /// Scales are halves; where those of the smallest groups would fall below the normal ones,
    /// or those of the largest overflow, all are kept relative to a common factor.
    pub fn new(quant: Quant, dense: &Dense) -> Self {
        let values = dense.values();
        let largest = (0..values.len())
            .map(|i| values.get(i).abs())
            .fold(0.0, f32::max);
        // The largest scale lands between 2 and 4: 2^15 below it is still a normal half.
        let step = largest / f32::from(quant.max_code());
        let factor = if step > 0.0 && step.is_finite() && !(2e-3..=1e4).contains(&step) {
            step.log2().floor().clamp(-79.0, 79.0).exp2() / 2.0
        } else {
            1.0
        };
        Self {
            quant,
            factor,
            codes: vec![],
            scales: vec![],
            zeros: Zeros::none(quant),
        }
    }

    /// The grid for the next group; it does not append anything.
    pub fn grid(&self, values: &[f32], importances: Option<&[f32]>) -> Grid {
        let Some(importances) = importances else {
            return self.span(values, 1.0);
        };
        let cost = |grid: &Grid| -> f64 {
            let terms = values.iter().zip(importances);
            terms
                .map(|(&v, &i)| f64::from(i) * f64::from(v - grid.value(grid.code(v))).powi(2))
                .sum()
        };
        let grids = CLIPS.map(|clip| self.span(values, clip));
        let costs = grids.map(|grid| cost(&grid));
        let best = (0..grids.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b]));
        grids[best.unwrap_or(0)]
    }

    fn span(&self, values: &[f32], clip: f32) -> Grid {
        let quant = self.quant;
        let max_code = quant.max_code();
        let (scale, zero) = match quant.zero_point() {
            ZeroPoint::Real => self.between(values, clip),
            ZeroPoint::Middle | ZeroPoint::Code => self.around_zero(values, clip),
        };
        Grid {
            scale,
            zero,
            max_code,
            factor: self.factor,
        }
    }

    /// Scale and real zero of codes from the least value to the largest.
    fn between(&self, values: &[f32], clip: f32) -> (f16, f32) {
        let least = values.iter().copied().reduce(f32::min).unwrap_or(0.0);
        let largest = values.iter().copied().reduce(f32::max).unwrap_or(0.0);
        let steps = f32::from(self.quant.max_code());
        // A zero is known to eleven bits, and so is where the values begin: finer steps would gain nothing, and
        // their zeros might overflow. Below 2048, however the scale is rounded, zeros are right to half a step.
        let finest = least.abs().max(largest.abs()) / 2040.0;
        let step = (clip * (largest / steps - least / steps)).max(finest);
        let scale = half_scale(if step > 0.0 { step / self.factor } else { 1.0 });
        let step = self.factor * scale.to_f32();
        // Both ends are clipped alike.
        let first = least + (largest / 2.0 - least / 2.0) * (1.0 - clip);
        (scale, Codes::real_zero(-first / step).to_f32())
    }

    /// Scale and zero of codes of which one stands for 0.
    fn around_zero(&self, values: &[f32], clip: f32) -> (f16, f32) {
        let quant = self.quant;
        let max_code = quant.max_code();
        let min = values.iter().copied().fold(0.0, f32::min) * clip;
        let max = values.iter().copied().fold(0.0, f32::max) * clip;
        let half = |scale: f32| half_scale(scale / self.factor);
        let (scale, zero) = if quant.symmetric() {
            // Codes reach one step further to one side of zero than to the other: the sign of the scale points the
            // longer side at the larger end. The scale of nothing but zeros is the smallest, since kernels multiply
            // the rounding of their sums by it.
            let end = if -min >= max { min } else { max };
            (half(end / -f32::from(quant.middle())), quant.middle())
        } else if min >= max {
            (half(self.factor), 0)
        } else {
            // `max / steps − min / steps` cannot overflow where `max − min` does.
            let steps = f32::from(max_code);
            let scale = half(max / steps - min / steps);
            let zero = (-min / (self.factor * scale.to_f32())).round() as u8;
            (scale, zero.min(max_code))
        };
        (scale, zero.into())
    }

    /// Appends a group: `values` rounded to `grid`, then codes that decode to 0, or nearest to it, up
    /// to `len`.
    pub fn push(&mut self, grid: Grid, values: &[f32], len: usize) {
        self.codes.extend(values.iter().map(|&v| grid.code(v)));
        let spare = len.saturating_sub(values.len());
        self.codes
            .extend(std::iter::repeat_n(grid.code(0.0), spare));
        self.scales.push(grid.scale);
        match &mut self.zeros {
            Zeros::Codes(_) if self.quant.symmetric() => {}
            Zeros::Codes(zeros) => zeros.push(grid.zero as u8),
            Zeros::Real(zeros) => zeros.push(f16::from_f32(grid.zero)),
        }
    }

    /// The codes appended so far.
    ///
    /// # Errors
    /// Never for finite values.
    pub fn finish(self) -> Result<Codes> {
        Codes::new(self.quant, self.codes, self.scales, self.zeros, self.factor)
    }
}

/// Rounds every value, or those of `columns`, to the nearest code of its group.
///
/// # Errors
/// [`Error::NotFinite`], [`Error::Shape`] where `columns` are those of another shape,
/// [`Error::GroupWindow`].
pub fn quantize(dense: &Dense, columns: Option<Columns>, quant: Quant) -> Result<Quantized> {
    dense.check_finite()?;
    let (rows, cols) = (dense.rows(), dense.cols());
    let kept = match columns {
        None => None,
        Some(columns) => Some(Nm::keep(dense, columns)?),
    };
    let (slots, pattern) = match &kept {
        None => (cols, None),
        Some(kept) => (kept.slots(), Some(kept.pattern())),
    };
    let values = kept.as_ref().map_or(dense.values(), Nm::values);
    let group = crate::format::group_slots(pattern, quant, cols);
    let mut quantizer = Quantizer::new(quant, dense);
    for row in 0..rows {
        for first in (0..slots).step_by(group.max(1)) {
            let range = row * slots + first..row * slots + slots.min(first + group);
            let values: Vec<f32> = range.map(|i| values.get(i)).collect();
            let grid = quantizer.grid(&values, None);
            quantizer.push(grid, &values, 0);
        }
    }
    let columns = kept.map(|kept| kept.columns().clone());
    Quantized::new(rows, cols, columns, quantizer.finish()?)
}

/// The groups with the largest scores, ties to the lower one: offsets of rows and indices of
/// groups as [`Gqs`] has them.
///
/// `score` is asked for `(row, columns)` of every group.
///
/// # Errors
/// [`Error::Quant`] for groups of a whole row; [`Error::TooLarge`] for sides that no weight has, and where more
/// than 2³² − 1 groups are kept.
pub fn select_groups(
    rows: usize,
    cols: usize,
    quant: Quant,
    pruning: GroupPruning,
    mut score: impl FnMut(usize, Range<usize>) -> f64,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let Some(group) = quant.group() else {
        return Err(Error::Quant {
            bits: quant.bits(),
            group: cols,
        });
    };
    checked_len("weight", rows, cols)?;
    let groups = quant.groups(cols);
    let columns = |index: usize| index * group..cols.min((index + 1) * group);
    let mut scored: Vec<(usize, usize, f64)> = Vec::with_capacity(rows * groups);
    for row in 0..rows {
        scored.extend((0..groups).map(|index| (row, index, score(row, columns(index)))));
    }
    let mut kept: Vec<(usize, usize)> = vec![];
    let choose = |all: &mut [(usize, usize, f64)], kept: &mut Vec<(usize, usize)>| {
        all.sort_by(|a, b| b.2.total_cmp(&a.2));
        kept.extend(
            all[..pruning.kept(all.len())]
                .iter()
                .map(|&(r, i, _)| (r, i)),
        );
    };
    if pruning.ragged() {
        choose(&mut scored, &mut kept);
    } else {
        let of_rows = scored.chunks_mut(groups.max(1));
        of_rows.for_each(|of_row| choose(of_row, &mut kept));
    }
    kept.sort_unstable();

    // Offsets of rows count kept groups with 32 bits.
    if u32::try_from(kept.len()).is_err() {
        return Err(Error::TooLarge {
            what: "kept groups of a weight",
            rows,
            cols,
        });
    }
    let mut row_offsets = vec![0u32; rows + 1];
    for &(row, _) in &kept {
        row_offsets[row + 1] += 1;
    }
    for row in 0..rows {
        row_offsets[row + 1] += row_offsets[row];
    }
    let indices = kept.iter().map(|&(_, index)| index as u32).collect();
    Ok((row_offsets, indices))
}

/// Keeps the groups that [`select_groups`] selects, and rounds their values.
///
/// # Errors
/// [`Error::NotFinite`], and those of [`select_groups`].
pub fn prune_groups(
    dense: &Dense,
    quant: Quant,
    pruning: GroupPruning,
    score: impl FnMut(usize, Range<usize>) -> f64,
) -> Result<Gqs> {
    dense.check_finite()?;
    let (rows, cols) = (dense.rows(), dense.cols());
    let (row_offsets, indices) = select_groups(rows, cols, quant, pruning, score)?;
    let group = quant.group_cols(cols);
    let mut quantizer = Quantizer::new(quant, dense);
    let mut values = vec![];
    for row in 0..rows {
        let kept = row_offsets[row] as usize..row_offsets[row + 1] as usize;
        for &index in &indices[kept] {
            let first = index as usize * group;
            values.clear();
            values.extend((first..cols.min(first + group)).map(|col| dense.get(row, col)));
            let grid = quantizer.grid(&values, None);
            quantizer.push(grid, &values, group);
        }
    }
    let codes = quantizer.finish()?;
    Gqs::from_parts(rows, cols, pruning, row_offsets, indices, codes)
}
