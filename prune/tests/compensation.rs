//! Compensation and recovery against the papers' own formulas, and what they must at least gain.

mod common;

use common::{FORMATS, compress, format, inputs, mask, method, weight};
use lacuna::{
    compress::{Grid, Quantizer},
    format::{Dense, Format},
};
use lacuna_prune::{Inputs, Score, output_error};
use proptest::prelude::*;

type Square = Vec<Vec<f64>>;

/// `E[x xᵀ]` with `damp` of its mean diagonal added to it.
fn damped(inputs: &Inputs, damp: f64) -> Square {
    let (n, h) = (inputs.cols(), inputs.hessian().unwrap());
    let mean = (0..n).map(|i| f64::from(h[i * (n + 1)])).sum::<f64>() / n as f64;
    let element =
        |i: usize, j: usize| f64::from(h[i * n + j]) + if i == j { damp * mean } else { 0.0 };
    (0..n)
        .map(|i| (0..n).map(|j| element(i, j)).collect())
        .collect()
}

/// The inverse, by Gauss-Jordan elimination.
fn inverse(a: &Square) -> Square {
    let n = a.len();
    let unit = |i: usize| (0..n).map(move |j| f64::from(u8::from(i == j)));
    let mut rows: Square = a
        .iter()
        .enumerate()
        .map(|(i, a)| a.iter().copied().chain(unit(i)).collect())
        .collect();
    for i in 0..n {
        let pivot = rows[i].iter().map(|x| x / rows[i][i]).collect::<Vec<f64>>();
        for (r, row) in rows.iter_mut().enumerate() {
            let factor = row[i];
            for (x, p) in row.iter_mut().zip(&pivot) {
                *x = if r == i { *p } else { *x - factor * p };
            }
        }
    }
    rows.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// The upper triangular `U` with `UᵀU = A`.
fn upper(a: &Square) -> Square {
    let n = a.len();
    let mut u = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in i..n {
            let known: f64 = (0..i).map(|k| u[k][i] * u[k][j]).sum();
            u[i][j] = if i == j {
                (a[i][i] - known).sqrt()
            } else {
                (a[i][j] - known) / u[i][i]
            };
        }
    }
    u
}

/// Algorithm 1 of `SparseGPT` with GPTQ's groups, column by column and update by update.
fn by_the_paper(dense: &Dense, name: &str, inputs: &Inputs) -> Vec<f64> {
    let (rows, cols) = (dense.rows(), dense.cols());
    let u = upper(&inverse(&damped(inputs, 0.01)));
    let mut w: Square = (0..rows)
        .map(|r| (0..cols).map(|c| f64::from(dense.get(r, c))).collect())
        .collect();
    let mut q = vec![0.0; rows * cols];
    let mut kept = vec![vec![true; cols]; rows];
    let mut grids: Vec<Option<Grid>> = vec![None; rows];
    let format = format(name);
    let pattern = format.pattern();
    let choose = |w: &Square, kept: &mut Vec<Vec<bool>>, j: usize| {
        let Some(pattern) = pattern.filter(|p| j % p.m() == 0) else {
            return;
        };
        for first in (0..rows).step_by(pattern.v()) {
            let set = first..rows.min(first + pattern.v());
            let score = |c: usize| {
                set.clone()
                    .map(|r| (w[r][c] / u[c][c]).powi(2))
                    .sum::<f64>()
            };
            let mut window: Vec<usize> = (j..cols.min(j + pattern.m())).collect();
            window.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
            for (rank, &c) in window.iter().enumerate() {
                set.clone().for_each(|r| kept[r][c] = rank < pattern.n());
            }
        }
    };
    for j in 0..cols {
        if let Some(quant) = format.quant()
            && j % quant.group_cols(cols) == 0
        {
            let group = j..cols.min(j + quant.group_cols(cols));
            group.clone().for_each(|j| choose(&w, &mut kept, j));
            for r in 0..rows {
                let kept = group.clone().filter(|&c| kept[r][c]);
                let (values, costs): (Vec<f32>, Vec<f32>) = kept
                    .map(|c| (w[r][c] as f32, u[c][c].powi(-2) as f32))
                    .unzip();
                grids[r] = Some(Quantizer::new(quant, dense).grid(&values, Some(&costs)));
            }
        }
        choose(&w, &mut kept, j);
        for r in 0..rows {
            let stored = |w: f64| grids[r].map_or(w, |g| f64::from(g.value(g.code(w as f32))));
            let value = if kept[r][j] { stored(w[r][j]) } else { 0.0 };
            q[r * cols + j] = value;
            let error = (w[r][j] - value) / u[j][j];
            for c in j..cols {
                w[r][c] -= error * u[j][c];
            }
        }
    }
    q
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn columns_compensate_as_the_papers_say(
        rows in 1usize..7, cols in 1usize..170, which in 0usize..10, seed in any::<u64>(),
    ) {
        let names = [
            "2:4", "1:4x2", "3:5", "7:32", "w4g16", "w3g24-sym", "w4row", "2:4+w4g16",
            "1:3x4+w3g24", "3:5+w4row",
        ];
        let (dense, inputs) = (weight(rows, cols, seed), inputs(cols, seed));
        let ours = compress(method(Score::SparseGpt, false), &dense, names[which], &inputs).matrix;
        let theirs = by_the_paper(&dense, names[which], &inputs);
        let back = ours.to_dense();
        // Values are f32. A code or a mask that differs would differ by far more.
        for (i, &theirs) in theirs.iter().enumerate() {
            let ours = f64::from(back.values().get(i));
            prop_assert!((ours - theirs).abs() < 1e-4 * (1.0 + theirs.abs()), "{i}: {ours} {theirs}");
        }
    }

    #[test]
    fn recovered_weights_leave_no_gradient_where_they_are_kept(
        rows in 1usize..7, cols in 1usize..60, which in 0usize..4, few in any::<bool>(), seed in any::<u64>(),
    ) {
        let kind = common::SCORES[which];
        let samples = common::samples(if few { 4 * cols } else { 40 * cols }, cols, seed);
        let (dense, inputs) = (weight(rows, cols, seed), common::moments(&samples, cols));
        let ridge = if few { 0.1 } else { 0.025 };
        let packed = compress(method(kind, true), &dense, "2:4x2@f32", &inputs).matrix;
        let (h, back) = (damped(&inputs, ridge), packed.to_dense());
        for (at, kept) in mask(&packed).into_iter().enumerate() {
            let (row, col) = (at / cols, at % cols);
            let terms = (0..cols).map(|c| h[col][c] * f64::from(dense.get(row, c) - back.get(row, c)));
            let (gradient, size) = terms.fold((0.0, 0.0), |(g, s), t| (g + t, s + t.abs()));
            prop_assert!(!kept || gradient.abs() <= 1e-5 * (size + h[col][col]), "{gradient} of {size}");
        }
    }
}

