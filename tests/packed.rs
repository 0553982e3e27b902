//! Weights that were packed before, are replaced under their plans, or lie for the other class of devices.

mod common;

use common::gpu;
use lacuna::{
    Caps, Error, Gpu, PlanBuilder, Weight,
    caps::DeviceClass,
    compress,
    format::{Dense, Matrix},
    kernel::{self, Candidate, Layout, Packed},
    reference::{self, Comparison},
    verify::{Case, Random},
    wgpu,
};
use std::ops::Range;

fn noop() -> Gpu {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    Gpu::from_wgpu(device, queue)
}

fn matrix(rows: usize, cols: usize, format: &str, seed: u64) -> Matrix {
    scaled(rows, cols, format, seed, |_| 1.0)
}

/// A matrix whose rows are scaled, so that ragged ones keep more of the larger.
fn scaled(rows: usize, cols: usize, format: &str, seed: u64, of: impl Fn(usize) -> f32) -> Matrix {
    let values = Random(seed).vector(rows * cols).into_iter().enumerate();
    let values = values.map(|(i, v)| v * of(i / cols)).collect();
    let dense = Dense::from_f32(rows, cols, values).unwrap();
    compress::compress(&dense, format.parse().unwrap()).unwrap()
}

/// Formats of every kind.
const FORMATS: &[&str] = &[
    "f32",
    "bf16",
    "2:4",
    "1:8x16@f16",
    "w4g16",
    "w3g24-sym",
    "2:4+w4g8",
    "w4g16s50",
    "w3g40s50-ragged",
];

#[test]
fn packed_weights_come_back_from_their_bytes() {
    let gpu = noop();
    for format in FORMATS {
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            let caps = Caps {
                class,
                max_binding_bytes: 32 << 10,
                ..*gpu.caps()
            };
            for (rows, cols) in [(300, 200), (1, 1), (0, 8), (8, 0)] {
                let weight = matrix(rows, cols, format, 1);
                let packed = Packed::new(&weight, Layout::Rows, &caps).unwrap();
                let bytes = packed.to_bytes();
                assert_eq!(Packed::from_bytes(&bytes), Ok(packed.clone()), "{format}");
                let uploaded = gpu.upload_packed(&packed).unwrap();
                let direct = gpu.upload_for(class, &weight).unwrap();
                assert_eq!(uploaded.format(), direct.format());
                assert_eq!((uploaded.rows(), uploaded.cols()), (rows, cols));
            }
        }
    }
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 64 << 10,
        ..wgpu::Limits::default()
    };
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor {
        required_limits: limits,
        ..Default::default()
    });
    let large = Packed::new(&matrix(300, 200, "f32", 1), Layout::Rows, gpu.caps()).unwrap();
    let refused = Gpu::from_wgpu(device, queue).upload_packed(&large);
    assert!(matches!(refused, Err(Error::Limit { limit: 65_536, .. })));
    let bands = Packed::new(&matrix(300, 200, "w4g16", 1), Layout::Bands, gpu.caps()).unwrap();
    assert_eq!(Packed::from_bytes(&bands.to_bytes()), Ok(bands));
}

