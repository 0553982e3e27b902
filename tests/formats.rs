//! Formats against brute force, and every way in which they can be malformed.

// Formats promise exact bits.
#![allow(clippy::float_cmp)]

use lacuna::{
    Error, compress,
    format::{
        Codes, Columns, Dense, Dtype, Format, Gqs, GroupPruning, Matrix, Nm, Pattern, Quant,
        Quantized, Values, ZeroPoint, Zeros, bits,
    },
};
use proptest::prelude::*;

fn pattern() -> impl Strategy<Value = Pattern> {
    (1usize..=32, 1usize..=32, prop_oneof![Just(1), 1usize..=9])
        .prop_map(|(a, b, v)| Pattern::vector(a.min(b), a.max(b), v).unwrap())
}

/// Weights with many zeros and many ties.
fn dense(dtype: Dtype) -> impl Strategy<Value = Dense> {
    (0usize..20, 0usize..70).prop_flat_map(move |(rows, cols)| {
        proptest::collection::vec(-3i8..=3, rows * cols).prop_map(move |values| {
            let values: Vec<f32> = values.into_iter().map(|v| f32::from(v.max(-2))).collect();
            Dense::new(rows, cols, Values::round(dtype, &values).unwrap()).unwrap()
        })
    })
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::Bf16)]
}

const ZERO_POINTS: [ZeroPoint; 3] = [ZeroPoint::Middle, ZeroPoint::Code, ZeroPoint::Real];

fn quant() -> impl Strategy<Value = Quant> {
    let group = prop_oneof![Just(None), (1usize..=16).prop_map(|g| Some(8 * g))];
    (2u32..=8, group, prop::sample::select(ZERO_POINTS.to_vec()))
        .prop_map(|(b, g, z)| Quant::new(b, g, z).unwrap())
}

/// A quantised format of any kind.
fn coded() -> impl Strategy<Value = Format> {
    let pruned = (quant(), 1u32..=99, any::<bool>()).prop_map(|(quant, percent, ragged)| {
        let group = quant.group().or(Some(8));
        let zero_point = match quant.zero_point() {
            ZeroPoint::Real => ZeroPoint::Code,
            other => other,
        };
        Format::Gqs {
            quant: Quant::new(quant.bits(), group, zero_point).unwrap(),
            pruning: GroupPruning::new(percent, ragged).unwrap(),
        }
    });
    let with = (quant(), proptest::option::of(pattern())).prop_map(|(quant, pattern)| {
        let whole = |p: &Pattern| quant.group().is_none_or(|g| g % p.m() == 0);
        let pattern = pattern.filter(whole);
        Format::Quantized { pattern, quant }
    });
    prop_oneof![pruned, with]
}

#[test]
fn a_scaled_grid_keeps_its_codes_and_scales_that_may_be_stored() {
    let dense = Dense::from_f32(1, 8, vec![-0.5, 0.25, 1.0, 0.75, 0.5, 0.0, -0.25, 0.125]).unwrap();
    for zero_point in ZERO_POINTS {
        let quantizer =
            compress::Quantizer::new(Quant::new(2, Some(8), zero_point).unwrap(), &dense);
        let grid = quantizer.grid(&dense.values().to_f32(), None);
        let wider = grid.scaled(1.25);
        assert!((wider.step() / grid.step() - 1.25).abs() < 1e-3);
        for code in 0..4 {
            assert_eq!(wider.code(wider.value(code)), code);
            assert_eq!(wider.value(code) == 0.0, grid.value(code) == 0.0);
        }
        let least = grid.scaled(1e-9);
        assert!(least.step().abs() >= Codes::MIN_SCALE);
        assert_eq!(least.step() < 0.0, grid.step() < 0.0);
    }
}

/// Scales that are all valid, from any bits.
fn scales(count: usize, bits: &[u16]) -> Vec<half::f16> {
    let normal = |i: usize| half::f16::from_bits(bits[i % bits.len()] & 0xbfff | 0x0400);
    (0..count).map(normal).collect()
}

