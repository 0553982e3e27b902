//! What a host that owns the device relies on: arenas, and handlers and scopes that stay its own.

mod common;

use common::gpu;
use lacuna::{
    Activation, Active, Caps, Error, Gpu, PlanBuilder, Tensor,
    caps::DeviceClass,
    compress,
    format::{Dense, Format, Matrix, Precision},
    kernel::{self, Layout, Skip, compact},
    verify::{Case, Random},
    wgpu,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

fn noop() -> Gpu {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    Gpu::from_wgpu(device, queue)
}

fn matrix(rows: usize, cols: usize, format: &str, seed: u64) -> Matrix {
    let values = Random(seed).vector(rows * cols);
    let dense = Dense::from_f32(rows, cols, values).unwrap();
    compress::compress(&dense, format.parse().unwrap()).unwrap()
}

/// A buffer of the host. Tensors in it begin at multiples of a step, and the rest is NaN.
struct Arena {
    buffer: wgpu::Buffer,
    next: u64,
}

const STEP: u64 = 256;

impl Arena {
    fn new(gpu: &Gpu, bytes: u64) -> Self {
        let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("arena"),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let arena = Self { buffer, next: 0 };
        let whole = arena.whole(gpu);
        whole.write(gpu, &vec![f32::NAN; whole.len()]).unwrap();
        arena
    }

    fn whole(&self, gpu: &Gpu) -> Tensor {
        let len = self.buffer.size() as usize / 4;
        gpu.tensor_in(&self.buffer, 0, 1, len).unwrap()
    }

    /// Takes a tensor and leaves at least a step of NaN behind it.
    fn take(&mut self, gpu: &Gpu, batch: usize, len: usize) -> Tensor {
        let tensor = gpu.tensor_in(&self.buffer, self.next, batch, len).unwrap();
        self.next = (self.next + tensor.bytes()).next_multiple_of(STEP) + STEP;
        tensor
    }
}

#[test]
fn every_kernel_computes_inside_one_buffer() {
    let Some(gpu) = gpu() else { return };
    let mut products = vec![
        ("f32", Precision::F32),
        ("2:4x16@f16", Precision::F32),
        ("w4g16s50", Precision::F32),
        ("w4g16s50-ragged", Precision::F32),
        ("w4g32", Precision::I8),
        ("w4g32s50", Precision::I8),
    ];
    if gpu.caps().cooperative.is_some() {
        products.push(("f16", Precision::F16));
    }
    let (mut met, mut checked) = (BTreeSet::new(), BTreeSet::new());
    let products = products.iter().flat_map(|p| [(p, 1), (p, 37)]);
    for ((format, precision), batch) in products {
        let case = Case::new(65, 132, batch, format.parse().unwrap(), true).taking(*precision);
        let (rows, cols) = (case.problem.rows, case.problem.cols);
        let truth = case.reference().unwrap();
        for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
            let caps = Caps {
                class,
                ..*gpu.caps()
            };
            let weight = gpu.upload_for(class, &case.weight).unwrap();
            for candidate in kernel::candidates(&case.problem, &caps).unwrap() {
                // Where a kernel writes does not depend on the format; some take ten seconds to compile.
                if !met.insert((candidate.kernel.name(), batch)) {
                    continue;
                }
                let mut arena = Arena::new(&gpu, 64 << 10);
                let x = arena.take(&gpu, batch, cols);
                let y = arena.take(&gpu, batch, rows);
                let bias = arena.take(&gpu, 1, rows);
                x.write(&gpu, &case.x).unwrap();
                bias.write(&gpu, case.bias.as_ref().unwrap()).unwrap();
                let mut builder = PlanBuilder::new(&gpu);
                builder
                    .precision(*precision)
                    .linear_with(candidate, &weight, &x, Some(&bias), &y)
                    .unwrap();
                checked.insert(candidate.kernel.name());
                builder.build().unwrap().run().unwrap();
                let all = arena.whole(&gpu).read_blocking(&gpu).unwrap();
                let at = (x.bytes().next_multiple_of(STEP) + STEP) as usize / 4;
                let comparison = truth.compare(&all[at..at + batch * rows]).unwrap();
                assert!(comparison.passes(), "{} {candidate}", case.problem);
                let written = all.iter().filter(|v| !v.is_nan()).count();
                assert_eq!(
                    written,
                    case.x.len() + batch * rows + rows,
                    "{candidate} wrote between the tensors"
                );
            }
        }
    }
    let linear = kernel::KERNELS.iter().map(|k| k.name());
    let without = match gpu.caps().cooperative {
        Some(_) => "",
        None => "gemm_coop",
    };
    let linear = linear.filter(|&name| name != "band_gemv" && name != without);
    assert_eq!(checked, linear.collect());
}

