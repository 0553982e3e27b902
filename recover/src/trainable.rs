//! A packed weight as parameters that a gradient can move.
//!
//! ```text
//! plain values   w = dtype(v)                               v: one for each stored slot
//! codes          w = s · (c − z)      c = clamp(round(v / s) + z, 0, 2^bits − 1)
//!                s = factor · f16(scale · r)                r: one for each group, 1 at first
//!                z = clamp(round(zero), 0, 2^bits − 1)      one for each group; where real f16(zero), tiny ones 0
//! ```
//!
//! The network is trained with exactly what the packed weight decodes to. The gradient of rounding is of
//! no use, so gradients pass straight through it, as LSQ (<https://arxiv.org/abs/1902.08153>),
//! `EfficientQAT` (<https://arxiv.org/abs/2407.11062>) and GQSA (<https://arxiv.org/abs/2412.17560>) do.
//! With g the gradient of w:
//!
//! ```text
//!                where c was not clamped      where it was      codes frozen
//!   of v         g                            0                 –
//!   of s         g · (c − z − v / s)          g · (c − z)       g · (c − z)
//!   of z         0                            −g · s            −g · s
//! ```

use crate::error::{Error, Result};
use half::{bf16, f16};
use lacuna::format::{Codes, Dtype, Gqs, Matrix, Nm, Quantized, Values, Zeros};
use std::ops::Range;

/// The place of slots past the last column, which hold no weight.
const SPARE: u32 = u32::MAX;
/// Training keeps a scale within this factor of its first value, so it keeps its sign and does not vanish.
const SPAN: f32 = 16.0;

/// Which parameters of a weight are trained. The mask never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// Values, scales and zeros.
    Values,
    /// Scales and zeros; codes are frozen. In a weight without codes, the values are trained.
    Scales,
}

/// How far Adam moves each kind of parameter in a step at the full rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Values, as a share of the root mean square of the weight's stored values.
    pub values: f32,
    /// Scales, as a share of their first value.
    pub scales: f32,
    /// Zeros, in units of one code.
    pub zeros: f32,
}

impl Rates {
    pub(crate) fn times(self, share: f32) -> Self {
        Self {
            values: share * self.values,
            scales: share * self.scales,
            zeros: share * self.zeros,
        }
    }
}

/// A packed weight whose parameters can be trained.
#[derive(Debug, Clone)]
pub struct Trainable {
    /// Format, mask, and the values that the parameters started from.
    matrix: Matrix,
    /// For each slot, its element in the row-major dense weight, or [`SPARE`].
    places: Vec<u32>,
    /// The first slot of each group, then the end of the last; empty without groups.
    groups: Vec<u32>,
    /// Values, then scales as ratios to the stored ones, then zeros.
    parameters: Vec<f32>,
    values: usize,
    /// Root mean square of the stored values.
    unit: f32,
}

/// Scale and zero of a group, as they are stored.
#[derive(Clone, Copy)]
struct Grid {
    scale: f16,
    step: f32,
    zero: f32,
    max: u8,
}

impl Grid {
    fn code(self, value: f32) -> u8 {
        // The cast saturates: NaN and negative numbers become 0.
        ((value / self.step + self.zero).round() as u8).min(self.max)
    }

    fn steps(self, code: u8) -> f32 {
        f32::from(code) - self.zero
    }

    /// Whether `value` lies between the smallest and the largest code.
    fn holds(self, value: f32) -> bool {
        let position = value / self.step + self.zero;
        (0.0..=f32::from(self.max)).contains(&position)
    }
}

