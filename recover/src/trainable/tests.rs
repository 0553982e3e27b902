use super::*;
use lacuna::{compress::compress, format::Dense, verify::Random};

/// Every kind of packed weight, some with a last group or window that is cut short.
const FORMATS: [&str; 13] = [
    "f32",
    "bf16",
    "2:4@f16",
    "1:8x4@bf16",
    "3:5@f32",
    "w4g16",
    "w2g64",
    "w3row-sym",
    "w3g8-real",
    "2:4+w4g16",
    "w4g16s50",
    "w4g8s30-ragged",
    "w2g16s50-sym",
];

fn dense(rows: usize, cols: usize, scale: f32) -> Dense {
    let values = Random(rows as u64).vector(rows * cols);
    Dense::from_f32(rows, cols, values.iter().map(|v| v * scale).collect()).unwrap()
}

fn packed(dense: &Dense, format: &str) -> Matrix {
    compress(dense, format.parse().unwrap()).unwrap()
}

/// `weight` must be exactly what `to_matrix` decodes to, whether parameters moved or not.
fn check_agreement(trainable: &Trainable) {
    let matrix = trainable.to_matrix().unwrap();
    assert_eq!(trainable.weight(), matrix.to_dense().values().to_f32());
}

#[test]
fn what_was_not_moved_comes_back_bit_for_bit() {
    for format in FORMATS {
        // Scales far from 1 share a factor, `Codes::factor`.
        for (scale, usual) in [(0.04, true), (1e-9, false), (1e7, false)] {
            if !usual && format.contains("f16") {
                continue;
            }
            let dense = dense(9, 42, scale);
            let matrix = packed(&dense, format);
            for trained in [Trained::Values, Trained::Scales] {
                let trainable = Trainable::from_matrix(&matrix, trained).unwrap();
                assert_eq!(trainable.to_matrix().unwrap(), matrix, "{format}");
                check_agreement(&trainable);
            }
        }
    }
}

#[test]
fn what_was_moved_keeps_format_and_mask_and_is_what_the_network_saw() {
    for format in FORMATS {
        let dense = dense(7, 50, 0.1);
        let matrix = packed(&dense, format);
        for trained in [Trained::Values, Trained::Scales] {
            let mut trainable = Trainable::from_matrix(&matrix, trained).unwrap();
            let mut random = Random(3);
            trainable.update(|p| p.iter_mut().for_each(|p| *p += 0.3 * random.signed()));
            check_agreement(&trainable);
            let moved = trainable.to_matrix().unwrap();
            assert_eq!(moved.format(), matrix.format());
            assert_eq!(
                moved == matrix,
                trainable.parameters().is_empty(),
                "{format}"
            );
            let mask = |m: &Matrix, row| m.entries(row).map(|e| e.col).collect::<Vec<_>>();
            for row in 0..7 {
                assert_eq!(mask(&moved, row), mask(&matrix, row));
            }
            if trained == Trained::Scales {
                let codes = |m: &Matrix| m.codes().map(|c| c.codes().to_vec());
                // Spare slots hold the zero's code, so they change with it: compared only where there are none.
                if matrix.cols() % 16 == 0 {
                    assert_eq!(codes(&moved), codes(&matrix), "{format}");
                }
            }
        }
    }
}

/// With codes frozen, a weight is linear in its scale and its zero: differences are derivatives.
#[test]
fn scales_and_zeros_have_the_gradient_of_differences() {
    for format in [
        "w4g16",
        "w3row-sym",
        "w3g8-real",
        "2:4+w4g16",
        "w4g16s50",
        "w2g16s50-sym",
    ] {
        let dense = dense(4, 32, 0.1);
        let matrix = packed(&dense, format);
        let start = Trainable::from_matrix(&matrix, Trained::Scales).unwrap();
        let of_weight = Random(8).vector(4 * 32);
        let gradient = start.gradient(&of_weight).unwrap();
        let loss = |t: &Trainable| -> f64 {
            let products = t.weight().into_iter().zip(&of_weight);
            products.map(|(w, g)| f64::from(w) * f64::from(*g)).sum()
        };
        for (i, got) in gradient.into_iter().enumerate() {
            // Twice an f16 is an f16, and zeros are whole numbers, so nothing is rounded.
            let mut moved = start.clone();
            let inside = |zero: f32| if zero >= 1.0 { -1.0 } else { 1.0 };
            let scales = matrix.codes().unwrap().scales().len();
            let by = if i < scales {
                1.0
            } else {
                inside(start.parameters[i])
            };
            moved.parameters[i] += by;
            let expected = (loss(&moved) - loss(&start)) / f64::from(by);
            let got = f64::from(got);
            assert!(
                (got - expected).abs() <= 1e-5 * expected.abs().max(0.1),
                "{format} {i}: {got} {expected}"
            );
        }
    }
}

#[test]
fn rounding_is_passed_straight_through_up_to_the_last_code() {
    let dense = Dense::from_f32(1, 8, vec![0.0, 1.0, 2.0, 3.0, 0.4, 1.2, 2.0, 1.0]).unwrap();
    let matrix = packed(&dense, "w2g8");
    let mut trainable = Trainable::from_matrix(&matrix, Trained::Values).unwrap();
    // With scale 1 and zero 0, values are codes.
    let mut parameters = dense.values().to_f32();
    (parameters[0], parameters[3]) = (-0.75, 4.0);
    parameters.extend([1.0, 0.0]);
    trainable.set_parameters(parameters).unwrap();
    assert_eq!(trainable.weight(), [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 1.0]);
    let gradient = trainable.gradient(&[1.0; 8]).unwrap();
    assert_eq!(gradient[..8], [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    // Clamped values contribute 0 and 3, rounded ones −0.4 and −0.2.
    assert!((gradient[8] - 2.4).abs() < 1e-6, "{}", gradient[8]);
    assert!((gradient[9] + 2.0).abs() < 1e-6);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let matrix = packed(&dense(4, 16, 1.0), "w4g16");
    let mut trainable = Trainable::from_matrix(&matrix, Trained::Values).unwrap();
    assert!(trainable.gradient(&[0.0; 63]).is_err());
    assert!(trainable.set_parameters(vec![0.0; 3]).is_err());
    // Overflow is an error, not a panic.
    let halves = packed(&dense(4, 16, 1.0), "2:4@f16");
    let mut trainable = Trainable::from_matrix(&halves, Trained::Values).unwrap();
    trainable.update(|p| p[0] = 1e9);
    assert!(matches!(trainable.to_matrix(), Err(Error::Engine(_))));
    trainable.update(|p| p[0] = f32::NAN);
    assert!(matches!(trainable.to_matrix(), Err(Error::Engine(_))));
}