#[test]
fn active_channels_lie_where_the_host_says() {
    let Some(gpu) = gpu() else { return };
    for (layout, skip) in [(Layout::Bands, Skip::Cols), (Layout::Rows, Skip::Rows)] {
        let case = Case::new(64, 96, 2, "f32".parse().unwrap(), false).skipping(layout, skip);
        let (decides, channels) = match skip {
            Skip::Cols => (&case.x, 96),
            _ => (&case.gate, 64),
        };
        let weight = gpu
            .upload_as(layout, gpu.caps().class, &case.weight)
            .unwrap();
        let mut arena = Arena::new(&gpu, 64 << 10);
        let mut take = |batch, len| arena.take(&gpu, batch, len);
        let (x, y, limit) = (take(2, 96), take(2, 64), take(1, 1));
        let (by, kept) = (take(2, channels), take(2, channels));
        let words = compact::list_words(channels);
        let list = take(1, words);
        x.write(&gpu, &case.x).unwrap();
        by.write(&gpu, decides).unwrap();
        limit.write(&gpu, &[0.5f32]).unwrap();
        list.write(&gpu, &vec![0u32; words]).unwrap();
        let active = Active::new(kept.clone(), list.clone()).unwrap();
        let mut builder = PlanBuilder::new(&gpu);
        builder
            .threshold(&by, &limit, Activation::None, &active)
            .unwrap();
        let y = if skip == Skip::Cols {
            builder.input_sparse(&weight, &active, None, &y).unwrap();
            &y
        } else {
            builder.masked(&weight, &x, None, &active).unwrap();
            &kept
        };
        builder.build().unwrap().run().unwrap();
        let found = y.read_blocking(&gpu).unwrap();
        let comparison = case.reference().unwrap().compare(&found).unwrap();
        assert!(comparison.passes(), "{skip:?}: {comparison:?}");

        let short = Active::new(kept.clone(), limit);
        assert!(matches!(short, Err(Error::Shape { .. })), "{short:?}");
    }
    let none = gpu.active(0, usize::MAX);
    assert!(matches!(none, Err(Error::TooLarge { .. })), "{none:?}");
}

#[test]
fn a_tensor_is_rebound_into_the_buffer_of_another() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(64, 64, 1, "f32".parse().unwrap(), false);
    let weight = gpu.upload(&case.weight).unwrap();
    let x = gpu.tensor_from(1, 64, &case.x).unwrap();
    let mut arena = Arena::new(&gpu, 4096);
    let (y, beside) = (arena.take(&gpu, 1, 64), arena.take(&gpu, 1, 64));
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &x, None, &y).unwrap();
    let mut plan = builder.build().unwrap();
    beside.write(&gpu, &case.x).unwrap();
    assert_eq!(plan.rebind(&x, &beside), Ok(1));
    plan.run().unwrap();
    let first = y.read_blocking(&gpu).unwrap();
    assert!(case.reference().unwrap().compare(&first).unwrap().passes());
    // And back out of it.
    assert_eq!(plan.rebind(&beside, &x), Ok(1));
    plan.run().unwrap();
    assert_eq!(y.read_blocking(&gpu).unwrap(), first);
}

