//! Kernels on the adapter at hand, against the reference.

mod common;
#[path = "common/reopen.rs"]
mod reopen;

use common::gpu;
use lacuna::{
    Caps, Error, Gpu, PlanBuilder,
    caps::{DeviceClass, Subgroups},
    compress,
    format::{Dense, Format, Matrix, Nm, Pattern, Precision, Quant, Values},
    gpu::ReadBack,
    kernel, reference,
    verify::{Case, Checks, Filter, Random},
    wgpu,
};
use reopen::reopen;
use std::{
    collections::BTreeSet,
    sync::Mutex,
    thread::{self, available_parallelism},
};

/// Runs `weight` on the default candidate of both device classes.
fn run(gpu: &Gpu, weight: &Matrix, x: &[f32], batch: usize, bias: Option<&[f32]>) -> Vec<Vec<f32>> {
    let (rows, cols, format) = (weight.rows(), weight.cols(), weight.format());
    let problem = kernel::Problem {
        rows,
        cols,
        batch,
        format,
        bias: bias.is_some(),
        layout: kernel::Layout::Rows,
        skip: kernel::Skip::Nothing,
        precision: Precision::F32,
    };
    let uploaded = gpu.upload(weight).unwrap();
    let xs = gpu.tensor_from(batch, cols, x).unwrap();
    let bias = bias.map(|b| gpu.tensor_from(1, rows, b).unwrap());
    let both = [DeviceClass::Cpu, DeviceClass::Gpu].map(|class| {
        let y = gpu
            .tensor_from(batch, rows, &vec![f32::NAN; batch * rows])
            .unwrap();
        let best = kernel::candidates(
            &problem,
            &Caps {
                class,
                ..*gpu.caps()
            },
        )
        .unwrap()[0];
        let mut builder = PlanBuilder::new(gpu);
        builder
            .linear_with(best, &uploaded, &xs, bias.as_ref(), &y)
            .unwrap();
        builder.build().unwrap().run().unwrap();
        y.read_blocking(gpu).unwrap()
    });
    both.into()
}

fn assert_right(gpu: &Gpu, weight: &Matrix, x: &[f32], batch: usize, bias: Option<&[f32]>) {
    let truth = reference::linear(weight, x, batch, bias).unwrap();
    for y in run(gpu, weight, x, batch, bias) {
        let comparison = truth.compare(&y).unwrap();
        assert!(comparison.passes(), "{comparison:?}");
    }
}