impl Trainable {
    /// The parameters of `matrix`. Until they are changed, [`to_matrix`](Self::to_matrix) gives `matrix`
    /// back bit for bit.
    ///
    /// Values start in the middle of their codes, not at the dense weight: compression that compensates
    /// puts codes away from that weight, and values that started at the edge of their codes would fall
    /// back at the first step. A dense `matrix` has no parameters.
    ///
    /// # Errors
    /// [`Error::Choice`] for a weight of 2³² elements or more.
    pub fn from_matrix(matrix: &Matrix, trained: Trained) -> Result<Self> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        if u32::try_from(rows.saturating_mul(cols)).is_err() {
            return Err(Error::Choice {
                what: "elements of a weight to be trained",
                value: format!("{rows} x {cols}"),
                supported: "fewer than 2^32".into(),
            });
        }
        let (places, groups) = layout(matrix);
        let mut this = Self {
            matrix: matrix.clone(),
            places,
            groups,
            parameters: vec![],
            values: 0,
            unit: 0.0,
        };
        let stored = this.stored();
        let squares: f64 = stored.iter().map(|&w| f64::from(w).powi(2)).sum();
        this.unit = (squares / stored.len().max(1) as f64).sqrt() as f32;
        if trained == Trained::Values || matrix.codes().is_none() {
            this.values = stored.len();
            this.parameters = stored;
        }
        if let Some(codes) = matrix.codes() {
            let groups = codes.scales().len();
            this.parameters.extend(std::iter::repeat_n(1.0, groups));
            let zeros = 0..codes.zeros().len();
            this.parameters.extend(zeros.map(|group| codes.zero(group)));
        }
        Ok(this)
    }

    /// The values that the slots decode to.
    fn stored(&self) -> Vec<f32> {
        match &self.matrix {
            Matrix::Nm(nm) => nm.values().to_f32(),
            other => other.codes().map_or_else(Vec::new, |codes| {
                let mut stored = vec![0.0; codes.codes().len()];
                for group in 0..codes.scales().len() {
                    for slot in self.slots(group) {
                        stored[slot] = codes.value(slot, group);
                    }
                }
                stored
            }),
        }
    }

    /// All parameters: values, then the scales of the groups as ratios to the stored ones, then zeros.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// Replaces all parameters.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of them.
    pub fn set_parameters(&mut self, parameters: Vec<f32>) -> Result<()> {
        if parameters.len() != self.parameters.len() {
            return Err(Error::Shape {
                what: "parameters of a weight",
                got: parameters.len(),
                expected: self.parameters.len(),
            });
        }
        self.parameters = parameters;
        Ok(())
    }

    /// Lets `step` change the parameters, then clamps scales and zeros to their bounds.
    pub(crate) fn update(&mut self, step: impl FnOnce(&mut [f32])) {
        step(&mut self.parameters);
        let Some(codes) = self.matrix.codes() else {
            return;
        };
        let (least, most) = if codes.quant().real_zeros() {
            (-f16::MAX.to_f32(), f16::MAX.to_f32())
        } else {
            (0.0, codes.quant().max_code().into())
        };
        let groups = codes.scales().len();
        let (ratios, zeros) = self.parameters[self.values..].split_at_mut(groups);
        for ratio in ratios {
            *ratio = ratio.clamp(1.0 / SPAN, SPAN);
        }
        for zero in zeros {
            *zero = zero.clamp(least, most);
        }
    }

    /// For values, scales and zeros: where they end in the parameters, and their rate.
    pub(crate) fn rates(&self, rates: &Rates) -> [(usize, f32); 3] {
        let scales = self.values + self.groups.len().saturating_sub(1);
        [
            (self.values, rates.values * self.unit),
            (scales, rates.scales),
            (self.parameters.len(), rates.zeros),
        ]
    }

    fn slots(&self, group: usize) -> Range<usize> {
        self.groups[group] as usize..self.groups[group + 1] as usize
    }

    fn grid(&self, codes: &Codes, group: usize) -> Grid {
        let groups = codes.scales().len();
        let mut grid = stored_grid(codes, group);
        let scale = grid.scale.to_f32() * self.parameters[self.values + group];
        let bounded = scale.clamp(-f16::MAX.to_f32(), f16::MAX.to_f32());
        let rounded = f16::from_f32(bounded);
        grid.scale = if rounded.to_f32().abs() >= Codes::MIN_SCALE {
            rounded
        } else {
            f16::from_f32(Codes::MIN_SCALE.copysign(scale))
        };
        grid.step = codes.factor() * grid.scale.to_f32();
        if let Some(zero) = self.parameters.get(self.values + groups + group) {
            grid.zero = if codes.quant().real_zeros() {
                Codes::real_zero(*zero).to_f32()
            } else {
                (zero.round() as u8).min(grid.max).into()
            };
        }
        grid
    }

    /// The code of `slot`, which lies in `group`; `grid` is that group's.
    fn code(&self, codes: &Codes, grid: Grid, group: usize, slot: usize) -> u8 {
        if self.places[slot] == SPARE && grid.zero.to_bits() != codes.zero(group).to_bits() {
            grid.code(0.0)
        } else if self.values == 0 || self.places[slot] == SPARE {
            codes.codes()[slot]
        } else {
            grid.code(self.parameters[slot])
        }
    }

    /// The dense weight `[rows, cols]`: exactly what [`to_matrix`](Self::to_matrix) decodes to.
    pub fn weight(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.matrix.rows() * self.matrix.cols()];
        let mut put = |slot: usize, value: f32| {
            let place = self.places[slot];
            if place != SPARE {
                dense[place as usize] = value;
            }
        };
        match &self.matrix {
            Matrix::Dense(weight) => return weight.values().to_f32(),
            Matrix::Nm(nm) => {
                let dtype = nm.values().dtype();
                for (slot, &value) in self.parameters.iter().enumerate() {
                    put(slot, rounded(dtype, value));
                }
            }
            other => {
                if let Some(codes) = other.codes() {
                    for group in 0..codes.scales().len() {
                        let grid = self.grid(codes, group);
                        for slot in self.slots(group) {
                            let code = self.code(codes, grid, group, slot);
                            put(
                                slot,
                                codes.factor() * (grid.scale.to_f32() * grid.steps(code)),
                            );
                        }
                    }
                }
            }
        }
        dense
    }

    /// The gradient of the parameters, given that of [`weight`](Self::weight), `of_weight`,
    /// `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a gradient of another length.
    pub fn gradient(&self, of_weight: &[f32]) -> Result<Vec<f32>> {
        let expected = self.matrix.rows() * self.matrix.cols();
        if of_weight.len() != expected {
            return Err(Error::Shape {
                what: "elements of a weight's gradient",
                got: of_weight.len(),
                expected,
            });
        }
        let mut gradient = vec![0.0; self.parameters.len()];
        let at = |slot: usize| match self.places[slot] {
            SPARE => 0.0,
            place => of_weight[place as usize],
        };
        let Some(codes) = self.matrix.codes() else {
            for (slot, gradient) in gradient.iter_mut().enumerate() {
                *gradient = at(slot);
            }
            return Ok(gradient);
        };
        let groups = codes.scales().len();
        for group in 0..groups {
            let grid = self.grid(codes, group);
            let (mut of_step, mut of_zero) = (0.0, 0.0);
            for slot in self.slots(group) {
                let g = at(slot);
                let steps = grid.steps(self.code(codes, grid, group, slot));
                if self.values == 0 {
                    of_step += g * steps;
                    of_zero -= g * grid.step;
                } else if grid.holds(self.parameters[slot]) {
                    gradient[slot] = g;
                    of_step += g * (steps - self.parameters[slot] / grid.step);
                } else {
                    of_step += g * steps;
                    of_zero -= g * grid.step;
                }
            }
            gradient[self.values + group] = of_step * stored_grid(codes, group).step;
            if let Some(gradient) = gradient.get_mut(self.values + groups + group) {
                *gradient = of_zero;
            }
        }
        Ok(gradient)
    }

    /// The packed weight, in its format and with its mask, from the present parameters.
    ///
    /// # Errors
    /// [`Error::Engine`] for a value that is NaN or outside the range of its type.
    pub fn to_matrix(&self) -> Result<Matrix> {
        Ok(match &self.matrix {
            Matrix::Nm(nm) => {
                let values = Values::round(nm.values().dtype(), &self.parameters)?;
                let indices = nm.columns().indices().to_vec();
                Nm::from_parts(nm.pattern(), nm.rows(), nm.cols(), values, indices)?.into()
            }
            Matrix::Quantized(w) => {
                let codes = self.to_codes(w.codes())?;
                Quantized::new(w.rows(), w.cols(), w.columns().cloned(), codes)?.into()
            }
            Matrix::Gqs(w) => Gqs::from_parts(
                w.rows(),
                w.cols(),
                w.pruning(),
                w.row_offsets().to_vec(),
                w.group_indices().to_vec(),
                self.to_codes(w.codes())?,
            )?
            .into(),
            other => other.clone(),
        })
    }

    fn to_codes(&self, from: &Codes) -> Result<Codes> {
        let mut codes = from.codes().to_vec();
        let (mut scales, mut zeros) = (vec![], Zeros::none(from.quant()));
        for group in 0..from.scales().len() {
            let grid = self.grid(from, group);
            for slot in self.slots(group) {
                codes[slot] = self.code(from, grid, group, slot);
            }
            scales.push(grid.scale);
            match &mut zeros {
                Zeros::Codes(_) if from.quant().symmetric() => {}
                Zeros::Codes(zeros) => zeros.push(grid.zero as u8),
                Zeros::Real(zeros) => zeros.push(f16::from_f32(grid.zero)),
            }
        }
        let codes = Codes::new(from.quant(), codes, scales, zeros, from.factor())?;
        Ok(codes)
    }
}