#[test]
fn a_plan_of_slots_computes_wherever_each_call_says() {
    let Some(gpu) = gpu() else { return };
    for (format, batch) in [("2:4", 1), ("w4g64s50", 1), ("2:4x8", 37)] {
        let case = Case::new(64, 64, batch, format.parse().unwrap(), true);
        let truth = case.reference().unwrap();
        let weight = gpu.upload(&case.weight).unwrap();
        let bias = gpu.tensor_from(1, 64, case.bias.as_ref().unwrap()).unwrap();
        let (x, y) = (gpu.slot(batch, 64).unwrap(), gpu.slot(batch, 64).unwrap());
        assert_ne!(x, y);
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear(&weight, &x, Some(&bias), &y).unwrap();
        let plan = builder.build().unwrap();
        let mut arena = Arena::new(&gpu, 64 << 10);
        let places = [(); 3].map(|()| arena.take(&gpu, batch, 64));
        let apart = gpu.tensor(batch, 64).unwrap();
        // Each call reads where the one before it wrote; the last two leave the arena and come back.
        let [a, b, c] = &places;
        for (from, to) in [(a, b), (b, c), (c, a), (a, &apart), (&apart, a)] {
            from.write(&gpu, &case.x).unwrap();
            let mut encoder = gpu.encoder();
            plan.encode_with(&mut encoder, &[(&x, from), (&y, to)])
                .unwrap();
            gpu.submit(encoder).unwrap();
            let found = to.read_blocking(&gpu).unwrap();
            let comparison = truth.compare(&found).unwrap();
            assert!(comparison.passes(), "{format}: {comparison:?}");
        }
    }
}

#[test]
fn what_cannot_stand_in_a_slot_is_refused() {
    let gpu = noop();
    let weight = gpu.upload(&matrix(64, 64, "f32", 1)).unwrap();
    let (x, y) = (gpu.slot(2, 64).unwrap(), gpu.slot(2, 64).unwrap());
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &x, None, &y).unwrap();
    let plan = builder.build().unwrap();
    let mut encoder = gpu.encoder();
    let right = gpu.tensor(2, 64).unwrap();
    for wrong in [gpu.tensor(1, 64).unwrap(), gpu.tensor(2, 65).unwrap()] {
        let refused = plan.encode_with(&mut encoder, &[(&x, &wrong), (&y, &right)]);
        assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
    }
    let refused = plan.encode_with(&mut encoder, &[(&x, &right), (&y, &right)]);
    assert!(
        matches!(refused, Err(Error::Aliasing { .. })),
        "{refused:?}"
    );
    for (pairs, words) in [
        (
            &[(&x, &right), (&right, &right)][..],
            "launches with an old",
        ),
        (&[(&x, &right), (&x, &right)], "pairs with the same old"),
    ] {
        let refused = plan.encode_with(&mut encoder, pairs).unwrap_err();
        assert!(refused.to_string().starts_with(words), "{refused}");
    }
    // A slot has no memory of its own.
    let refused = x.read_blocking(&gpu);
    assert!(matches!(refused, Err(Error::Buffer { .. })), "{refused:?}");
    let refused = x.write(&gpu, &[0.0f32; 128]);
    assert!(matches!(refused, Err(Error::Buffer { .. })), "{refused:?}");
    let refused = gpu.slot(4, 128).unwrap().view(&gpu, 256, 1, 128);
    assert!(matches!(refused, Err(Error::Buffer { .. })), "{refused:?}");
    assert!(matches!(
        gpu.slot(usize::MAX, 2),
        Err(Error::TooLarge { .. })
    ));
    gpu.mark_lost("unplugged");
    let lost = plan.encode_with(&mut encoder, &[(&x, &right)]);
    assert_eq!(lost, Err(Error::DeviceLost("unplugged".into())));
}

