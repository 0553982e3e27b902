//! Products by cooperative matrices whose x is odd; that they are right otherwise is what `verify` says. Adapters that
//! have no such matrices skip this, unless `LACUNA_TEST_MATRICES=1` promises them, as `cargo xtask adapters` does.

use lacuna::{
    Gpu, compress,
    format::{Dense, Precision},
    gpu::Options,
    verify::Case,
};

#[test]
fn nan_infinity_and_what_overflows_pass_by_what_is_not_kept() {
    let gpu = Gpu::new_blocking(&Options {
        cooperative: true,
        ..Options::default()
    });
    let Some(gpu) = gpu.ok().filter(|gpu| gpu.caps().cooperative.is_some()) else {
        let promised = std::env::var_os("LACUNA_TEST_MATRICES").is_some();
        assert!(!promised, "LACUNA_TEST_MATRICES promises matrices");
        eprintln!("skipped: no cooperative matrices");
        return;
    };
    // Columns 0 and 3 of every four are kept of N:M, every other eight of groups. The last window has two columns,
    // which it keeps.
    let (rows, cols) = (10, 62);
    let of_windows: fn(usize) -> bool = |col| matches!(col % 4, 0 | 3) || col >= 60;
    let of_groups: fn(usize) -> bool = |col| col / 8 % 2 == 0;
    for (format, kept) in [
        ("2:4@f16", of_windows),
        ("2:4x2@bf16", of_windows),
        ("4:8x5@f16", of_windows),
        ("2:4+w4g8", of_windows),
        ("w4g8s50", of_groups),
        ("w3g8s50-sym", of_groups),
    ] {
        let value = |i: usize| {
            if kept(i % cols) {
                0.5 + (i % 7) as f32
            } else {
                0.0
            }
        };
        let values = (0..rows * cols).map(value).collect();
        let dense = Dense::from_f32(rows, cols, values).unwrap();
        let weight = compress::compress(&dense, format.parse().unwrap()).unwrap();
        for batch in [11, 40] {
            let mut case = Case::new(rows, cols, batch, format.parse().unwrap(), false);
            case.problem.precision = Precision::F16;
            case.weight = weight.clone();
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 70_000.0];
            let x = |i: usize| if kept(i % cols) { 2.0 } else { odd[i % 4] };
            case.x = (0..batch * cols).map(x).collect();
            // One vector meets what it is: all its sums are NaN.
            case.x[3 * cols] = f32::NAN;
            let truth = case.reference().unwrap();
            let nan = truth.y.iter().filter(|y| y.is_nan()).count();
            assert_eq!(nan, rows, "{format}");
            let mut checked = 0;
            for (candidate, legal) in case.survey(gpu.caps()).unwrap() {
                // Deeper steps differ in nothing that x being odd could touch.
                if legal.is_ok() && candidate.config.words == 32 {
                    let comparison = case.check(&gpu, candidate, &truth).unwrap();
                    assert!(comparison.passes(), "{format} {candidate}: {comparison:?}");
                    checked += 1;
                }
            }
            assert!(checked > 0, "{format} meets no matrices");
        }
    }
}
