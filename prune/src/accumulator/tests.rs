use super::*;

/// Numbers from −2 to 2 without a pattern, shifted by an eighth more for each column.
fn samples(n: usize, cols: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..n * cols)
        .map(|i| next() + (i % cols) as f32 / 8.0)
        .collect()
}

fn moments(x: &[f32], cols: usize, hessian: bool, call: usize) -> Inputs {
    let mut sums = Accumulator::new(cols, hessian);
    for part in x.chunks(call * cols) {
        sums.add(part).unwrap();
    }
    sums.finish().unwrap()
}

/// `E[f(x)]` in f64, one term after the other.
fn naive(x: &[f32], cols: usize, f: impl Fn(&[f32]) -> f64) -> f64 {
    let rows = x.chunks_exact(cols);
    let n = rows.len() as f64;
    rows.map(f).sum::<f64>() / n
}

#[test]
fn moments_are_those_of_a_naive_loop() {
    for (n, cols) in [(1, 1), (3, 5), (128, 64), (129, 65), (300, 130), (1000, 7)] {
        let x = samples(n, cols);
        let got = moments(&x, cols, true, n);
        assert_eq!((got.samples(), got.cols()), (n as u64, cols));
        let hessian = got.hessian().unwrap();
        for i in 0..cols {
            let of = |v: &[f32]| f64::from(v[i]);
            let [mean, square] = [1, 2].map(|power| naive(&x, cols, |v| of(v).powi(power)) as f32);
            assert!((got.mean()[i] - mean).abs() <= 1e-6 * square.sqrt());
            assert!((got.mean_square()[i] - square).abs() <= 1e-6 * square);
            for j in 0..cols {
                let product = |v: &[f32]| of(v) * f64::from(v[j]);
                let (true_mean, size) = (
                    naive(&x, cols, product),
                    naive(&x, cols, |v| product(v).abs()),
                );
                let bound = (BLOCK as f64 + 1.0) * 2f64.powi(-24) * size;
                let error = (f64::from(hessian[i * cols + j]) - true_mean).abs();
                assert!(
                    error <= bound,
                    "{n} x {cols}, ({i}, {j}): {error} > {bound}"
                );
                assert_eq!(
                    hessian[i * cols + j].to_bits(),
                    hessian[j * cols + i].to_bits()
                );
            }
            assert_eq!(
                hessian[i * cols + i].to_bits(),
                got.mean_square()[i].to_bits()
            );
        }
    }
}

#[test]
fn neither_threads_nor_calls_change_a_bit() {
    let (n, cols) = (700, 150);
    let x = samples(n, cols);
    let expected = moments(&x, cols, true, n);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            for call in [1, 17, 128, 500] {
                assert_eq!(moments(&x, cols, true, call), expected);
            }
        });
    }
    let without = moments(&x, cols, false, 100);
    assert_eq!(without.mean_square(), expected.mean_square());
    assert!(without.hessian().is_none());
}

#[test]
fn what_is_no_sample_is_refused() {
    let mut sums = Accumulator::new(4, true);
    assert!(sums.add(&[1.0; 7]).is_err());
    sums.add(&[]).unwrap();
    assert!(sums.clone().finish().is_err(), "no samples");
    sums.add(&[1.0, 2.0, 3.0, f32::NAN]).unwrap();
    assert!(sums.finish().is_err(), "a NaN has no mean");
    let mut sums = Accumulator::new(2, true);
    sums.add(&[1e30, 1e30]).unwrap();
    assert!(sums.finish().is_err(), "a product overflows");
    assert!(Accumulator::new(0, true).add(&[1.0]).is_err());
    assert!(Accumulator::new(0, true).finish().is_err());
}

/// What the documentation of [`Accumulator::bytes`] promises.
#[test]
fn memory_is_four_bytes_a_product() {
    let bytes = Accumulator::bytes(2048, true);
    assert!((4.0..4.6).contains(&(bytes as f64 / 2048f64.powi(2))));
    assert!(Accumulator::bytes(2048, false) < 2048 * 600);
}
