//! Dense linear algebra in f64.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, linalg, s};
use rayon::prelude::*;

/// Columns that are eliminated one by one before the rest is updated by a matrix product.
const BLOCK: usize = 48;
/// Rows that one matrix product updates.
const STRIP: usize = 128;
/// From this many columns on, strips are shared among threads. Their results do not depend on it.
const PARALLEL: usize = 2048;

/// The lower triangular `M` with `MᵀM = A`. Then `xᵀAx = ‖Mx‖²`, where term `j` depends on
/// `x[..= j]` alone.
#[derive(Debug)]
pub(crate) struct Factor(Array2<f64>);

impl Factor {
    /// Factors the symmetric `a`. Only its lower triangle is read.
    ///
    /// # Errors
    /// The column at which `a` proves not to be positive definite, and the pivot there.
    pub(crate) fn new(mut a: Array2<f64>) -> Result<Self, (usize, f64)> {
        let mut end = a.nrows();
        while end > 0 {
            let start = end.saturating_sub(BLOCK);
            let (mut rest, mut rows) = a.slice_mut(s![..end, ..end]).split_at(Axis(0), start);
            eliminate(&mut rows).map_err(|(row, pivot)| (start + row, pivot))?;
            add_square(&mut rest, -1.0, &rows.slice(s![.., ..start]));
            end = start;
        }
        Ok(Self(a))
    }

    /// `M`. Elements above the diagonal are leftovers of the factorisation: ignore them.
    pub(crate) fn lower(&self) -> ArrayView2<'_, f64> {
        self.0.view()
    }

    /// The elements of row `row` in the columns `range`.
    pub(crate) fn row(&self, row: usize, range: std::ops::Range<usize>) -> &[f64] {
        let n = self.0.ncols();
        let all = self.0.as_slice().expect("matrices are row-major");
        &all[row * n..][range]
    }

    /// Solves `Ax = b` for `x`.
    pub(crate) fn solve(&self, b: &ArrayView1<f64>) -> Array1<f64> {
        let mut x = b.to_vec();
        for i in (0..x.len()).rev() {
            x[i] /= self.0[(i, i)];
            let (before, rest) = x.split_at_mut(i);
            subtract_scaled(before, rest[0], self.row(i, 0..i));
        }
        for i in 0..x.len() {
            let known = dot(self.row(i, 0..i), &x[..i]);
            x[i] = (x[i] - known) / self.0[(i, i)];
        }
        x.into()
    }
}

/// Turns the last rows of what is left of `A` into rows of `M`.
fn eliminate(rows: &mut ArrayViewMut2<f64>) -> Result<(), (usize, f64)> {
    let first = rows.ncols() - rows.nrows();
    for i in (0..rows.nrows()).rev() {
        let pivot = rows[(i, first + i)];
        // The negated test refuses NaN as well.
        if !(pivot > 0.0 && pivot.is_finite()) {
            return Err((i, pivot));
        }
        let (mut above, mut row) = rows.view_mut().split_at(Axis(0), i);
        let mut row = row.row_mut(0);
        row.slice_mut(s![..=first + i])
            .mapv_inplace(|a| a / pivot.sqrt());
        for (r, mut above) in above.rows_mut().into_iter().enumerate() {
            let factor = row[first + r];
            let upto = s![..=first + r];
            above.slice_mut(upto).scaled_add(-factor, &row.slice(upto));
        }
    }
    Ok(())
}

/// `a += sign · pᵀp` in the lower triangle.
pub(crate) fn add_square(a: &mut ArrayViewMut2<f64>, sign: f64, p: &ArrayView2<f64>) {
    let n = p.ncols();
    let update = |(strip, mut a): (usize, ArrayViewMut2<f64>)| {
        let (start, end) = (strip * STRIP, n.min((strip + 1) * STRIP));
        let (left, right) = (p.slice(s![.., start..end]), p.slice(s![.., ..end]));
        linalg::general_mat_mul(
            sign,
            &left.t(),
            &right,
            1.0,
            &mut a.slice_mut(s![.., ..end]),
        );
    };
    let strips: Vec<_> = a.axis_chunks_iter_mut(Axis(0), STRIP).enumerate().collect();
    if n < PARALLEL {
        strips.into_iter().for_each(update);
    } else {
        strips.into_par_iter().for_each(update);
    }
}

/// `Σ a·b`, in eight partial sums.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = { a8.remainder().iter() }
        .zip(b8.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a8.zip(b8) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `y −= factor · x`.
fn subtract_scaled(y: &mut [f64], factor: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y -= factor * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A positive definite matrix of `n` rows, `BᵀB + I`.
    fn definite(n: usize, seed: u64) -> Array2<f64> {
        let mut state = seed;
        let b = Array2::from_shape_simple_fn((n + 3, n), || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
        });
        b.t().dot(&b) + Array2::<f64>::eye(n)
    }

    /// The largest `|a − b|` in the lower triangles.
    fn difference(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
        let all = a.indexed_iter().filter(|((i, j), _)| j <= i);
        all.map(|(at, a)| (a - b[at]).abs()).fold(0.0, f64::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_square_of_the_factor_is_the_matrix(n in 0usize..200, seed in any::<u64>()) {
            let a = definite(n, seed);
            let mut m = Factor::new(a.clone()).unwrap().0;
            m.indexed_iter_mut().filter(|((i, j), _)| j > i).for_each(|(_, upper)| *upper = 0.0);
            prop_assert!(difference(&m.t().dot(&m), &a) < 1e-9 * (n + 1) as f64);
        }

        #[test]
        fn solutions_solve(n in 1usize..150, seed in any::<u64>()) {
            let a = definite(n, seed);
            let b = a.column(n / 2).mapv(|x| x * 3.0 - 1.0);
            let x = Factor::new(a.clone()).unwrap().solve(&b.view());
            let worst = (a.dot(&x) - b).mapv(f64::abs).into_iter().fold(0.0, f64::max);
            prop_assert!(worst < 1e-9 * (n + 1) as f64);
        }
    }

    #[test]
    fn an_indefinite_matrix_is_refused_where_it_fails() {
        let mut a = definite(100, 1);
        a[(70, 70)] = -1.0;
        assert_eq!(Factor::new(a).unwrap_err().0, 70);
    }

    #[test]
    fn threads_do_not_change_a_factor() {
        let a = definite(PARALLEL + BLOCK + 5, 7);
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| Factor::new(a.clone()).unwrap())
        };
        assert_eq!(of(1).0, of(2).0);
    }
}
