//! Compensation: columns are stored from left to right, each making up for the error before it
//! (`SparseGPT`, <https://arxiv.org/abs/2301.00774>; GPTQ, <https://arxiv.org/abs/2210.17323>).
//!
//! The loss of a row is `(w − q)ᵀH(w − q) = ‖Md‖²` with `d = w − q`, `M` lower triangular and
//! `MᵀM = H`. Term `j` depends on `d[..= j]` alone, and is 0 if
//! `q_j = w_j + Σ_{i<j} M_ji d_i / M_jj`, which is the *target* of column `j`. The error of a
//! stored value against its target moves the targets of the columns after it. Both papers update
//! the weights with the upper triangular `U = M⁻ᵀ`, the factor of the inverse. The targets are the
//! same, with `1 / U_jj = M_jj`, but here nothing has to be inverted.

use crate::{
    blocks::in_blocks,
    error::Result,
    hessian::Hessian,
    kept::Kept,
    linear::{Factor, dot},
    store::{Row, Storage},
};
use lacuna::{
    compress::Grid,
    format::{Dense, Pattern},
};
use ndarray::{Array2, linalg, s};
use std::ops::Range;

/// Columns in a block. Their targets are corrected one by one; one product handles earlier blocks.
const BLOCK: usize = 128;

/// Which of the columns walked are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mask<'a> {
    /// All of them.
    All,
    /// n of every m, chosen when the walk reaches a window: those whose targets cost most to drop.
    Choose(Pattern),
    /// What was chosen beforehand.
    Fixed(&'a Kept),
}

/// A walk along columns, which stores each and passes its error on.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    /// The factor of the Hessian of the columns walked.
    pub(crate) factor: &'a Factor,
    /// Their numbers in the weight, ascending.
    pub(crate) columns: &'a [u32],
    /// Which of them are stored.
    pub(crate) mask: Mask<'a>,
    /// How values are stored.
    pub(crate) storage: &'a Storage,
    /// How many of the columns walked share a grid, if they become codes.
    pub(crate) group: usize,
}

/// Stores every row of `dense`, column by column.
pub(crate) fn compensate(
    dense: &Dense,
    hessian: &Hessian,
    storage: &Storage,
    mask: Mask,
) -> Result<Vec<Row>> {
    let cols = dense.cols();
    let columns: Vec<u32> = (0..cols as u32).collect();
    let walk = Walk {
        factor: &hessian.factor()?,
        columns: &columns,
        mask,
        storage,
        group: storage.group(cols),
    };
    in_blocks(dense.rows(), walk.sharing(), |rows| {
        let weights = hessian.living(dense, rows.clone());
        Ok(walk.rows(rows.start, &weights))
    })
}

/// Rows during the walk.
struct State<'a> {
    weights: &'a Array2<f64>,
    /// `d`: weights minus stored values. In columns that were only foreseen, weights minus targets.
    lost: Array2<f64>,
    /// For the columns `j` of the block, `Σ M_ji d_i` over the columns `i` before the block.
    pull: Array2<f64>,
    kept: Array2<bool>,
    values: Array2<f32>,
    grids: Vec<Vec<Grid>>,
}