proptest! {
    #[test]
    fn the_error_of_a_code_is_half_a_step_inside_the_span(
        (rows, cols, values) in (1usize..6, 1usize..70).prop_flat_map(|(rows, cols)| {
            let value = prop_oneof![Just(0.0f32), -1.0f32..1.0];
            (Just(rows), Just(cols), proptest::collection::vec(value, rows * cols))
        }),
        size in prop::sample::select(vec![1e-25f32, 1e-6, 1.0, 300.0, 1e20]),
        quant in quant(),
    ) {
        let values: Vec<f32> = values.into_iter().map(|v| v * size).collect();
        let dense = Dense::from_f32(rows, cols, values).unwrap();
        let weight = compress::quantize(&dense, None, quant).unwrap();
        let codes = weight.codes();
        let back = Matrix::from(weight.clone()).to_dense();
        for row in 0..rows {
            for col in 0..cols {
                let group = row * weight.groups() + col / quant.group_cols(cols);
                let (w, decoded) = (dense.get(row, col), back.get(row, col));
                if w == 0.0 && !quant.real_zeros() {
                    prop_assert_eq!(decoded, 0.0);
                }
                let step = f64::from(codes.factor()) * f64::from(codes.scales()[group].to_f32());
                let place = f64::from(w) / step + f64::from(codes.zero(group));
                let error = (f64::from(w) - f64::from(decoded)).abs() / step.abs();
                if (0.0..=f64::from(quant.max_code())).contains(&place) {
                    prop_assert!(error <= 0.5001, "{w} became {decoded}, step {step}");
                } else if !quant.symmetric() {
                    // Zero and scale were rounded, so numbers at the ends may be off by more than half a step.
                    prop_assert!(error <= 0.7, "{w} became {decoded}, step {step}");
                }
            }
        }
    }

    #[test]
    fn a_real_zero_far_from_0_is_right_to_half_a_step(value in -1e3f32..1e3, bits in 2u32..=8) {
        let quant = Quant::new(bits, None, ZeroPoint::Real).unwrap();
        let dense = Dense::from_f32(1, 1, vec![value]).unwrap();
        let weight = compress::quantize(&dense, None, quant).unwrap();
        let step = weight.codes().scales()[0].to_f32() * weight.codes().factor();
        let error = (Matrix::from(weight).to_dense().get(0, 0) - value).abs();
        prop_assert!(error <= 0.5001 * step, "{value}: off by {error}, step {step}");
    }

    #[test]
    fn a_quantised_format_is_read_as_it_is_written(format in coded()) {
        prop_assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }

    #[test]
    fn any_text_is_a_format_or_refused(text in "[0-9]{0,2}:?[0-9]?[+]?w[0-9]{0,2}(g|row|s|-)[0-9]{0,3}(s[0-9]{0,3})?(-sym|-real|-ragged){0,2}") {
        if let Ok(format) = text.parse::<Format>() {
            prop_assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
    }

    #[test]
    fn group_metadata_of_any_numbers_is_refused_or_stays_in_bounds(
        rows in 0usize..5, cols in 0usize..40, percent in 1u32..=99, ragged: bool,
        offsets in proptest::collection::vec(prop_oneof![0u32..8, any::<u32>()], 0..6),
        indices in proptest::collection::vec(prop_oneof![0u32..6, any::<u32>()], 0..8),
        rising: bool, fitting: bool, bits in proptest::collection::vec(any::<u16>(), 1..9),
    ) {
        let (mut offsets, mut indices) = (offsets, indices);
        if rising {
            offsets.sort_unstable();
            indices.sort_unstable();
            indices.dedup();
        }
        if fitting {
            offsets.resize(rows + 1, indices.len() as u32);
            offsets[0] = 0;
            offsets[rows] = indices.len() as u32;
        }
        let quant = Quant::new(3, Some(8), ZeroPoint::Middle).unwrap();
        let kept = indices.len();
        let codes = Codes::new(quant, vec![7; 8 * kept], scales(kept, &bits), Zeros::none(quant), 1.0).unwrap();
        let pruning = GroupPruning::new(percent, ragged).unwrap();
        if let Ok(weight) = Gqs::from_parts(rows, cols, pruning, offsets, indices, codes) {
            let weight = Matrix::from(weight);
            prop_assert_eq!(weight.to_dense().cols(), cols);
            for row in 0..rows {
                let columns: Vec<usize> = weight.entries(row).map(|e| e.col).collect();
                prop_assert!(columns.is_sorted() && columns.iter().all(|&c| c < cols));
            }
        }
    }

    #[test]
    fn codes_of_any_number_and_bits_are_refused_or_stay_in_bounds(
        rows in 0usize..4, cols in 0usize..24, quant in quant(), pattern in proptest::option::of(pattern()),
        codes in 0usize..100, groups in 0usize..12, zeros in 0usize..12, fitting: bool,
        any in any::<u8>(), scale in any::<u16>(), factor in any::<u32>(),
    ) {
        let columns = pattern.map(|p| Columns::select(p, rows, cols, |_, _, _| {}).unwrap());
        let (codes, groups, zeros) = if fitting {
            let groups = rows * quant.groups(cols);
            let slots = columns.as_ref().map_or(cols, Columns::slots);
            (rows * slots, groups, if quant.symmetric() { 0 } else { groups })
        } else {
            (codes, groups, zeros)
        };
        let factor = if fitting { 0.5 } else { f32::from_bits(factor) };
        let scale = half::f16::from_bits(scale);
        let zeros_of = match quant.zero_point() {
            ZeroPoint::Real => vec![half::f16::from_bits(u16::from(any) << 7); zeros].into(),
            _ => vec![any; zeros].into(),
        };
        let made = Codes::new(quant, vec![any; codes], vec![scale; groups], zeros_of, factor);
        if let Ok(codes) = made {
            prop_assert!(any <= quant.max_code() || codes.codes().is_empty() && (zeros == 0 || quant.real_zeros()));
            prop_assert!(factor.to_bits().trailing_zeros() >= 23 && factor > 0.0);
            if let Ok(weight) = Quantized::new(rows, cols, columns, codes) {
                let dense = Matrix::from(weight).to_dense();
                prop_assert!(dense.values().to_f32().iter().all(|v| v.is_finite()));
            } else {
                // What fits is refused only if a group would end inside a window.
                prop_assert!(!fitting || pattern.is_some());
            }
        }
    }

    #[test]
    fn pruning_keeps_the_heaviest_columns_of_each_window(
        dense in dtype().prop_flat_map(dense),
        pattern in pattern(),
    ) {
        let pruned: Matrix = compress::prune_by_magnitude(&dense, pattern).unwrap().into();
        let back = pruned.to_dense();
        for first in (0..dense.rows()).step_by(pattern.v()) {
            let rows = first..dense.rows().min(first + pattern.v());
            for start in (0..dense.cols()).step_by(pattern.m()) {
                let columns = start..dense.cols().min(start + pattern.m());
                let weight = |col: usize| rows.clone().map(|r| dense.get(r, col).powi(2)).sum::<f32>();
                // Oracle: a column is kept if fewer than n beat it, with ties going to the lower column.
                for col in columns.clone() {
                    let beaten_by = columns
                        .clone()
                        .filter(|&c| weight(c) > weight(col) || (weight(c) == weight(col) && c < col))
                        .count();
                    for row in rows.clone() {
                        let expected = if beaten_by < pattern.n() { dense.get(row, col) } else { 0.0 };
                        prop_assert_eq!(back.get(row, col), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn what_pruning_made_converts_exactly_and_survives_its_parts(
        dense in dtype().prop_flat_map(dense),
        pattern in pattern(),
    ) {
        let pruned = compress::prune_by_magnitude(&dense, pattern).unwrap();
        let back = Matrix::from(pruned.clone()).to_dense().to_dtype(dense.values().dtype()).unwrap();
        let again = Nm::from_dense(&back, pattern).unwrap();
        prop_assert_eq!(Matrix::from(again).to_dense(), back.to_dtype(Dtype::F32).unwrap());
        let parts = Nm::from_parts(
            pattern, pruned.rows(), pruned.cols(), pruned.values().clone(), pruned.columns().indices().to_vec(),
        );
        prop_assert_eq!(parts.unwrap(), pruned);
    }

    #[test]
    fn metadata_of_any_bits_is_refused_or_stays_in_bounds(
        pattern in pattern(),
        rows in 0usize..6,
        cols in 0usize..40,
        seed in any::<u64>(),
    ) {
        let mut random = lacuna::verify::Random(seed);
        let words = bits::words_for(pattern.slots(cols), pattern.index_bits());
        let indices: Vec<u32> = (0..pattern.sets(rows) * words).map(|_| random.bits() as u32).collect();
        let values = Values::F32(vec![1.0; rows * pattern.slots(cols)]);
        if let Ok(weight) = Nm::from_parts(pattern, rows, cols, values, indices) {
            let weight = Matrix::from(weight);
            for row in 0..rows {
                let columns: Vec<usize> = weight.entries(row).map(|e| e.col).collect();
                prop_assert!(columns.windows(2).all(|w| w[0] < w[1]));
                prop_assert!(columns.iter().all(|&c| c < cols));
            }
        }
    }

    #[test]
    fn a_format_is_read_as_it_is_written(pattern in pattern(), dtype in proptest::option::of(dtype())) {
        let format = Format::Nm { pattern, dtype };
        prop_assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }

    #[test]
    fn no_text_breaks_the_grammar(text in ".{0,20}") {
        let _ = text.parse::<Format>();
    }
}

#[test]
fn a_violating_matrix_is_refused_with_the_first_window_and_the_share() {
    // Rows 2 and 3 share an index set: columns 4, 5 and 6 are in use there.
    let mut values = vec![0.0; 4 * 8];
    for (row, col) in [(0, 0), (0, 1), (2, 4), (3, 5), (3, 6)] {
        values[row * 8 + col] = 1.0;
    }
    let dense = Dense::from_f32(4, 8, values).unwrap();
    let pattern = Pattern::vector(2, 4, 2).unwrap();
    let error = Nm::from_dense(&dense, pattern).unwrap_err();
    let expected = Error::Violation {
        pattern,
        row: 2,
        col: 4,
        nonzeros: 3,
        violating: 1,
        windows: 4,
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("25.00 %"), "{error}");
}

#[test]
fn the_worked_row_of_the_format_is_packed_as_drawn() {
    let dense = Dense::from_f32(1, 6, vec![0.0, 5.0, 0.0, 7.0, 9.0, 0.0]).unwrap();
    let nm = Nm::from_dense(&dense, Pattern::new(2, 4).unwrap()).unwrap();
    assert_eq!(nm.values().to_f32(), [5.0, 7.0, 9.0, 0.0]);
    assert_eq!(nm.columns().indices(), [0b01_00_11_01]);
}

#[test]
fn spare_slots_of_a_narrow_last_window_point_at_no_column() {
    let dense = Dense::from_f32(1, 5, vec![1.0; 5]).unwrap();
    let nm = compress::prune_by_magnitude(&dense, Pattern::new(3, 4).unwrap()).unwrap();
    let columns: Vec<usize> = (0..6).map(|slot| nm.columns().column(0, slot)).collect();
    assert_eq!(columns, [0, 1, 2, 4, 5, 6]);
    assert_eq!(Matrix::from(nm).entries(0).count(), 4);
}

#[test]
fn minus_zero_is_a_zero() {
    let dense = Dense::from_f32(1, 4, vec![-0.0, -0.0, 3.0, 0.0]).unwrap();
    assert!(Nm::from_dense(&dense, Pattern::new(1, 4).unwrap()).is_ok());
}

#[test]
fn weights_that_are_not_finite_are_refused_by_place() {
    let dense = Dense::from_f32(2, 2, vec![1.0, 2.0, f32::NAN, 4.0]).unwrap();
    let error = compress::prune_by_magnitude(&dense, Pattern::new(1, 2).unwrap()).unwrap_err();
    assert!(
        matches!(error, Error::NotFinite { row: 1, col: 0, .. }),
        "{error}"
    );
}

#[test]
fn a_value_too_large_for_f16_is_refused_by_place() {
    let dense = Dense::from_f32(1, 3, vec![1.0, 70_000.0, 2.0]).unwrap();
    let error = dense.to_dtype(Dtype::F16).unwrap_err();
    assert!(matches!(error, Error::Overflow { index: 1, .. }), "{error}");
    assert!(error.to_string().contains("65504"), "{error}");
}

#[test]
fn malformed_metadata_is_refused_with_the_rule_it_breaks() {
    let pattern = Pattern::new(2, 4).unwrap();
    let parts = |indices: u32| {
        Nm::from_parts(
            pattern,
            1,
            6,
            Values::F32(vec![1.0, 1.0, 1.0, 1.0]),
            vec![indices],
        )
    };
    let reason = |indices| match parts(indices) {
        Err(Error::Index { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(parts(0b01_00_11_01).is_ok());
    assert_eq!(reason(0b01_00_01_01), "indices of a window must ascend");
    assert_eq!(reason(0b01_00_01_11), "indices of a window must ascend");
    assert_eq!(reason(0b10_00_11_01), "the window has columns left");
    assert_eq!(
        reason(1 << 8 | 0b01_00_11_01),
        "bits are set after the last slot"
    );
    // Rows without columns cost nothing, however many a file claims.
    let empty = Nm::from_parts(pattern, 4_000_000_000, 0, Values::F32(vec![]), vec![]);
    assert_eq!(empty.map(|w| w.slots()), Ok(0));
    let three = Pattern::new(1, 5).unwrap();
    let wide = Nm::from_parts(three, 1, 5, Values::F32(vec![1.0]), vec![5]);
    assert!(matches!(
        wide,
        Err(Error::Index {
            reason: "it is not below m",
            ..
        })
    ));
}

#[test]
fn sections_of_the_wrong_length_are_refused() {
    let pattern = Pattern::new(2, 4).unwrap();
    let short = Nm::from_parts(pattern, 1, 4, Values::F32(vec![1.0]), vec![0b0100]);
    assert!(matches!(
        short,
        Err(Error::Shape {
            what: "values",
            got: 1,
            expected: 2
        })
    ));
    let none = Nm::from_parts(pattern, 1, 4, Values::F32(vec![1.0, 1.0]), vec![]);
    assert!(matches!(
        none,
        Err(Error::Shape {
            what: "index words",
            ..
        })
    ));
    assert!(matches!(
        Dense::from_f32(2, 2, vec![0.0; 3]),
        Err(Error::Shape {
            what: "weight values",
            got: 3,
            expected: 4
        })
    ));
    assert!(matches!(
        Dense::from_f32(usize::MAX, 2, vec![]),
        Err(Error::TooLarge { .. })
    ));
    // The number of slots would overflow.
    let all = Pattern::new(32, 32).unwrap();
    assert!(matches!(
        Nm::from_parts(all, 0, usize::MAX, Values::F32(vec![]), vec![]),
        Err(Error::TooLarge { .. })
    ));
    // And so would the number of groups.
    let quant = Quant::new(4, Some(8), ZeroPoint::Middle).unwrap();
    let half = GroupPruning::new(50, false).unwrap();
    assert!(matches!(
        compress::select_groups(usize::MAX, 64, quant, half, |_, _| 0.0),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn patterns_outside_the_format_are_refused() {
    for (n, m, v) in [
        (0, 4, 1),
        (5, 4, 1),
        (1, 33, 1),
        (1, 64, 1),
        (2, 4, 0),
        (2, 4, 1025),
    ] {
        assert_eq!(Pattern::vector(n, m, v), Err(Error::Pattern { n, m, v }));
    }
    for text in [
        "", "2:", ":4", "2:4x", "2:4x0", "2:4@f8", "f8", "2:4:8", "+2:4", "2 :4", "0x2:4",
    ] {
        assert!(text.parse::<Format>().is_err(), "{text:?}");
    }
}

#[test]
fn a_ragged_weight_keeps_as_many_groups_as_its_format_says() {
    let quant = Quant::new(2, Some(8), ZeroPoint::Middle).unwrap();
    let pruning = GroupPruning::new(50, true).unwrap();
    let weight = |offsets: [u32; 3], indices: &[u32]| {
        let kept = indices.len();
        let codes = Codes::new(
            quant,
            vec![1; 8 * kept],
            scales(kept, &[0x3c00]),
            Zeros::none(quant),
            1.0,
        );
        Gqs::from_parts(
            2,
            32,
            pruning,
            offsets.to_vec(),
            indices.to_vec(),
            codes.unwrap(),
        )
    };
    assert!(weight([0, 4, 4], &[0, 1, 2, 3]).is_ok());
    assert!(weight([0, 1, 4], &[3, 0, 1, 2]).is_ok());
    let few = weight([0, 1, 3], &[0, 0, 1]);
    let what = "kept groups";
    assert_eq!(
        few.unwrap_err(),
        Error::Shape {
            what,
            got: 3,
            expected: 4
        }
    );
}

#[test]
fn some_rows_of_a_weight_are_those_rows() {
    let dense = Dense::from_f32(7, 20, (0..140).map(|i| (i as f32).sin()).collect()).unwrap();
    for format in ["w4g8", "w3row-sym", "w5g16-real"] {
        let Matrix::Quantized(weight) =
            compress::compress(&dense, format.parse().unwrap()).unwrap()
        else {
            panic!("{format} has codes")
        };
        let all = Matrix::from(weight.clone()).to_dense();
        for rows in [0..7, 2..5, 6..7, 3..3] {
            let some = Matrix::from(weight.rows_of(rows.clone()).unwrap());
            assert_eq!(some.format().to_string(), format);
            let expected: Vec<f32> = rows
                .clone()
                .flat_map(|row| (0..20).map(move |col| (row, col)))
                .map(|(row, col)| all.get(row, col))
                .collect();
            assert_eq!(
                some.to_dense().values().to_f32(),
                expected,
                "{format} {rows:?}"
            );
        }
        assert!(matches!(
            weight.rows_of(5..8),
            Err(Error::Shape { got: 8, .. })
        ));
    }
    let Matrix::Quantized(nm) = compress::compress(&dense, "2:4+w4g8".parse().unwrap()).unwrap()
    else {
        panic!("it has codes")
    };
    assert!(matches!(nm.rows_of(0..1), Err(Error::Unfit { .. })));
}

/// Rows of a weight that is not symmetric in any way.
fn slanted(rows: usize, cols: usize, seed: f32) -> Dense {
    let value = |i: usize| (i as f32 * 0.37 + seed).sin() + 0.3;
    Dense::from_f32(rows, cols, (0..rows * cols).map(value).collect()).unwrap()
}

#[test]
fn rows_below_each_other_are_those_rows() {
    for format in [
        "f32",
        "bf16",
        "2:4@f16",
        "3:8x4@f32",
        "w4g8",
        "w3row-sym",
        "w5g16-real",
        "2:4x4+w4g8",
        "w4g8s50",
    ] {
        let pack = |rows, seed| {
            compress::compress(&slanted(rows, 21, seed), format.parse().unwrap()).unwrap()
        };
        let parts = [pack(8, 0.0), pack(0, 0.0), pack(4, 1.0), pack(3, 2.0)];
        let mut all = parts[0].clone();
        for below in &parts[1..] {
            assert!(all.takes(below), "{format}");
            all.append(below).unwrap();
        }
        assert_eq!((all.rows(), all.cols()), (15, 21));
        assert_eq!(all.format(), parts[0].format());
        let mut row = 0;
        for part in &parts {
            for r in 0..part.rows() {
                assert!(all.entries(row).eq(part.entries(r)), "{format} row {row}");
                row += 1;
            }
        }
    }
}

#[test]
fn rows_that_are_no_part_of_one_weight_are_not_appended() {
    let pack = |rows, cols, seed, format: &str| {
        compress::compress(&slanted(rows, cols, seed), format.parse().unwrap()).unwrap()
    };
    let scaled = |factor| {
        let quant = Quant::new(4, Some(8), ZeroPoint::Middle).unwrap();
        let scales = vec![half::f16::ONE];
        let codes = Codes::new(quant, vec![3; 8], scales, Zeros::none(quant), factor).unwrap();
        Matrix::from(Quantized::new(1, 8, None, codes).unwrap())
    };
    for (above, below, wrong) in [
        (pack(4, 8, 0.0, "f32"), pack(4, 8, 0.0, "f16"), "format"),
        (pack(4, 8, 0.0, "f32"), pack(4, 9, 0.0, "f32"), "columns"),
        (scaled(1.0), scaled(2.0), "factor"),
        (
            pack(6, 8, 0.0, "2:4x4@f32"),
            pack(4, 8, 0.0, "2:4x4@f32"),
            "rows above",
        ),
        (
            pack(6, 8, 0.0, "2:4x4+w4g8"),
            pack(4, 8, 0.0, "2:4x4+w4g8"),
            "rows above",
        ),
        (
            pack(4, 32, 0.0, "w4g8s50-ragged"),
            pack(4, 32, 1.0, "w4g8s50-ragged"),
            "format",
        ),
    ] {
        assert!(!above.takes(&below));
        let mut unchanged = above.clone();
        let refused = unchanged.append(&below).unwrap_err();
        assert!(
            matches!(refused, Error::Append { what, .. } if what == wrong),
            "{refused}"
        );
        assert_eq!(unchanged, above);
    }
}

#[test]
fn real_zeros_are_refused_of_kept_groups_and_where_they_are_no_numbers() {
    assert!("w4g16s50-real".parse::<Format>().is_err());
    assert!("w4g16-sym-real".parse::<Format>().is_err());
    let quant = Quant::new(4, Some(8), ZeroPoint::Real).unwrap();
    let one = || vec![half::f16::ONE];
    let codes = |zeros| Codes::new(quant, vec![3; 8], one(), zeros, 1.0);
    let pruning = GroupPruning::new(50, false).unwrap();
    let kept = codes(one().into()).unwrap();
    let refused = Gqs::from_parts(1, 16, pruning, vec![0, 1], vec![0], kept);
    let real = ZeroPoint::Real;
    assert!(matches!(refused, Err(Error::ZeroPoint { got, .. }) if got == real));
    let of_codes = codes(vec![3u8].into()).unwrap_err();
    let code = ZeroPoint::Code;
    assert!(matches!(of_codes, Error::ZeroPoint { got, .. } if got == code));
    let (got, expected) = (2, 1);
    let what = "zeros";
    let two = codes(vec![half::f16::ONE; 2].into());
    assert_eq!(
        two,
        Err(Error::Shape {
            what,
            got,
            expected
        })
    );
    let middle = Quant::new(4, Some(8), ZeroPoint::Middle).unwrap();
    let of_none = Codes::new(middle, vec![3; 8], one(), one().into(), 1.0);
    assert!(matches!(of_none, Err(Error::ZeroPoint { got, .. }) if got == real));
    // A real zero must be finite, and not a number that shaders may flush to 0.
    for zero in [
        half::f16::INFINITY,
        half::f16::NAN,
        half::f16::from_bits(0x03ff),
    ] {
        let refused = codes(vec![zero].into());
        assert!(
            matches!(refused, Err(Error::Code { what: "zero", .. })),
            "{zero}"
        );
    }
    for zero in [half::f16::ZERO, -half::f16::MIN_POSITIVE, half::f16::MAX] {
        assert!(codes(vec![zero].into()).is_ok(), "{zero}");
    }
    assert_eq!(Codes::real_zero(6e-5), half::f16::ZERO);
}

#[test]
fn real_zeros_lose_less_than_codes() {
    // Values far from 0 and close together: if the zero must be a code, nearly all codes are wasted.
    let values = (0..64).map(|i| 10.0 + (i as f32 * 0.7).sin()).collect();
    let dense = Dense::from_f32(1, 64, values).unwrap();
    let error = |format: &str| -> f32 {
        let back = compress::compress(&dense, format.parse().unwrap())
            .unwrap()
            .to_dense();
        (0..64)
            .map(|col| (dense.get(0, col) - back.get(0, col)).powi(2))
            .sum()
    };
    assert!(error("w4g32-real") * 20.0 < error("w4g32"));
    let constant = Dense::from_f32(1, 8, vec![-0.3; 8]).unwrap();
    let back = compress::compress(&constant, "w2g8-real".parse().unwrap())
        .unwrap()
        .to_dense();
    assert!((0..8).all(|col| (back.get(0, col) + 0.3).abs() < 0.3 / 2048.0));
    let nothing = Dense::from_f32(1, 8, vec![0.0; 8]).unwrap();
    let back = compress::compress(&nothing, "w2g8-real".parse().unwrap())
        .unwrap()
        .to_dense();
    assert!((0..8).all(|col| back.get(0, col) == 0.0));
}

#[test]
fn factors_beside_a_power_of_two_are_refused() {
    let quant = Quant::new(4, None, ZeroPoint::Middle).unwrap();
    let made = |factor| Codes::new(quant, vec![], vec![], Zeros::none(quant), factor).is_ok();
    for exponent in -80..=80 {
        let factor = 2f32.powi(exponent);
        assert!(made(factor) && !made(-factor), "2^{exponent}");
        assert!(
            !made(factor.next_up()) && !made(factor.next_down()),
            "2^{exponent}"
        );
    }
    for factor in [
        0.0,
        f32::NAN,
        f32::INFINITY,
        2f32.powi(81),
        2f32.powi(-81),
        f32::MIN_POSITIVE,
    ] {
        assert!(!made(factor), "{factor}");
    }
}
