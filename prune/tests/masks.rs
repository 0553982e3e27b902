//! Which weights are kept, compared with naive choices.

mod common;

use common::{Random, SCORES, compress, format, inputs, mask, method, weight, without_hessian};
use lacuna::format::{Dense, Format};
use lacuna_prune::{Inputs, Score};
use proptest::prelude::*;

/// The score of one weight, from its definition.
fn score(score: Score, dense: &Dense, inputs: &Inputs, row: usize, col: usize) -> f64 {
    let w = |row, col| f64::from(dense.get(row, col)).abs();
    let square = f64::from(inputs.mean_square()[col]);
    match score {
        Score::Magnitude => w(row, col).powi(2),
        Score::Wanda => w(row, col).powi(2) * square,
        Score::Ria => {
            let of_row: f64 = (0..dense.cols()).map(|c| w(row, c)).sum();
            let of_col: f64 = (0..dense.rows()).map(|r| w(r, col)).sum();
            w(row, col) * (1.0 / of_row + 1.0 / of_col) * square.sqrt().sqrt()
        }
        Score::SparseGpt => unreachable!("it has tests of its own"),
    }
}

/// Positions of the `count` largest scores.
fn largest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(count);
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn windows_keep_the_largest_sums_of_scores(
        rows in 1usize..12, cols in 1usize..40, m in 1usize..9, n in 1usize..9, v in 1usize..6,
        which in 0usize..3, seed in any::<u64>(),
    ) {
        let n = n.min(m);
        let kind = [Score::Magnitude, Score::Wanda, Score::Ria][which];
        let (dense, inputs) = (weight(rows, cols, seed), without_hessian(&inputs(cols, seed)));
        let packed = compress(method(kind, false), &dense, &format!("{n}:{m}x{v}"), &inputs).matrix;
        let kept = mask(&packed);
        for first in (0..rows).step_by(v) {
            let set = first..rows.min(first + v);
            for start in (0..cols).step_by(m) {
                let window = start..cols.min(start + m);
                let sum = |col| set.clone().map(|row| score(kind, &dense, &inputs, row, col)).sum();
                let scores: Vec<f64> = window.clone().map(sum).collect();
                let best = largest(&scores, n);
                for row in set.clone() {
                    for col in window.clone() {
                        prop_assert_eq!(kept[row * cols + col], best.contains(&(col - start)));
                    }
                }
            }
        }
    }

    #[test]
    fn groups_keep_the_largest_sums_of_scores(
        rows in 1usize..9, cols in 1usize..70, percent in 1u32..99, ragged in any::<bool>(),
        which in 0usize..4, seed in any::<u64>(),
    ) {
        let kind = SCORES[which];
        let (dense, inputs) = (weight(rows, cols, seed), inputs(cols, seed));
        let name = format!("w4g8s{percent}{}", if ragged { "-ragged" } else { "" });
        let packed = compress(method(kind, false), &dense, &name, &inputs).matrix;
        let Format::Gqs { pruning, .. } = format(&name) else { unreachable!() };

        let groups = cols.div_ceil(8);
        let columns = |group: usize| group * 8..cols.min(group * 8 + 8);
        let hessian = inputs.hessian().unwrap();
        let loss = |row, group| -> f64 {
            let pairs = columns(group).flat_map(|i| columns(group).map(move |j| (i, j)));
            pairs.map(|(i, j)| {
                let h = f64::from(hessian[i * cols + j]);
                f64::from(dense.get(row, i)) * h * f64::from(dense.get(row, j))
            }).sum()
        };
        let of_group = |row, group| match kind {
            Score::SparseGpt => loss(row, group),
            kind => columns(group).map(|col| score(kind, &dense, &inputs, row, col)).sum(),
        };
        let scores: Vec<f64> =
            (0..rows * groups).map(|at| of_group(at / groups, at % groups)).collect();
        let best: Vec<usize> = if ragged {
            largest(&scores, pruning.kept(scores.len()))
        } else {
            let of_row = |row: usize| {
                let best = largest(&scores[row * groups..][..groups], pruning.kept(groups));
                best.into_iter().map(move |group| row * groups + group)
            };
            (0..rows).flat_map(of_row).collect()
        };
        for (at, kept) in mask(&packed).into_iter().enumerate() {
            prop_assert_eq!(kept, best.contains(&(at / cols * groups + at % cols / 8)));
        }
    }

    #[test]
    fn uncorrelated_inputs_make_sparsegpt_choose_by_magnitude(
        rows in 1usize..9, cols in 1usize..50, name in "[123]:[45](x[123])?", seed in any::<u64>(),
    ) {
        let dense = weight(rows, cols, seed);
        let identity = (0..cols * cols).map(|i| f32::from(u8::from(i % (cols + 1) == 0))).collect();
        let inputs = Inputs::new(1, vec![0.0; cols], vec![1.0; cols], Some(identity)).unwrap();
        let by = |score| compress(method(score, false), &dense, &name, &inputs).matrix;
        prop_assert_eq!(by(Score::SparseGpt), by(Score::Magnitude));
        let pruned = lacuna::compress::compress(&dense, format(&name)).unwrap();
        prop_assert_eq!(by(Score::Magnitude), pruned);
    }
}