#[test]
fn every_candidate_agrees_with_the_reference() {
    let Some(first) = gpu() else { return };
    // A device compiles one shader at a time, which takes most of the time on software adapters.
    let devices = match first.caps().class {
        DeviceClass::Cpu => available_parallelism().map_or(1, usize::from),
        DeviceClass::Gpu => 1,
    };
    let quick = Filter {
        quick: true,
        ..Filter::default()
    };
    let checks = Mutex::new(Checks::new(first.caps(), quick).unwrap());
    let failures = Mutex::new(vec![]);
    let check = |gpu: &Gpu| {
        loop {
            let next = checks.lock().unwrap().next(|_, _| {}).unwrap();
            let Some((known, candidate)) = next else {
                break;
            };
            match known.case.check(gpu, candidate, &known.truth) {
                Ok(comparison) if comparison.passes() => {}
                other => {
                    let failure = format!("{} {candidate}: {other:?}", known.case.problem);
                    failures.lock().unwrap().push(failure);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..devices {
            scope.spawn(|| check(&gpu().expect("there was one")));
        }
        check(&first);
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

const IS_GEMM: [&str; 4] = ["gemm_lanes", "gemm_tiled", "gqs_lanes", "gqs_tiled"];

#[test]
fn gemm_decodes_codes_of_every_width_wherever_they_begin() {
    let Some(gpu) = gpu() else { return };
    // Tiles of every size decode by the same text, and each takes a second to compile: they take turns. Where
    // invocations share the tile it takes ten: those meet each width once.
    let (mut turn, mut met) = (0, BTreeSet::new());
    let groups = ["g16", "g24-sym", "row"];
    let formats =
        (2..=8).flat_map(|bits| (bits..bits + 3).map(move |i| format!("w{bits}{}", groups[i % 3])));
    let pruned = ["2:4+w7g24", "3:5+w6g40-sym", "1:8x4+w5row"].map(String::from);
    let groups = ["w2g8s40", "w3g24s40", "w4g64s40-sym", "w7g40s40"].map(String::from);
    for format in formats.chain(pruned).chain(groups) {
        let case = Case::new(21, 83, 11, format.parse().unwrap(), true);
        let truth = case.reference().unwrap();
        let width = case.problem.format.quant().map(Quant::bits);
        let sparse = case.problem.format.pattern().is_some();
        let legal = case.survey(gpu.caps()).unwrap().into_iter();
        let legal: Vec<_> = legal.filter(|(_, legal)| legal.is_ok()).collect();
        let mut checked = 0;
        for kernel in IS_GEMM {
            let tiles = legal.iter().filter(|(c, _)| c.kernel.name() == kernel);
            let tiles: Vec<_> = tiles.map(|&(candidate, _)| candidate).collect();
            if tiles.is_empty() {
                continue;
            }
            checked += 1;
            if kernel.ends_with("tiled") && !met.insert((kernel, width, sparse)) {
                continue;
            }
            turn += 1;
            let candidate = tiles[turn % tiles.len()];
            let comparison = case.check(&gpu, candidate, &truth).unwrap();
            assert!(comparison.passes(), "{format} {candidate}: {comparison:?}");
        }
        assert!(checked > 0, "{format} has no GEMM");
    }
}

#[test]
fn nan_reaches_a_product_of_codes_only_through_kept_positions() {
    let Some(gpu) = gpu() else { return };
    // The first of every four columns is kept; the last window is two columns wide.
    let (rows, cols, batch) = (6, 22, 11);
    let keep = (0..rows * cols).map(|i| if i % cols % 4 == 0 { 1.5 } else { 0.0 });
    let dense = Dense::from_f32(rows, cols, keep.collect()).unwrap();
    let weight = compress::compress(&dense, "1:4+w4g8".parse().unwrap()).unwrap();
    let x: Vec<f32> = (0..batch * cols)
        .map(|i| if i % cols % 4 == 0 { 2.0 } else { f32::NAN })
        .collect();
    assert_right(&gpu, &weight, &x, batch, None);
    let mut poisoned = x;
    poisoned[4] = f32::NAN;
    for y in run(&gpu, &weight, &poisoned, batch, None) {
        assert!(y[..rows].iter().all(|v| v.is_nan()) && y[rows..].iter().all(|v| !v.is_nan()));
    }
}

#[test]
fn nan_and_infinity_pass_by_what_is_not_kept_in_every_candidate() {
    let Some(gpu) = gpu() else { return };
    // Columns 0 and 3 of every four are kept. The last window has two columns, which it keeps.
    let (rows, cols) = (10, 22);
    let keep = |i: usize| matches!(i % cols % 4, 0 | 3) || i % cols >= 20;
    let values = (0..rows * cols).map(|i| if keep(i) { 0.5 + (i % 7) as f32 } else { 0.0 });
    let dense = Dense::from_f32(rows, cols, values.collect()).unwrap();
    for format in [
        "2:4",
        "2:4@f16",
        "2:4x2@bf16",
        "2:4x5",
        "2:4+w4g8",
        "2:4+w8g16",
    ] {
        for batch in [11, 40] {
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            let x = (0..batch * cols).map(|i| if keep(i) { 2.0 } else { odd[i % 3] });
            let x: Vec<f32> = x.collect();
            let weight = compress::compress(&dense, format.parse().unwrap()).unwrap();
            let truth = reference::linear(&weight, &x, batch, None).unwrap();
            assert!(truth.y.iter().all(|y| y.is_finite()), "{format}");
            assert_every_candidate_right(&gpu, weight, x, batch);
        }
    }
}

/// Checks `weight` in every legal candidate of either class of device, but one only of each variant of a kernel that
/// software adapters compile for ten seconds: the quick list has its sizes.
fn assert_every_candidate_right(gpu: &Gpu, weight: Matrix, x: Vec<f32>, batch: usize) {
    let (rows, cols, format) = (weight.rows(), weight.cols(), weight.format());
    let problem = kernel::Problem {
        rows,
        cols,
        batch,
        format,
        bias: false,
        layout: kernel::Layout::Rows,
        skip: kernel::Skip::Nothing,
        precision: Precision::F32,
    };
    let case = Case {
        problem,
        weight,
        x,
        bias: None,
        gate: vec![],
    };
    let truth = case.reference().unwrap();
    let mut slow = BTreeSet::new();
    for (candidate, legal) in case.survey(gpu.caps()).unwrap() {
        let name = candidate.kernel.name();
        let is_slow = name.ends_with("tiled") || name == "gqs_rows";
        if legal.is_ok() && (!is_slow || slow.insert((name, candidate.config.variant))) {
            let comparison = case.check(gpu, candidate, &truth).unwrap();
            assert!(comparison.passes(), "{problem} {candidate}: {comparison:?}");
        }
    }
}

#[test]
fn rows_that_keep_very_different_numbers_of_groups_are_right() {
    let Some(gpu) = gpu() else { return };
    // The first 549 rows keep all their groups, and so does row 1023; the others keep none.
    let (rows, cols) = (1100, 96);
    let mut random = Random(3);
    let values = (0..rows * cols).map(|i| match i / cols {
        0..549 | 1023 => 2.0 + random.signed(),
        _ => random.signed() / 64.0,
    });
    let dense = Dense::from_f32(rows, cols, values.collect()).unwrap();
    for (format, batch) in [("w4g16s50-ragged", 1), ("w3g32s50-ragged", 3)] {
        let weight = compress::compress(&dense, format.parse().unwrap()).unwrap();
        assert_every_candidate_right(&gpu, weight, random.vector(batch * cols), batch);
    }
}

#[test]
fn rows_whose_kept_groups_lie_far_apart_are_right() {
    let Some(gpu) = gpu() else { return };
    // x has more columns than workgroup memory holds, and neighbouring rows keep groups at opposite ends.
    // In eight bits there are more groups than a byte counts.
    let mut random = Random(5);
    for (format, cols, batch) in [("w4g16s50", 20_008, 1), ("w8g8s60", 4136, 2)] {
        let values = (0..7 * cols).map(|i| {
            let front = i % cols < cols / 2;
            let heavy = (i / cols % 3 == 0) == front;
            random.signed() / 64.0 + f32::from(u8::from(heavy))
        });
        let dense = Dense::from_f32(7, cols, values.collect()).unwrap();
        let weight = compress::compress(&dense, format.parse().unwrap()).unwrap();
        assert_every_candidate_right(&gpu, weight, random.vector(batch * cols), batch);
    }
}

#[test]
fn nan_reaches_a_product_of_kept_groups_only_through_them() {
    let Some(gpu) = gpu() else { return };
    // Row 3 keeps the second group, cut short by the last column, the others the first.
    let (rows, cols) = (5, 27);
    let kept = |i: usize| (i % cols >= 16) == (i / cols == 3);
    let values = (0..rows * cols).map(|i| if kept(i) { 1.5 } else { 0.0 });
    let dense = Dense::from_f32(rows, cols, values.collect()).unwrap();
    let weight = compress::compress(&dense, "w4g16s50".parse().unwrap()).unwrap();
    for batch in [1, 11] {
        let mut x = vec![2.0; batch * cols];
        x[20] = f32::NAN;
        assert_every_candidate_right(&gpu, weight.clone(), x, batch);
    }
}

#[test]
fn candidates_for_devices_that_name_no_subgroup_size_are_right_too() {
    let Some(gpu) = gpu() else { return };
    // As far as the host knows, this device may choose between 4 and 128 lanes.
    let vague = gpu.caps().subgroups.map(|_| Subgroups { min: 4, max: 128 });
    for format in ["f16", "2:4", "1:8x4@bf16"] {
        let case = Case::new(37, 150, 2, format.parse().unwrap(), true);
        let truth = case.reference().unwrap();
        for subgroups in [vague, None] {
            let caps = Caps {
                class: DeviceClass::Gpu,
                subgroups,
                ..*gpu.caps()
            };
            for candidate in kernel::candidates(&case.problem, &caps).unwrap() {
                let parts = case.problem.parts(&caps).unwrap();
                let dispatches = candidate.lower(&case.problem, &parts, &caps).unwrap();
                let weight = gpu.upload(&case.weight).unwrap();
                let tensors = [
                    gpu.tensor_from(2, 150, &case.x).unwrap(),
                    gpu.tensor(2, 37).unwrap(),
                    gpu.tensor_from(1, 37, case.bias.as_ref().unwrap()).unwrap(),
                ];
                let mut builder = PlanBuilder::new(&gpu);
                for dispatch in dispatches {
                    builder.dispatch_on(dispatch, &weight, &tensors).unwrap();
                }
                builder.build().unwrap().run().unwrap();
                let comparison = truth
                    .compare(&tensors[1].read_blocking(&gpu).unwrap())
                    .unwrap();
                assert!(comparison.passes(), "{candidate}: {comparison:?}");
            }
        }
    }
}

#[test]
fn nan_in_x_reaches_y_only_through_kept_positions() {
    let Some(gpu) = gpu() else { return };
    // Every window keeps its first column only; the last window is two columns wide.
    for (cols, batch) in [(14, 1), (14, 11), (64, 3)] {
        let keep: Vec<f32> = (0..6 * cols)
            .map(|i| if i % cols % 4 == 0 { 1.5 } else { 0.0 })
            .collect();
        let dense = Dense::from_f32(6, cols, keep).unwrap();
        let nm: Matrix = Nm::from_dense(&dense, Pattern::new(1, 4).unwrap())
            .unwrap()
            .into();
        let x: Vec<f32> = (0..batch * cols)
            .map(|i| if i % cols % 4 == 0 { 2.0 } else { f32::NAN })
            .collect();
        assert_right(&gpu, &nm, &x, batch, None);
        // NaN at a kept position does reach y, in the rows that keep it.
        let mut poisoned = x;
        poisoned[4] = f32::NAN;
        let y = &run(&gpu, &nm, &poisoned, batch, None)[0];
        assert!(y[..6].iter().all(|v| v.is_nan()) && y[6..].iter().all(|v| !v.is_nan()));
    }
}

#[test]
fn x_beyond_its_last_column_is_never_read() {
    let Some(gpu) = gpu() else { return };
    // The 13 columns of x stand in front of NaN, in a buffer of the host.
    for format in ["f32", "f16", "2:4", "2:4@f16", "3:5", "2:4x8", "31:32"] {
        let case = Case::new(16, 13, 1, format.parse::<Format>().unwrap(), false);
        let mut host = case.x.clone();
        host.resize(512, f32::NAN);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 2048,
            usage,
            mapped_at_creation: false,
        });
        gpu.queue()
            .write_buffer(&buffer, 0, bytemuck::cast_slice(&host));
        let x = gpu.tensor_in(&buffer, 0, 1, 13).unwrap();
        let y = gpu.tensor(1, 16).unwrap();
        let weight = gpu.upload(&case.weight).unwrap();
        for (candidate, legal) in case.survey(gpu.caps()).unwrap() {
            if legal.is_ok() {
                let mut builder = PlanBuilder::new(&gpu);
                builder
                    .linear_with(candidate, &weight, &x, None, &y)
                    .unwrap();
                builder.build().unwrap().run().unwrap();
                let comparison = case
                    .reference()
                    .unwrap()
                    .compare(&y.read_blocking(&gpu).unwrap())
                    .unwrap();
                assert!(comparison.passes(), "{format} {candidate}: {comparison:?}");
            }
        }
    }
}

#[test]
fn infinities_and_overflow_keep_their_class() {
    let Some(gpu) = gpu() else { return };
    let weight: Matrix = Dense::from_f32(2, 2, vec![1.0, 1.0, 1.0, -1.0])
        .unwrap()
        .into();
    assert_right(
        &gpu,
        &weight,
        &[f32::INFINITY, 1.0, f32::MAX, f32::MAX, 1.0, f32::INFINITY],
        3,
        None,
    );
}

#[test]
fn a_weight_larger_than_a_binding_is_right_in_every_part() {
    let Some(gpu) = gpu() else { return };
    // Small bindings make many parts of a small weight; bias and y offsets cross them.
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 16 << 10,
        ..gpu.device().limits()
    };
    let Some(small) = reopen(limits) else { return };
    for (format, batch) in [
        ("f32", 1),
        ("2:4@f16", 3),
        ("4:8x4", 1),
        ("2:4x16", 12),
        ("f16", 13),
        ("2:7", 9),
    ] {
        let case = Case::new(301, 67, batch, format.parse().unwrap(), true);
        assert!(
            small.upload(&case.weight).unwrap().parts() > 1,
            "{format} is in one part"
        );
        let truth = case.reference().unwrap();
        for (candidate, legal) in case.survey(small.caps()).unwrap() {
            if legal.is_ok() {
                let comparison = case.check(&small, candidate, &truth).unwrap();
                assert!(
                    comparison.passes(),
                    "{} {candidate}: {comparison:?}",
                    case.problem
                );
            }
        }
    }
}

#[test]
fn a_weight_over_128_mib_is_split_on_an_adapter_limited_to_that() {
    let Some(gpu) = gpu() else { return };
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 128 << 20,
        ..gpu.device().limits()
    };
    let Some(gpu) = reopen(limits) else { return };
    let (rows, cols) = (36_007, 1024);
    let mut random = Random(7);
    let row = random.vector(cols);
    // Every row is the same one times a power of two, so the truth needs one dot product.
    let scale = |r: usize| f32::exp2((r % 13) as f32 - 6.0);
    let values = (0..rows)
        .flat_map(|r| row.iter().map(move |v| v * scale(r)))
        .collect();
    let weight: Matrix = Dense::new(rows, cols, Values::F32(values)).unwrap().into();
    assert_eq!(gpu.upload(&weight).unwrap().parts(), 2);
    let x = random.vector(cols);
    let bias = random.vector(rows);
    let dot: f64 = row
        .iter()
        .zip(&x)
        .map(|(w, x)| f64::from(*w) * f64::from(*x))
        .sum();
    let magnitude: f64 = row
        .iter()
        .zip(&x)
        .map(|(w, x)| f64::from((w * x).abs()))
        .sum();
    for y in run(&gpu, &weight, &x, 1, Some(&bias)) {
        for r in 0..rows {
            let s = f64::from(scale(r));
            let allowed = 48.0 * f64::exp2(-24.0) * (s * magnitude + f64::from(bias[r].abs()));
            let error = (f64::from(y[r]) - (s * dot + f64::from(bias[r]))).abs();
            assert!(
                error <= allowed,
                "row {r}: off by {error}, allowed {allowed}"
            );
        }
    }
}

#[test]
fn grids_past_65_535_workgroups_are_folded() {
    let Some(gpu) = gpu() else { return };
    for (rows, batch, format) in [(70_001, 1, "2:4"), (66_000, 2, "f16")] {
        let case = Case::new(rows, 3, batch, format.parse().unwrap(), true);
        let truth = case.reference().unwrap();
        let mut folded = 0;
        for (candidate, legal) in case.survey(gpu.caps()).unwrap() {
            if legal.is_ok() {
                let parts = case.problem.parts(gpu.caps()).unwrap();
                let launches = candidate.lower(&case.problem, &parts, gpu.caps()).unwrap();
                folded += launches.iter().filter(|d| d.grid[1] > 1).count();
                let comparison = case.check(&gpu, candidate, &truth).unwrap();
                assert!(
                    comparison.passes(),
                    "{} {candidate}: {comparison:?}",
                    case.problem
                );
            }
        }
        assert!(folded > 0, "no grid of {} is folded", case.problem);
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for (format, batch) in [
        ("f16", 1),
        ("2:4", 3),
        ("2:4x8", 40),
        ("w4g16s50-ragged", 11),
    ] {
        let case = Case::new(130, 520, batch, format.parse().unwrap(), true);
        for (candidate, legal) in case.survey(gpu.caps()).unwrap() {
            if legal.is_ok() {
                let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                let first = bits(case.run(&gpu, candidate).unwrap());
                assert_eq!(
                    first,
                    bits(case.run(&gpu, candidate).unwrap()),
                    "{format} {candidate}"
                );
            }
        }
    }
}

#[test]
fn a_host_encodes_several_plans_into_its_own_submission() {
    let Some(gpu) = gpu() else { return };
    // y = W₂·(W₁·x), with x rebound between the two submissions.
    let first = Case::new(96, 64, 2, "2:4".parse().unwrap(), false);
    let second = Case::new(32, 96, 2, "f32".parse().unwrap(), false);
    let (w1, w2) = (
        gpu.upload(&first.weight).unwrap(),
        gpu.upload(&second.weight).unwrap(),
    );
    let x = gpu.tensor_from(2, 64, &first.x).unwrap();
    let other = gpu.tensor_from(2, 64, &Random(3).vector(128)).unwrap();
    let (h, y) = (gpu.tensor(2, 96).unwrap(), gpu.tensor(2, 32).unwrap());
    let mut builder = PlanBuilder::new(&gpu);
    builder
        .linear(&w1, &x, None, &h)
        .unwrap()
        .linear(&w2, &h, None, &y)
        .unwrap();
    let mut plan = builder.build().unwrap();
    for (input, data) in [(&x, first.x.clone()), (&other, Random(3).vector(128))] {
        plan.rebind(if input == &x { &other } else { &x }, input)
            .unwrap();
        let mut encoder = gpu
            .device()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        plan.encode(&mut encoder).unwrap();
        gpu.submit(encoder).unwrap();
        let middle: Vec<f32> = h.read_blocking(&gpu).unwrap();
        let truth = reference::linear(&first.weight, &data, 2, None).unwrap();
        assert!(truth.compare(&middle).unwrap().passes());
        let truth = reference::linear(&second.weight, &middle, 2, None).unwrap();
        let got = pollster::block_on(y.read(&gpu)).unwrap();
        assert!(truth.compare(&got).unwrap().passes());
    }
}

#[test]
fn steps_are_timed_one_by_one() {
    let Some(gpu) = gpu() else { return };
    if !gpu.caps().timestamps {
        assert!(matches!(
            gpu.timestamps(1),
            Err(Error::MissingFeature {
                feature: "TIMESTAMP_QUERY",
                ..
            })
        ));
        return;
    }
    let case = Case::new(256, 256, 64, "2:4x16".parse().unwrap(), false);
    let weight = gpu.upload(&case.weight).unwrap();
    let (x, y) = (
        gpu.tensor_from(64, 256, &case.x).unwrap(),
        gpu.tensor(64, 256).unwrap(),
    );
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &x, None, &y).unwrap();
    let plan = builder.build().unwrap();
    let times = gpu.timestamps(plan.steps().len()).unwrap();
    let mut encoder = gpu
        .device()
        .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    plan.encode_timed(&mut encoder, &times).unwrap();
    let more = gpu.timestamps(plan.steps().len() + 1).unwrap();
    for refused in [
        plan.encode_timed(&mut encoder, &more),
        plan.encode_span(&mut encoder, &more),
    ] {
        assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
    }
    times.resolve(&mut encoder);
    gpu.submit(encoder).unwrap();
    let passes = times.read_blocking(&gpu).unwrap();
    assert_eq!(passes.len(), plan.steps().len());
    assert!(passes.windows(2).all(|w| w[0].1 <= w[1].0), "{passes:?}");
    assert!(passes.iter().any(|(begin, end)| end > begin), "{passes:?}");
}

#[test]
fn a_destroyed_device_is_lost_for_good_and_returns_nothing_stale() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(64, 64, 1, "2:4".parse().unwrap(), false);
    let weight = gpu.upload(&case.weight).unwrap();
    let (x, y) = (
        gpu.tensor_from(1, 64, &case.x).unwrap(),
        gpu.tensor(1, 64).unwrap(),
    );
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &x, None, &y).unwrap();
    let plan = builder.build().unwrap();
    plan.run().unwrap();
    gpu.device().destroy();
    let lost = |r: Result<(), Error>| assert!(matches!(r, Err(Error::DeviceLost(_))), "{r:?}");
    lost(y.read_blocking(&gpu).map(|_| ()));
    lost(plan.run());
    lost(x.write(&gpu, &case.x));
    lost(gpu.upload(&case.weight).map(|_| ()));
}

