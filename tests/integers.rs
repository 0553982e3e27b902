//! Products that take x as integers, of eight bits or of 24, on the adapter at hand.

mod common;

use common::gpu;
use lacuna::{
    Caps, Error, Gpu, PlanBuilder,
    caps::DeviceClass,
    compress,
    format::{Dense, Format, Precision, Quant},
    kernel::{self, Candidate},
    reference,
    verify::{Case, Random},
};
use std::collections::BTreeSet;

/// What a test has met of the kernels that software adapters compile for seconds.
#[derive(Default)]
struct Met(BTreeSet<(&'static str, Option<u32>)>);

impl Met {
    /// The legal candidates of `case`, but one only of each variant, and of a slow kernel one only for codes of as
    /// many bits: the quick list of `verify` has every size.
    fn candidates_of(&mut self, gpu: &Gpu, case: &Case) -> Vec<Candidate> {
        let mut variants = BTreeSet::new();
        let survey = case.survey(gpu.caps()).unwrap().into_iter();
        let legal = survey.filter_map(|(candidate, legal)| legal.is_ok().then_some(candidate));
        let mut is_new = |c: &Candidate| match c.kernel.name() {
            // It reads x, or what a launch before made of it, in one way for all codes.
            name if name.ends_with("tiled") => self.0.insert((name, None)),
            name @ ("gemv_bytes" | "gqs_rows") => {
                let quant = case.problem.format.quant();
                self.0.insert((name, quant.map(Quant::bits)))
            }
            name => variants.insert((name, c.config.variant)),
        };
        legal.filter(|c| is_new(c)).collect()
    }
}

/// Checks candidates of `case`, which takes x as integers.
fn assert_right(gpu: &Gpu, case: &Case, candidates: &[Candidate]) {
    let truth = case.reference().unwrap();
    assert!(!candidates.is_empty(), "no candidate for {}", case.problem);
    for &candidate in candidates {
        let comparison = case.check(gpu, candidate, &truth).unwrap();
        assert!(
            comparison.passes(),
            "{} {candidate}: {comparison:?}",
            case.problem
        );
    }
}

#[test]
fn x_on_the_grid_of_its_steps_loses_nothing_in_eight_bits() {
    let Some(gpu) = gpu() else { return };
    let mut met = Met::default();
    for (format, batch) in [
        ("w4g128", 1),
        ("w2g64", 3),
        ("w8row", 2),
        ("w4g8", 1),
        ("w8g24-sym", 5),
        ("w2g16", 2),
        ("w4row", 9),
        ("w4g16s50", 1),
        ("w4g64s50", 2),
        ("w4g128s30", 1),
        ("w8g24s50-sym", 5),
        ("w2g16s50-ragged", 3),
        ("w4g8s60", 9),
    ] {
        let format: Format = format.parse().unwrap();
        let mut case = Case::new(43, 333, batch, format, true).taking(Precision::I8);
        // One block of the first vector is zero, and one is tiny.
        for (i, x) in case.x.iter_mut().enumerate() {
            *x = match i {
                32..64 => 0.0,
                64..96 => f32::from_bits(1),
                _ if i % 333 % 8 == 0 => -127.0 * 0.25,
                _ => (127.0 * *x).round() * 0.25,
            };
        }
        // The bound of the plain product, with no allowance for eight bits.
        let sharp = reference::linear(&case.weight, &case.x, batch, case.bias.as_deref()).unwrap();
        let candidates = met.candidates_of(&gpu, &case);
        for &candidate in &candidates {
            let comparison = case.check(&gpu, candidate, &sharp).unwrap();
            let comparison = comparison.error_over_bound;
            assert!(comparison <= 1.0, "{format} {candidate}: {comparison}");
        }
        assert_right(&gpu, &case, &candidates);
    }
}

#[test]
fn x_in_24_bits_loses_what_is_stated_and_nothing_on_the_grid() {
    let Some(gpu) = gpu() else { return };
    let mut met = Met::default();
    for (format, rows, cols, batch) in [
        ("w4g128", 43, 333, 1),
        ("w4g128", 4, 4096, 2),
        ("w2g64", 33, 2056, 1),
        ("w8row", 7, 1, 3),
        ("w8g24-sym", 65, 515, 5),
        ("w4g8", 1, 1000, 1),
        ("w2g16", 20, 70, 4),
        // More columns than the workgroup memory of most devices holds of x at a time.
        ("w4g128", 5, 13_000, 1),
        ("w8g128", 6, 13_001, 2),
        // Group-pruned weights, for which some candidates hold x as integers.
        ("w4g16s50", 16, 64, 1),
        ("w4g64s50", 33, 1000, 2),
        ("w8g24s50-sym", 17, 333, 3),
        ("w2g16s60-ragged", 50, 515, 1),
        // Codes whose bits do not divide a byte, or no codes: x is taken as it is.
        ("w3g32", 16, 64, 1),
        ("f16", 16, 64, 9),
    ] {
        let format: Format = format.parse().unwrap();
        for rows in [rows, rows + 1] {
            let mut case = Case::new(rows, cols, batch, format, true).taking(Precision::I24);
            if cols > 300 {
                // One block is zero, one is tiny, and one has both very large and very small numbers.
                case.x[32..64].fill(0.0);
                case.x[64..96].fill(f32::from_bits(1));
                case.x[96] = 1e30;
                case.x[97] = -1e-30;
            }
            assert_right(&gpu, &case, &met.candidates_of(&gpu, &case));
        }
    }
}

#[test]
fn launches_that_make_integers_on_gpus_are_right_too() {
    let Some(gpu) = gpu() else { return };
    // Lanes share a block there, and words are written one by one. The last workgroup is not full.
    let caps = Caps {
        class: DeviceClass::Gpu,
        int64: false,
        ..*gpu.caps()
    };
    for (format, cols, batch) in [("w4g128", 332, 1), ("w8g24-sym", 97, 5)] {
        let case = Case::new(43, cols, batch, format.parse().unwrap(), true);
        let case = case.taking(Precision::I8);
        let parts = case.problem.parts(&caps).unwrap();
        let candidates = kernel::candidates(&case.problem, &caps).unwrap();
        let takes = |c: &&Candidate| c.kernel.name() == "gemv_i8";
        let candidate = candidates
            .iter()
            .find(takes)
            .expect("a kernel that takes them");
        let weight = gpu.upload_for(caps.class, &case.weight).unwrap();
        let nan = vec![f32::NAN; 43 * batch];
        let tensors = [
            gpu.tensor_from(batch, cols, &case.x).unwrap(),
            gpu.tensor_from(batch, 43, &nan).unwrap(),
            gpu.tensor_from(1, 43, case.bias.as_ref().unwrap()).unwrap(),
        ];
        let mut builder = PlanBuilder::new(&gpu);
        for launch in candidate.lower(&case.problem, &parts, &caps).unwrap() {
            builder.dispatch_on(launch, &weight, &tensors).unwrap();
        }
        builder.build().unwrap().run().unwrap();
        let y = tensors[1].read_blocking(&gpu).unwrap();
        let comparison = case.reference().unwrap().compare(&y).unwrap();
        assert!(comparison.passes(), "{format} {candidate}: {comparison:?}");
    }
}

#[test]
fn nan_and_infinity_in_x_are_not_lost_as_integers() {
    let Some(gpu) = gpu() else { return };
    let poisons = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let all = [Precision::I8, Precision::I24].map(|p| poisons.map(|poison| (p, poison)));
    for (precision, poison) in all.into_iter().flatten() {
        let of = |format: &str| {
            let case = Case::new(20, 300, 2, format.parse().unwrap(), false);
            case.taking(precision)
        };
        let mut pruned = of("w4g16s50");
        (pruned.x[3], pruned.x[300]) = (poison, 1e30);
        let mut met = Met::default();
        assert_right(&gpu, &pruned, &met.candidates_of(&gpu, &pruned));
        let mut case = of("w4g64");
        case.x[299] = poison;
        case.x[300] = 1e30;
        let candidates = met.candidates_of(&gpu, &case);
        assert_right(&gpu, &case, &candidates);
        for candidate in candidates {
            let y = case.run(&gpu, candidate).unwrap();
            assert!(y[..20].iter().all(|y| !y.is_finite()), "{candidate}");
        }
    }
}

#[test]
fn eight_bits_are_taken_where_asked_for_and_refused_where_there_is_no_product() {
    let Some(gpu) = gpu() else { return };
    let dense = Dense::from_f32(32, 64, Random(4).vector(32 * 64)).unwrap();
    let x = gpu.tensor_from(1, 64, &Random(5).vector(64)).unwrap();
    let y = gpu.tensor(1, 32).unwrap();
    let of = |format: &str| {
        let weight = compress::compress(&dense, format.parse().unwrap()).unwrap();
        gpu.upload(&weight).unwrap()
    };
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&of("w4g32"), &x, None, &y).unwrap();
    builder.precision(Precision::I8);
    builder.linear(&of("w4g32"), &x, None, &y).unwrap();
    for format in ["f16", "2:4", "w3g32", "w2g8", "2:4+w4g32", "w3g32s50"] {
        let refused = builder.linear(&of(format), &x, None, &y).map(drop);
        assert!(
            matches!(refused, Err(Error::NoKernel { .. })),
            "{format}: {refused:?}"
        );
    }
    // Weights in bands are refused before any kernel makes tiles of them.
    let weight = compress::compress(&dense, "w4g32".parse().unwrap()).unwrap();
    let bands = gpu.upload_bands(&weight).unwrap();
    let refused = builder.linear(&bands, &x, None, &y).map(drop);
    assert!(
        matches!(refused, Err(Error::NoKernel { .. })),
        "{refused:?}"
    );
    let plan = builder.build().unwrap();
    let names: Vec<_> = plan.steps().map(|s| s.name.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("gemv/") && names[1].starts_with("quantize x"));
    assert!(names[2].starts_with("gemv_i8/"), "{names:?}");
}
