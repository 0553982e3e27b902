//! Recovery: least squares for the kept weights of each row and the scales of their codes, so that
//! the outputs come as close to the dense ones as they can (stage one of GQSA,
//! <https://arxiv.org/abs/2412.17560>, in closed form).

use crate::{
    blocks::in_blocks,
    compensate::{Mask, Walk},
    error::Result,
    hessian::Hessian,
    kept::Kept,
    linear::{Factor, add_square, dot},
    store::{Row, Storage},
};
use lacuna::format::Dense;
use ndarray::{Array1, Array2, ArrayView1, Axis};

/// Damping of the Gram matrix of the scales, as a share of its mean diagonal.
const RIDGE: f64 = 1e-6;

/// Stores the rows of `dense` in the columns that `kept` names.
///
/// The kept weights `S` of a row become `H_SS⁻¹ (Hw)_S`. From there the loss of storing them is a
/// quadratic form of `H_SS`, which is already factored, so compensation runs among exactly the
/// kept columns. Rows that share a choice share a factor; each further factor costs `|S|³ / 3`
/// operations.
pub(crate) fn recover(
    dense: &Dense,
    hessian: &Hessian,
    storage: &Storage,
    kept: &Kept,
) -> Result<Vec<Row>> {
    let whole = matches!(kept, Kept::All { .. }).then(|| hessian.factor());
    let whole = whole.transpose()?;
    let sharing = kept.sharing();
    in_blocks(dense.rows(), sharing, |rows| {
        let asked = hessian.living(dense, rows.clone()).dot(&hessian.matrix());
        let mut done = vec![];
        for (first, asked) in { rows }
            .step_by(sharing)
            .zip(asked.axis_chunks_iter(Axis(0), sharing))
        {
            let columns = kept.of_row(first);
            let own;
            let factor = if let Some(whole) = &whole {
                whole
            } else {
                own = hessian.factor_of(&columns)?;
                &own
            };
            let positions: Vec<usize> = columns.iter().map(|&c| c as usize).collect();
            let asked = asked.select(Axis(1), &positions);
            let mut best = Array2::zeros(asked.dim());
            for (mut best, asked) in best.rows_mut().into_iter().zip(asked.rows()) {
                best.assign(&factor.solve(&asked));
            }
            let walk = Walk {
                factor,
                columns: &columns,
                mask: Mask::All,
                storage,
                group: storage.stride(),
            };
            let stored = walk.rows(first, &best).into_iter().zip(asked.rows());
            done.extend(stored.map(|(row, asked)| rescale(row, factor, &asked, storage)));
        }
        Ok(done)
    })
}

/// Refits the scales of a row by least squares and leaves its codes as they are. `r` scales each
/// of the present ones so that `‖M(w − Σ_g r_g u_g)‖²` is least, where `u_g` are the values of
/// group `g`; `asked` is `(Hw)_S`. Scales keep their sign. If nothing is gained once the new
/// scales are rounded, the row stays as it is.
fn rescale(row: Row, factor: &Factor, asked: &ArrayView1<f64>, storage: &Storage) -> Row {
    let (n, groups) = (row.values.len(), row.grids.len());
    if groups == 0 {
        return row;
    }
    let values: Vec<f64> = row.values.iter().map(|&v| f64::from(v)).collect();
    let stride = storage.stride();
    let group = |g: usize| g * stride..n.min((g + 1) * stride);
    // What each group adds to each term of the loss.
    let mut outputs = Array2::zeros((n, groups));
    for (i, mut outputs) in outputs.rows_mut().into_iter().enumerate() {
        for (g, output) in outputs.iter_mut().enumerate().take(i / stride + 1) {
            let columns = group(g).start..group(g).end.min(i + 1);
            *output = dot(factor.row(i, columns.clone()), &values[columns]);
        }
    }
    let wanted: Array1<f64> = (0..groups)
        .map(|g| group(g).map(|j| values[j] * asked[j]).sum())
        .collect();
    let loss = |ratios: &Array1<f64>| {
        let output = outputs.dot(ratios);
        output.dot(&output) - 2.0 * wanted.dot(ratios)
    };

    let ones = Array1::ones(groups);
    let mut gram = Array2::zeros((groups, groups));
    add_square(&mut gram.view_mut(), 1.0, &outputs.view());
    let ridge = RIDGE * gram.diag().sum() / groups as f64;
    gram.diag_mut().mapv_inplace(|g| g + ridge);
    let missing = &wanted - &outputs.t().dot(&outputs.dot(&ones));
    let Ok(gram) = Factor::new(gram) else {
        // Every code stands for zero: no scale makes a difference.
        return row;
    };
    let change = gram.solve(&missing.view());
    let grids: Vec<_> = row
        .grids
        .iter()
        .zip(&change)
        .map(|(&grid, change)| {
            let ratio = 1.0 + change;
            if ratio > 0.0 {
                grid.scaled(ratio as f32)
            } else {
                grid
            }
        })
        .collect();
    let steps = grids.iter().zip(&row.grids);
    let ratios = steps.map(|(new, old)| f64::from(new.step()) / f64::from(old.step()));
    if loss(&ratios.collect()) >= loss(&ones) {
        return row;
    }
    let mut values = row.values;
    for (g, (new, old)) in grids.iter().zip(&row.grids).enumerate() {
        for value in &mut values[group(g)] {
            *value = new.value(old.code(*value));
        }
    }
    Row {
        values,
        grids,
        ..row
    }
}
