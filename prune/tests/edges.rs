//! Shapes and inputs at the limits, and what is refused.

mod common;

use common::{FORMATS, SCORES, format, inputs, method, weight, without_hessian};
use lacuna::format::{Dense, Dtype};
use lacuna_prune::{Error, Inputs, Method, Score, output_error};

/// Every score, with and without recovery.
fn methods() -> impl Iterator<Item = Method> {
    SCORES
        .into_iter()
        .flat_map(|score| [false, true].map(|recover| method(score, recover)))
}

#[test]
fn every_shape_works_in_every_format() {
    for (rows, cols) in [
        (1, 1),
        (3, 7),
        (2, 130),
        (33, 3),
        (1, 40),
        (0, 5),
        (5, 0),
        (35, 257),
    ] {
        let (dense, inputs) = (weight(rows, cols, 8), inputs(cols, 8));
        for name in FORMATS {
            for method in methods() {
                let done = method.compress(&dense, format(name), Some(&inputs));
                let done =
                    done.unwrap_or_else(|e| panic!("{rows} x {cols}, {name}, {method:?}: {e}"));
                assert_eq!((done.matrix.rows(), done.matrix.cols()), (rows, cols));
                let error = done.output_error.unwrap();
                assert!(
                    (0.0..2.0).contains(&error),
                    "{rows} x {cols}, {name}, {method:?}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_weight_of_zeros_stays_one() {
    let dense = Dense::from_f32(6, 40, vec![0.0; 240]).unwrap();
    let inputs = inputs(40, 9);
    for name in FORMATS {
        for method in methods() {
            let done = method
                .compress(&dense, format(name), Some(&inputs))
                .unwrap();
            assert_eq!(done.matrix.to_dense(), dense, "{name}, {method:?}");
            assert_eq!(done.output_error, Some(0.0));
        }
    }
}

/// Inputs every third of which is always 0.
fn partly_dead(cols: usize) -> Inputs {
    let mut x = common::samples(4 * cols, cols, 10);
    x.iter_mut()
        .enumerate()
        .filter(|(i, _)| i % cols % 3 == 0)
        .for_each(|(_, x)| *x = 0.0);
    common::moments(&x, cols)
}

#[test]
fn dead_columns_are_dropped_and_change_nothing() {
    let (rows, cols) = (8, 45);
    let (dense, inputs) = (weight(rows, cols, 11), partly_dead(45));
    let mut values = dense.values().to_f32();
    for (i, value) in values.iter_mut().enumerate() {
        *value *= if i % cols % 3 == 0 { 100.0 } else { 1.0 };
    }
    let heavier = Dense::from_f32(rows, cols, values).unwrap();
    for name in ["1:3", "2:4x2", "w4g8", "w4g16s50", "2:4+w4row"] {
        for recover in [false, true] {
            let method = method(Score::SparseGpt, recover);
            let compress = |dense| {
                method
                    .compress(dense, format(name), Some(&inputs))
                    .unwrap()
                    .matrix
            };
            let (light, heavy) = (compress(&dense).to_dense(), compress(&heavier).to_dense());
            assert_eq!(light, heavy, "{name}, recover {recover}");
            assert!((0..rows * cols).all(|i| i % cols % 3 != 0 || light.values().get(i) == 0.0));
        }
    }
    let all_dead = Inputs::new(
        1,
        vec![0.0; cols],
        vec![0.0; cols],
        Some(vec![0.0; cols * cols]),
    )
    .unwrap();
    for name in FORMATS {
        for method in methods() {
            let done = method
                .compress(&dense, format(name), Some(&all_dead))
                .unwrap();
            assert_eq!(done.output_error, Some(0.0), "{name}, {method:?}");
        }
    }
}

#[test]
fn fewer_samples_than_columns_are_enough() {
    let (dense, cols) = (weight(6, 64, 12), 64);
    let inputs = common::moments(&common::samples(3, cols, 12), cols);
    for name in FORMATS {
        for method in methods() {
            let done = method
                .compress(&dense, format(name), Some(&inputs))
                .unwrap();
            assert!(done.output_error.unwrap().is_finite(), "{name}, {method:?}");
        }
    }
}

#[test]
fn a_method_says_what_it_lacks() {
    let (dense, known) = (weight(4, 16, 13), inputs(16, 13));
    let moments = without_hessian(&known);
    for name in FORMATS {
        for method in methods() {
            let of = |inputs| method.compress(&dense, format(name), inputs);
            assert!(of(Some(&known)).is_ok());
            let needs_hessian = method.score == Score::SparseGpt || method.recover;
            assert_eq!(method.needs_hessian(format(name)), needs_hessian);
            assert!(!method.needs_hessian(format("f16")));
            if needs_hessian {
                for inputs in [None, Some(&moments)] {
                    let refused = of(inputs).unwrap_err();
                    assert!(matches!(refused, Error::NoHessian { .. }), "{refused}");
                    assert!(refused.to_string().contains("calibrate with Hessians"));
                }
            } else {
                assert!(of(Some(&moments)).is_ok());
                match of(None) {
                    Ok(done) => {
                        assert_eq!((method.score, done.output_error), (Score::Magnitude, None));
                    }
                    Err(refused) => assert!(matches!(refused, Error::NoInputs { .. }), "{refused}"),
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_or_does_not_fit_is_refused() {
    let inputs = inputs(8, 14);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = vec![1.0; 16];
        values[11] = bad;
        let dense = Dense::from_f32(2, 8, values).unwrap();
        for name in FORMATS {
            for method in methods() {
                let refused = method
                    .compress(&dense, format(name), Some(&inputs))
                    .unwrap_err();
                let Error::Engine(lacuna::Error::NotFinite { row: 1, col: 3, .. }) = refused else {
                    panic!("{name}, {method:?}: {refused}")
                };
            }
        }
    }
    let large = Dense::from_f32(2, 8, vec![1e5; 16]).unwrap();
    for method in methods() {
        let refused = method
            .compress(&large, format("2:4@f16"), Some(&inputs))
            .unwrap_err();
        let Error::Engine(lacuna::Error::Overflow {
            dtype: Dtype::F16, ..
        }) = refused
        else {
            panic!("{method:?}: {refused}")
        };
        let narrow = weight(2, 7, 1);
        let refused = method
            .compress(&narrow, format("2:4"), Some(&inputs))
            .unwrap_err();
        let Error::Engine(lacuna::Error::Shape {
            got: 8,
            expected: 7,
            ..
        }) = refused
        else {
            panic!("{method:?}: {refused}")
        };
    }
    let packed = lacuna::compress::compress(&large, format("2:4")).unwrap();
    for (rows, cols) in [(3, 8), (2, 9)] {
        assert!(output_error(&weight(rows, cols, 1), &packed, &inputs).is_err());
    }
}

#[test]
fn a_hessian_that_is_none_is_refused() {
    let mut hessian = vec![1.0f32; 64];
    hessian.iter_mut().step_by(9).for_each(|h| *h = 0.5);
    let inputs = Inputs::new(1, vec![0.0; 8], vec![0.5; 8], Some(hessian)).unwrap();
    for name in ["2:4", "w4g8", "w4g8s50"] {
        let refused = method(Score::SparseGpt, false)
            .compress(&weight(2, 8, 15), format(name), Some(&inputs))
            .unwrap_err();
        assert!(matches!(refused, Error::NotPositive { .. }), "{refused}");
    }
}

#[test]
fn weights_of_any_size_compress() {
    let (dense, inputs) = (weight(5, 48, 16), inputs(48, 16));
    for scale in [1e-24f32, 1e24] {
        let values = dense
            .values()
            .to_f32()
            .into_iter()
            .map(|w| w * scale)
            .collect();
        let scaled = Dense::from_f32(5, 48, values).unwrap();
        for name in ["2:4", "w4g16", "2:4+w3g8", "w4g16s50"] {
            for method in methods() {
                let error = |dense| {
                    let done = method.compress(dense, format(name), Some(&inputs)).unwrap();
                    done.output_error.unwrap()
                };
                let (plain, scaled) = (error(&dense), error(&scaled));
                assert!(
                    (plain - scaled).abs() < 0.02,
                    "{name}, {method:?}: {plain} {scaled}"
                );
            }
        }
    }
}