#[test]
fn two_hosts_on_one_device_do_not_meet() {
    let Some(first) = gpu() else { return };
    let second = Gpu::from_wgpu(first.device().clone(), first.queue().clone());
    let format: Format = "2:4x8".parse().unwrap();
    let case = Case::new(96, 128, 2, format, true);
    let truth = case.reference().unwrap();
    std::thread::scope(|scope| {
        for gpu in [&first, &second] {
            let (case, truth) = (&case, &truth);
            scope.spawn(move || {
                for candidate in kernel::candidates(&case.problem, gpu.caps()).unwrap() {
                    let comparison = case.check(gpu, candidate, truth).unwrap();
                    assert!(comparison.passes(), "{candidate}: {comparison:?}");
                }
            });
        }
    });
    // Plans and weights of either run in one submission.
    let weight = first.upload(&case.weight).unwrap();
    let x = second.tensor_from(2, 128, &case.x).unwrap();
    let bias = first
        .tensor_from(1, 96, case.bias.as_ref().unwrap())
        .unwrap();
    let ys = [&first, &second].map(|gpu| gpu.tensor(2, 96).unwrap());
    let mut encoder = first.encoder();
    for (gpu, y) in [&first, &second].into_iter().zip(&ys) {
        let mut builder = PlanBuilder::new(gpu);
        builder.linear(&weight, &x, Some(&bias), y).unwrap();
        builder.build().unwrap().encode(&mut encoder).unwrap();
    }
    second.submit(encoder).unwrap();
    for y in ys {
        let y = y.read_blocking(&first).unwrap();
        assert!(truth.compare(&y).unwrap().passes());
    }
}

#[test]
fn the_hosts_handler_and_scopes_see_their_own_errors_only() {
    let gpu = noop();
    let seen = Arc::new(Mutex::new(vec![]));
    let heard = Arc::clone(&seen);
    let device = gpu.device();
    device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
        heard.lock().unwrap().push(e.to_string());
    }));
    // More than the device has: a validation error of wgpu's, not a limit that is looked up.
    let too_large = || {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("the host's"),
            size: 1 << 60,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    let refused = || {
        let mut builder = PlanBuilder::new(&gpu);
        let broken = kernel::Dispatch {
            name: "broken".into(),
            fragments: vec!["not WGSL".into()],
            grid: [1, 1, 1],
            ..kernel::Dispatch::default()
        };
        builder.dispatch(broken, &[]).unwrap();
        builder.build().map(|_| ())
    };

    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    assert!(matches!(refused(), Err(Error::Kernel { .. })));
    assert!(
        pollster::block_on(scope.pop()).is_none(),
        "our error reached the host's scope"
    );

    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    too_large();
    assert!(matches!(refused(), Err(Error::Kernel { .. })));
    let own = pollster::block_on(scope.pop()).expect("the host's error was swallowed");
    assert!(own.to_string().contains("the host's"), "{own}");

    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
    assert!(matches!(refused(), Err(Error::Kernel { .. })));
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
    too_large();
    let heard = seen.lock().unwrap().join("\n");
    assert!(heard.contains("the host's"), "{heard}");
}

#[test]
fn scopes_of_other_threads_catch_nothing_of_ours() {
    let gpu = noop();
    let ours = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..50 {
                    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
                    let y = gpu.tensor(1, 4).unwrap();
                    let bad = kernel::Dispatch {
                        name: "broken".into(),
                        fragments: vec!["not WGSL".into()],
                        grid: [1, 1, 1],
                        ..kernel::Dispatch::default()
                    };
                    let mut builder = PlanBuilder::new(&gpu);
                    builder.dispatch(bad, &[y]).unwrap();
                    let refused = builder.build().map(|_| ());
                    assert!(matches!(refused, Err(Error::Kernel { .. })), "{refused:?}");
                    assert!(pollster::block_on(scope.pop()).is_none());
                    ours.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(ours.into_inner(), 200);
}