/// Damping by a share of the mean diagonal would drown all ordinary inputs.
#[test]
fn one_large_input_does_not_decide_which_other_groups_stay() {
    let (cols, group) = (64, 8);
    let even = |col: usize| col / group % 2 == 0;
    // 8 · 4 · 0.6² for even groups, 8 · 1 · 1² for odd ones.
    let values = (0..cols).map(|col| if even(col) { 0.6 } else { 1.0 });
    let dense = Dense::from_f32(1, cols, values.collect()).unwrap();
    let mut squares: Vec<f32> = (0..cols)
        .map(|col| if even(col) { 4.0 } else { 1.0 })
        .collect();
    squares[0] = 1e6;
    let mut hessian = vec![0.0; cols * cols];
    for (col, &square) in squares.iter().enumerate() {
        hessian[col * (cols + 1)] = square;
    }
    let inputs = Inputs::new(1, vec![0.0; cols], squares, Some(hessian)).unwrap();
    for recover in [false, true] {
        let packed = compress(
            method(Score::SparseGpt, recover),
            &dense,
            "w8g8s50",
            &inputs,
        )
        .matrix;
        let kept: Vec<bool> = (0..cols).map(even).collect();
        assert_eq!(mask(&packed), kept, "recovery: {recover}");
    }
}

#[test]
fn magnitude_without_inputs_is_what_the_engine_does() {
    let dense = weight(9, 50, 3);
    let names = common::FORMATS
        .iter()
        .copied()
        .chain(["f16", "bf16", "f32"]);
    for name in names {
        let ours = method(Score::Magnitude, false)
            .compress(&dense, format(name), None)
            .unwrap();
        let engines = lacuna::compress::compress(&dense, format(name)).unwrap();
        assert_eq!(ours.matrix, engines, "{name}");
        assert_eq!(ours.output_error, None);
    }
}

#[test]
fn importances_choose_other_scales() {
    let (cols, mut random) = (64, Random(5));
    let dense = weight(4, cols, 5);
    // Every 16th column counts, the others hardly do.
    let square: Vec<f32> = (0..cols)
        .map(|c| if c % 16 == 0 { 1e4 } else { 1e-4 })
        .collect();
    let mean = (0..cols).map(|_| random.next() as f32 * 1e-3).collect();
    let inputs = Inputs::new(1, mean, square.clone(), None).unwrap();
    let cost = |matrix: &lacuna::format::Matrix| -> f64 {
        let back = matrix.to_dense();
        let error = |row, col| f64::from(dense.get(row, col) - back.get(row, col)).powi(2);
        let at = (0..4).flat_map(|row| (0..cols).map(move |col| (row, col)));
        at.map(|(row, col)| error(row, col) * f64::from(square[col]))
            .sum()
    };
    let plain = lacuna::compress::compress(&dense, format("w2g16")).unwrap();
    for score in [Score::Magnitude, Score::Wanda, Score::Ria] {
        let weighted = compress(method(score, false), &dense, "w2g16", &inputs).matrix;
        assert!(cost(&weighted) < 0.9 * cost(&plain), "{score:?}");
    }
}