#[test]
fn each_step_lowers_the_output_error() {
    let (rows, cols) = (64, 160);
    let (dense, inputs) = (weight(rows, cols, 1), inputs(cols, 1));
    let error = |score, recover, name| {
        compress(method(score, recover), &dense, name, &inputs)
            .output_error
            .unwrap()
    };
    for name in FORMATS {
        let rounded = error(Score::Magnitude, false, name);
        let wanda = error(Score::Wanda, false, name);
        let compensated = error(Score::SparseGpt, false, name);
        let recovered = error(Score::SparseGpt, true, name);
        assert!(
            wanda <= rounded,
            "{name}: wanda {wanda}, magnitude {rounded}"
        );
        assert!(
            compensated < wanda,
            "{name}: compensated {compensated}, wanda {wanda}"
        );
        assert!(
            recovered < compensated,
            "{name}: recovered {recovered}, compensated {compensated}"
        );
        for score in [Score::Magnitude, Score::Wanda, Score::Ria] {
            let (before, after) = (error(score, false, name), error(score, true, name));
            assert!(
                after < before,
                "{name}, {score:?}: recovered {after}, before {before}"
            );
        }
    }
}

#[test]
fn the_output_error_is_that_of_the_samples() {
    let (rows, cols, count) = (5, 24, 200);
    let (dense, x) = (weight(rows, cols, 2), common::samples(count, cols, 2));
    let inputs = common::moments(&x, cols);
    let packed = lacuna::compress::compress(&dense, format("1:3")).unwrap();
    let back = packed.to_dense();
    let (mut lost, mut norm) = (0.0, 0.0);
    for x in x.chunks(cols) {
        for row in 0..rows {
            let product =
                |w: &Dense| -> f64 { (0..cols).map(|c| x[c] * f64::from(w.get(row, c))).sum() };
            lost += (product(&dense) - product(&back)).powi(2);
            norm += product(&dense).powi(2);
        }
    }
    let known = output_error(&dense, &packed, &inputs).unwrap().unwrap();
    let seen = f64::sqrt(lost / norm);
    assert!(
        (known - seen).abs() < 1e-5 * seen,
        "{known} by the Hessian, {seen} seen"
    );
    let moments = common::without_hessian(&inputs);
    assert_eq!(output_error(&dense, &packed, &moments).unwrap(), None);
}

#[test]
fn threads_do_not_change_a_bit() {
    let (dense, inputs) = (weight(70, 140, 4), inputs(140, 4));
    for name in FORMATS {
        for (score, recover) in [
            (Score::Ria, false),
            (Score::SparseGpt, false),
            (Score::SparseGpt, true),
        ] {
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| compress(method(score, recover), &dense, name, &inputs))
            };
            assert_eq!(with(1), with(2), "{name}, {score:?}, recover {recover}");
        }
    }
}

#[test]
fn a_weight_is_in_the_format_asked_for() {
    let (dense, inputs) = (weight(10, 50, 6), inputs(50, 6));
    for name in FORMATS.into_iter().chain(["f16", "f32"]) {
        for recover in [false, true] {
            let packed = compress(method(Score::SparseGpt, recover), &dense, name, &inputs).matrix;
            let dtype = lacuna::format::Dtype::F32;
            assert_eq!(packed.format(), format(name).or_dtype(dtype), "{name}");
            assert!(matches!(format(name), Format::Dense(_)) || packed.to_dense() != dense);
        }
    }
}