impl Walk<'_> {
    /// Stores rows, the first of which is row `first` of the weight. `weights` holds their values in
    /// the columns walked.
    pub(crate) fn rows(&self, first: usize, weights: &Array2<f64>) -> Vec<Row> {
        let (rows, n) = weights.dim();
        let mut state = State {
            weights,
            lost: Array2::zeros((rows, n)),
            pull: Array2::zeros((rows, 0)),
            kept: self.kept(first, rows),
            values: Array2::zeros((rows, n)),
            grids: vec![vec![]; rows],
        };
        let sharing = self.sharing();
        let width = self.block();
        for start in (0..n).step_by(width) {
            let block = start..n.min(start + width);
            let factor = self.factor.lower();
            let factor = factor.slice(s![block.clone(), ..start]);
            state.pull = Array2::zeros((rows, block.len()));
            let before = state.lost.slice(s![.., ..start]);
            linalg::general_mat_mul(1.0, &before, &factor.t(), 0.0, &mut state.pull);
            for set in (0..rows).step_by(sharing) {
                self.walk(&mut state, &(set..rows.min(set + sharing)), &block);
            }
        }
        let row = |(row, grids): (usize, Vec<Grid>)| {
            let kept = (0..n).filter(|&j| state.kept[(row, j)]);
            let (columns, values) = kept
                .map(|j| (self.columns[j], state.values[(row, j)]))
                .unzip();
            Row {
                columns,
                values,
                grids,
            }
        };
        state.grids.into_iter().enumerate().map(row).collect()
    }

    /// How many consecutive rows share a choice of columns.
    fn sharing(&self) -> usize {
        match self.mask {
            Mask::Choose(pattern) => pattern.v(),
            Mask::All | Mask::Fixed(_) => 1,
        }
    }

    /// Columns in a block. No window or group may cross its end. Only a group that begins with the
    /// row may be longer, because nothing is lost before it.
    fn block(&self) -> usize {
        let unit = match self.mask {
            _ if self.storage.coded() && self.group <= BLOCK => self.group,
            Mask::Choose(pattern) => pattern.m(),
            Mask::All | Mask::Fixed(_) => 1,
        };
        BLOCK / unit * unit
    }

    /// What is kept, as far as that is known before the walk.
    fn kept(&self, first: usize, rows: usize) -> Array2<bool> {
        let shape = (rows, self.columns.len());
        match self.mask {
            Mask::All => Array2::from_elem(shape, true),
            Mask::Choose(_) => Array2::from_elem(shape, false),
            Mask::Fixed(kept) => {
                let mut flags = Array2::from_elem(shape, false);
                for (row, mut flags) in flags.rows_mut().into_iter().enumerate() {
                    for col in kept.of_row(first + row) {
                        flags[col as usize] = true;
                    }
                }
                flags
            }
        }
    }

    /// Stores one block of the rows `set`.
    fn walk(&self, state: &mut State, set: &Range<usize>, block: &Range<usize>) {
        let n = self.columns.len();
        for j in block.clone() {
            if self.storage.coded() && j % self.group == 0 {
                let group = j..n.min(j + self.group);
                for row in set.clone() {
                    self.foresee(state, row, &group, block.start);
                }
                if let Mask::Choose(pattern) = self.mask {
                    for first in group.clone().step_by(pattern.m()) {
                        let window = first..group.end.min(first + pattern.m());
                        self.choose(state, set, &window, pattern.n());
                    }
                }
                for row in set.clone() {
                    self.open(state, row, &group);
                }
            }
            if let Mask::Choose(pattern) = self.mask
                && j % pattern.m() == 0
            {
                let window = j..n.min(j + pattern.m());
                for row in set.clone() {
                    self.foresee(state, row, &window, block.start);
                }
                self.choose(state, set, &window, pattern.n());
            }
            for row in set.clone() {
                let best = self.best(state, row, j, block.start);
                let (at, w) = ((row, j), state.weights[(row, j)]);
                if state.kept[at] {
                    let value = self.storage.round(state.grids[row].last(), w - best);
                    state.values[at] = value;
                }
                state.lost[at] = w - f64::from(state.values[at]);
            }
        }
    }

    /// The `d_j` that makes term `j` of the loss zero: the weight minus its target.
    fn best(&self, state: &State, row: usize, j: usize, start: usize) -> f64 {
        let lost = state
            .lost
            .row(row)
            .to_slice()
            .expect("matrices are row-major");
        let here = dot(self.factor.row(j, start..j), &lost[start..j]);
        let pull = state.pull[(row, j - start)] + here;
        -pull / self.factor.lower()[(j, j)]
    }

    /// Sets `lost` in the columns `ahead` as if each of them were stored exactly at its target.
    fn foresee(&self, state: &mut State, row: usize, ahead: &Range<usize>, start: usize) {
        for j in ahead.clone() {
            // Nothing was lost before the first column. A group that begins there may be longer than
            // the block, so `best` could not look it up.
            let best = match ahead.start {
                0 => 0.0,
                _ => self.best(state, row, j, start),
            };
            state.lost[(row, j)] = best;
        }
    }

    /// Keeps the `n` columns of a window whose targets cost most to drop; ties go to the lower column.
    fn choose(&self, state: &mut State, set: &Range<usize>, window: &Range<usize>, n: usize) {
        let m = self.factor.lower();
        let cost = |j| -> f64 {
            let target = |row| state.weights[(row, j)] - state.lost[(row, j)];
            set.clone()
                .map(|row| (target(row) * m[(j, j)]).powi(2))
                .sum()
        };
        let mut order: Vec<(usize, f64)> = window.clone().map(|j| (j, cost(j))).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (rank, (j, _)) in order.into_iter().enumerate() {
            state.kept.slice_mut(s![set.clone(), j]).fill(rank < n);
        }
    }

    /// Finds the grid for the kept targets of a group. Missing target `j` by `e` costs `M_jj² e²`,
    /// because the columns that follow make up for the rest.
    fn open(&self, state: &mut State, row: usize, group: &Range<usize>) {
        let m = self.factor.lower();
        let kept = group.clone().filter(|&j| state.kept[(row, j)]);
        let (targets, importances): (Vec<f32>, Vec<f32>) = kept
            .map(|j| {
                let target = state.weights[(row, j)] - state.lost[(row, j)];
                (target as f32, m[(j, j)].powi(2) as f32)
            })
            .unzip();
        if !targets.is_empty() {
            let grid = self.storage.grid(&targets, Some(&importances));
            state.grids[row].extend(grid);
        }
    }
}