fn stored_grid(codes: &Codes, group: usize) -> Grid {
    let scale = codes.scales()[group];
    Grid {
        scale,
        step: codes.factor() * scale.to_f32(),
        zero: codes.zero(group),
        max: codes.quant().max_code(),
    }
}

/// `value` as `dtype` stores it.
fn rounded(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::F32 => value,
        Dtype::F16 => f16::from_f32(value).to_f32(),
        Dtype::Bf16 => bf16::from_f32(value).to_f32(),
    }
}

/// Where each slot lies in the dense weight, and where the groups of slots begin and end.
fn layout(matrix: &Matrix) -> (Vec<u32>, Vec<u32>) {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let place = |row: usize, col: usize| {
        if col < cols {
            (row * cols + col) as u32
        } else {
            SPARE
        }
    };
    let of_rows = |slots: usize, column: &dyn Fn(usize, usize) -> usize| -> Vec<u32> {
        let of_row = |row: usize| (0..slots).map(move |slot| place(row, column(row, slot)));
        (0..rows).flat_map(of_row).collect()
    };
    match matrix {
        Matrix::Nm(w) => (
            of_rows(w.slots(), &|row, slot| w.columns().column(row, slot)),
            vec![],
        ),
        Matrix::Quantized(w) => {
            let (slots, group) = (w.slots(), w.group_slots());
            let of_row = |row: usize| (0..w.groups()).map(move |g| row * slots + g * group);
            let groups = (0..rows).flat_map(of_row).chain([rows * slots]);
            (
                of_rows(slots, &|row, slot| w.column(row, slot)),
                groups.map(|slot| slot as u32).collect(),
            )
        }
        Matrix::Gqs(w) => {
            let (kept, group) = (w.group_indices(), w.group());
            let mut places = Vec::with_capacity(kept.len() * group);
            for row in 0..rows {
                for &index in &kept[w.kept(row)] {
                    let first = index as usize * group;
                    places.extend((first..first + group).map(|col| place(row, col)));
                }
            }
            let groups = (0..=kept.len()).map(|g| (g * group) as u32).collect();
            (places, groups)
        }
        _ => (vec![], vec![]),
    }
}

#[cfg(test)]
mod tests;