#[test]
fn bytes_of_a_packed_weight_are_refused_or_read_as_they_are() {
    let caps = Caps {
        class: DeviceClass::Cpu,
        ..Caps::PORTABLE
    };
    let mut random = Random(7);
    for format in FORMATS {
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            let weight = matrix(40, 100, format, 2);
            let packed = Packed::new(&weight, Layout::Rows, &Caps { class, ..caps }).unwrap();
            let bytes = packed.to_bytes();
            for cut in 0..bytes.len().min(400) {
                assert!(Packed::from_bytes(&bytes[..cut]).is_err(), "{format} {cut}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(Packed::from_bytes(&longer).is_err());
            // Every word after the first two, one at a time.
            for at in (8..bytes.len()).step_by(4) {
                let mut broken = bytes.clone();
                let word = match random.bits() % 3 {
                    0 => u32::MAX,
                    1 => 1 << (random.bits() % 32),
                    _ => random.bits() as u32,
                };
                broken[at..at + 4].copy_from_slice(&word.to_le_bytes());
                match Packed::from_bytes(&broken) {
                    // The change was valid, such as another value: then it must be kept.
                    Ok(read) => assert!(read.to_bytes() == broken, "{format}: byte {at}"),
                    Err(Error::Packed { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

#[test]
fn starts_of_kept_groups_that_would_hold_a_kernel_up_are_refused() {
    for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
        let caps = Caps {
            class,
            ..Caps::PORTABLE
        };
        let weight = matrix(40, 160, "w4g16s50-ragged", 2);
        let packed = Packed::new(&weight, Layout::Rows, &caps).unwrap();
        let bytes = packed.to_bytes();
        // A word of the part's layout says how many words into the part its indices begin.
        let name = "w4g16s50-ragged".len();
        let head = 8 + 4 * (3 + 8 + 1) + name.next_multiple_of(4) + 4;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let indices = head + 48 + 4 * word(head + 16) as usize;
        assert_eq!(word(indices), 0, "the first start");
        for value in [1u32, u32::MAX] {
            let mut broken = bytes.clone();
            broken[indices..indices + 4].copy_from_slice(&value.to_le_bytes());
            let refused = Packed::from_bytes(&broken).unwrap_err().to_string();
            assert!(refused.contains("do not ascend"), "{refused}");
        }
        // A later start that lies behind the one after it.
        let mut broken = bytes.clone();
        let next = word(indices + 8) + 1;
        broken[indices + 4..indices + 8].copy_from_slice(&next.to_le_bytes());
        let refused = Packed::from_bytes(&broken).unwrap_err().to_string();
        assert!(refused.contains("do not ascend"), "{refused}");
    }
}

#[test]
fn parts_with_unsound_factors_or_out_of_place_are_refused() {
    const ROW_BASE: usize = 0;
    const FACTOR: usize = 11;
    let caps = Caps {
        class: DeviceClass::Cpu,
        max_binding_bytes: 16 << 10,
        ..Caps::PORTABLE
    };
    for format in ["w4g16", "w4g16s50-ragged"] {
        let weight = matrix(600, 160, format, 2);
        let packed = Packed::new(&weight, Layout::Rows, &caps).unwrap();
        let bytes = packed.to_bytes();
        let rows = 8 + 4 * (3 + 2);
        let head = 8 + 4 * (3 + 8 + 1) + format.len().next_multiple_of(4) + 4;
        let parts = u32::from_le_bytes(bytes[head - 4..head].try_into().unwrap()) as usize;
        assert!(parts > 1, "{format} in one part");
        let with = |at: &[usize], value: u32| {
            let mut changed = bytes.clone();
            for &at in at {
                changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            Packed::from_bytes(&changed)
        };
        let refused = |at: &[usize], value, reason: &str| {
            let refused = with(at, value).unwrap_err().to_string();
            assert!(refused.contains(reason), "{format}, {value}: {refused}");
        };
        let field = |part: usize, field: usize| head + 4 * (12 * part + field);
        let factors: Vec<_> = (0..parts).map(|part| field(part, FACTOR)).collect();
        let half = 0.5f32.to_bits();
        for factor in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0] {
            refused(&factors, factor.to_bits(), "a factor of");
        }
        assert_eq!(with(&factors, half).unwrap().format(), packed.format());
        refused(&factors[1..2], half, "the part that begins at row");
        if format.contains("ragged") {
            // How these are cut follows from their groups, not from their shape alone.
            refused(&[field(1, ROW_BASE)], 7, "the part that begins at row");
            refused(&[rows], 601, "rows of 601");
        }
    }
}

#[test]
fn packed_and_replaced_weights_compute_what_their_matrices_do() {
    let Some(gpu) = gpu() else { return };
    for format in FORMATS
        .iter()
        .filter(|f| !f.contains('s') || f.contains("sym"))
    {
        let (first, second) = (matrix(130, 96, format, 3), matrix(130, 96, format, 4));
        let packed = Packed::new(&first, Layout::Rows, gpu.caps()).unwrap();
        let packed = Packed::from_bytes(&packed.to_bytes()).unwrap();
        let weight = gpu.upload_packed(&packed).unwrap();
        let xs = Random(5).vector(3 * 96);
        let x = gpu.tensor_from(3, 96, &xs).unwrap();
        let y = gpu.tensor(3, 130).unwrap();
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear(&weight, &x, None, &y).unwrap();
        let plan = builder.build().unwrap();
        for (i, matrix) in [&first, &second, &first].into_iter().enumerate() {
            if i > 0 {
                weight.replace(&gpu, matrix).unwrap();
            }
            plan.run().unwrap();
            let truth = reference::linear(matrix, &xs, 3, None).unwrap();
            let comparison = truth.compare(&y.read_blocking(&gpu).unwrap()).unwrap();
            assert!(comparison.passes(), "{format} {i}: {comparison:?}");
        }
    }
}

/// Puts `of` each of `seeds` in the place of a weight, which was `of` 0, and checks what is computed with the one that
/// is there then. How many took the place, and how many were refused.
fn replace(
    gpu: &Gpu,
    weight: &Weight,
    of: &dyn Fn(u64) -> Matrix,
    seeds: Range<u64>,
    compute: impl Fn(&Matrix) -> Comparison,
) -> (usize, usize) {
    let (mut now, mut replaced, mut refused) = (of(0), 0, 0);
    for seed in seeds {
        match weight.replace(gpu, &of(seed)) {
            Ok(()) => (replaced, now) = (replaced + 1, of(seed)),
            Err(Error::Replace { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        let comparison = compute(&now);
        assert!(comparison.passes(), "{seed}: {comparison:?}");
    }
    (replaced, refused)
}

#[test]
fn group_pruned_weights_are_replaced_where_their_groups_have_room() {
    let Some(gpu) = gpu() else { return };
    let (rows, cols) = (300, 160);
    let xs = Random(5).vector(cols);
    let x = gpu.tensor_from(1, cols, &xs).unwrap();
    let y = gpu.tensor(1, rows).unwrap();
    for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
        let caps = Caps {
            class,
            ..*gpu.caps()
        };
        let of = |seed| matrix(rows, cols, "w4g16s50-ragged", seed);
        let weight = gpu.upload_for(class, &of(0)).unwrap();
        let problem = Case::new(rows, cols, 1, of(0).format(), false).problem;
        let best = kernel::candidates(&problem, &caps).unwrap()[0];
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear_with(best, &weight, &x, None, &y).unwrap();
        let plan = builder.build().unwrap();
        let (replaced, refused) = replace(&gpu, &weight, &of, 1..12, |now| {
            plan.run().unwrap();
            let truth = reference::linear(now, &xs, 1, None).unwrap();
            truth.compare(&y.read_blocking(&gpu).unwrap()).unwrap()
        });
        assert!(replaced > 0, "{class:?}: all {refused} were refused");
    }
}

#[test]
fn what_does_not_fit_the_place_of_a_weight_is_refused_by_quantity() {
    let gpu = noop();
    let weight = gpu.upload(&matrix(64, 32, "2:4", 1)).unwrap();
    for (other, what) in [
        (matrix(64, 32, "f32", 1), "format is f32, expected 2:4"),
        (matrix(65, 32, "2:4", 1), "rows is 65, expected 64"),
        (matrix(64, 36, "2:4", 1), "columns is 36, expected 32"),
    ] {
        let refused = weight.replace(&gpu, &other).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
    let tiny = |scale: f32| {
        let values = Random(1).vector(16 * 16).into_iter().map(|v| v * scale);
        let dense = Dense::from_f32(16, 16, values.collect()).unwrap();
        compress::compress(&dense, "w4g16".parse().unwrap()).unwrap()
    };
    let codes = gpu.upload(&tiny(1.0)).unwrap();
    let refused = codes.replace(&gpu, &tiny(1e-9)).unwrap_err().to_string();
    assert!(refused.contains("factor of the scales"), "{refused}");
    gpu.mark_lost("unplugged");
    let lost = weight.replace(&gpu, &matrix(64, 32, "2:4", 2));
    assert_eq!(lost, Err(Error::DeviceLost("unplugged".into())));
}

/// The candidates of devices of `class` for `weight`, and whether each is legal on `gpu`.
fn candidates(gpu: &Gpu, class: DeviceClass, weight: &Matrix, batch: usize) -> Vec<Candidate> {
    let caps = Caps {
        class,
        ..*gpu.caps()
    };
    let (rows, cols) = (weight.rows(), weight.cols());
    let problem = Case::new(rows, cols, batch, weight.format(), false).problem;
    kernel::candidates(&problem, &caps).unwrap()
}

#[test]
fn weights_packed_for_the_other_class_compute_what_their_matrices_do() {
    let Some(gpu) = gpu() else { return };
    let (rows, cols) = (300, 160);
    for format in ["w4g16s50", "w4g16s50-ragged", "2:4", "w3g32"] {
        let weight = matrix(rows, cols, format, 3);
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            let caps = Caps {
                class,
                ..*gpu.caps()
            };
            let packed = Packed::new(&weight, Layout::Rows, &caps).unwrap();
            let packed = Packed::from_bytes(&packed.to_bytes()).unwrap();
            let uploaded = gpu.upload_packed(&packed).unwrap();
            for batch in [1, 16] {
                let xs = Random(5).vector(batch * cols);
                let x = gpu.tensor_from(batch, cols, &xs).unwrap();
                let y = gpu.tensor(batch, rows).unwrap();
                let mut builder = PlanBuilder::new(&gpu);
                builder.linear(&uploaded, &x, None, &y).unwrap();
                builder.build().unwrap().run().unwrap();
                let truth = reference::linear(&weight, &xs, batch, None).unwrap();
                let comparison = truth.compare(&y.read_blocking(&gpu).unwrap()).unwrap();
                assert!(
                    comparison.passes(),
                    "{format} {class:?} {batch}: {comparison:?}"
                );
            }
        }
    }
}

#[test]
fn kernels_refuse_kept_groups_that_lie_for_the_other_class() {
    let gpu = noop();
    for format in ["w4g16s50", "w4g16s50-ragged"] {
        let weight = matrix(300, 160, format, 3);
        for (class, other) in [
            (DeviceClass::Cpu, DeviceClass::Gpu),
            (DeviceClass::Gpu, DeviceClass::Cpu),
        ] {
            let uploaded = gpu.upload_for(class, &weight).unwrap();
            for batch in [1, 16] {
                let x = gpu.tensor(batch, 160).unwrap();
                let y = gpu.tensor(batch, 300).unwrap();
                for candidate in candidates(&gpu, other, &weight, batch) {
                    let mut builder = PlanBuilder::new(&gpu);
                    let refused = builder.linear_with(candidate, &uploaded, &x, None, &y);
                    let refused = refused.map(|_| ());
                    assert!(
                        matches!(refused, Err(Error::Unfit { .. })),
                        "{candidate} of {format}: {refused:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn plans_by_pieces_compute_what_takes_the_place_of_their_weight() {
    let Some(gpu) = gpu() else { return };
    let (rows, cols) = (2560, 128);
    let xs = Random(5).vector(cols);
    let x = gpu.tensor_from(1, cols, &xs).unwrap();
    let y = gpu.tensor(1, rows).unwrap();
    // The first of ten panels keeps the most and the last three nothing, as far as the seed is even.
    let of = |seed: u64| {
        scaled(rows, cols, "w4g16s50-ragged", seed, |row| {
            match (seed % 2, row / 256) {
                (0, 0) => 100.0,
                (0, 7..) => 1e-3,
                _ => 1.0,
            }
        })
    };
    let first = of(0);
    let weight = gpu.upload_for(DeviceClass::Cpu, &first).unwrap();
    let by_tasks = candidates(&gpu, DeviceClass::Cpu, &first, 1);
    let by_tasks = by_tasks.into_iter().find(Candidate::is_task_centric);
    let mut builder = PlanBuilder::new(&gpu);
    builder
        .linear_with(by_tasks.unwrap(), &weight, &x, None, &y)
        .unwrap();
    let plan = builder.build().unwrap();
    assert!(plan.steps().len() > 1, "panels are cut");
    let (replaced, refused) = replace(&gpu, &weight, &of, 1..8, |now| {
        plan.run().unwrap();
        let truth = reference::linear(now, &xs, 1, None).unwrap();
        truth.compare(&y.read_blocking(&gpu).unwrap()).unwrap()
    });
    assert!(replaced > 0 && refused > 0, "{replaced}, {refused}");
}