#[test]
fn a_host_that_owns_the_device_learns_of_its_loss_at_the_next_call() {
    let Some(own) = gpu() else { return };
    let Some(gpu) = reopen(own.device().limits()) else {
        return;
    };
    let y = gpu.tensor(1, 64).unwrap();
    assert_eq!(y.read_blocking(&gpu).unwrap(), [0.0; 64]);
    gpu.device().destroy();
    assert!(matches!(
        gpu.submit(gpu.encoder()),
        Err(Error::DeviceLost(_))
    ));
    assert!(matches!(y.read_blocking(&gpu), Err(Error::DeviceLost(_))));
    assert!(matches!(gpu.tensor(1, 1), Err(Error::DeviceLost(_))));
}

#[test]
fn a_view_is_the_same_memory_and_keeps_to_its_range() {
    let Some(gpu) = gpu() else { return };
    let whole = gpu.tensor_from(2, 128, &[1.0f32; 256]).unwrap();
    let view = whole.view(&gpu, 64, 3, 64).unwrap();
    assert_eq!((view.batch(), view.len()), (3, 64));
    view.write(&gpu, &[2.0f32; 192]).unwrap();
    let read = whole.read_blocking(&gpu).unwrap();
    assert_eq!((read[63], read[64], read[255]), (1.0, 2.0, 2.0));
    // A view of a view counts from its own start.
    let inner = view.view(&gpu, 128, 1, 64).unwrap();
    inner.write(&gpu, &[3.0f32; 64]).unwrap();
    let read = whole.read_blocking(&gpu).unwrap();
    assert_eq!((read[191], read[192], read[255]), (2.0, 3.0, 3.0));
    for (first, batch, len) in [
        (64, 4, 64),
        (1, 1, 4),
        (usize::MAX, 1, 1),
        (0, usize::MAX, 2),
    ] {
        let refused = whole.view(&gpu, first, batch, len);
        assert!(
            matches!(refused, Err(Error::Buffer { .. })),
            "{first} {batch} {len}"
        );
    }
}

#[test]
fn a_read_back_is_used_again_and_again() {
    let Some(gpu) = gpu() else { return };
    let tensor = gpu.tensor_from(1, 5, &[0u32; 5]).unwrap();
    let read_back = ReadBack::new(&gpu, &tensor).unwrap();
    for round in 0..3u32 {
        let words = [round, 1, 2, 3, u32::MAX - round];
        tensor.write(&gpu, &words).unwrap();
        let mut encoder = gpu.encoder();
        read_back.encode(&mut encoder);
        gpu.submit(encoder).unwrap();
        assert_eq!(read_back.read_blocking::<u32>(&gpu).unwrap(), words);
    }
    let empty = gpu.tensor(0, 5).unwrap();
    let read_back = ReadBack::new(&gpu, &empty).unwrap();
    read_back.encode(&mut gpu.encoder());
    assert!(read_back.read_blocking::<f32>(&gpu).unwrap().is_empty());
}
