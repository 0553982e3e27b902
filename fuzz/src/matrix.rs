//! What must hold for every weight that was accepted, wherever it came from.

use crate::walk;
use lacuna::{
    Caps,
    caps::DeviceClass,
    format::{Matrix, Precision},
    kernel::{Layout, Packed},
    reference,
};

/// Values of the largest weight that is checked, so that no run takes long.
const MOST_VALUES: usize = 1 << 18;

/// Unpacks the weight, multiplies by it, and packs it as for devices.
pub(crate) fn check(weight: &Matrix) {
    // One side may be very long if the other is empty.
    let (rows, cols) = (weight.rows().max(1), weight.cols().max(1));
    if rows.saturating_mul(cols) > MOST_VALUES {
        return;
    }
    for row in 0..weight.rows() {
        let columns: Vec<usize> = weight.entries(row).map(|entry| entry.col).collect();
        assert!(columns.is_sorted_by(|a, b| a < b), "row {row}: {columns:?}");
        assert!(columns.last().is_none_or(|&col| col < weight.cols()));
    }
    check_products(weight);
    check_packed(weight);
}

/// The reference must take any x in every precision, and f32 rounding alone must be within its bound.
fn check_products(weight: &Matrix) {
    let cols = weight.cols();
    let plain = (0..cols).map(|col| col as f32 * 0.5 - 3.0);
    let odd = [f32::NAN, f32::INFINITY, -0.0, f32::from_bits(1), f32::MAX];
    let odd = (0..cols).map(|col| odd[col % odd.len()]);
    let x: Vec<f32> = plain.chain(odd).collect();
    let bias = vec![0.25; weight.rows()];
    let truth = reference::linear(weight, &x, 2, Some(&bias)).expect("x fits");
    let y: Vec<f32> = truth.y.iter().map(|&y| y as f32).collect();
    let compared = truth.compare(&y).expect("both are as long");
    assert!(compared.error_over_bound <= 1.0, "{compared:?}");
    for precision in [Precision::F16, Precision::I8, Precision::I24] {
        // Some formats have no products of this precision.
        let _ = reference::linear_in(precision, weight, &x, 2, None);
    }
}

/// Packed for either class of device, in one part and in several, the weight must come back from its
/// bytes. A reader of its words that follows only their documentation must find the same weight.
fn check_packed(weight: &Matrix) {
    for class in [DeviceClass::Gpu, DeviceClass::Cpu] {
        for layout in [Layout::Rows, Layout::Bands] {
            for max_binding_bytes in [1 << 20, 1 << 13] {
                let caps = Caps {
                    class,
                    max_binding_bytes,
                    ..Caps::PORTABLE
                };
                // What is too large for a binding, or cannot lie in bands, is refused.
                let Ok(packed) = Packed::new(weight, layout, &caps) else {
                    continue;
                };
                let bytes = packed.to_bytes();
                let again = Packed::from_bytes(&bytes).expect("it was just packed");
                assert_eq!(again, packed);
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                let expected = bits(&weight.to_dense().values().to_f32());
                for by_columns in [false, true] {
                    let walked = walk::dense(&bytes, by_columns).expect("the weight is small");
                    assert_eq!(bits(&walked), expected, "{class:?} {layout:?} {by_columns}");
                }
            }
        }
    }
}
