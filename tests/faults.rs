//! What must not break the engine: foreign, destroyed and lost things, odd weights, many threads.
//! The number above a test is that of its case in `docs/faults.md`, which lists all cases.

mod common;

use common::gpu;
use lacuna::{
    Activation, Caps, Error, Gpu, Plan, PlanBuilder, Tensor,
    caps::{DeviceClass, Subgroups},
    compress,
    format::{Dense, Dtype, Format},
    gpu::{Options, ReadBack, adapters},
    kernel::{self, Layout, Packed},
    reference,
    verify::{Case, Random},
    wgpu,
};
use std::{fs, time::Duration};

fn noop() -> Gpu {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    Gpu::from_wgpu(device, queue)
}

fn is_lost<T>(result: Result<T, Error>) -> bool {
    matches!(result.err(), Some(Error::DeviceLost(_)))
}

/// A product and everything that it needs.
struct Product {
    gpu: Gpu,
    weight: lacuna::Weight,
    x: Tensor,
    y: Tensor,
    plan: Plan,
}

impl Product {
    fn new(gpu: &Gpu, case: &Case) -> Self {
        let (rows, cols, batch) = (case.problem.rows, case.problem.cols, case.problem.batch);
        let weight = gpu.upload(&case.weight).unwrap();
        let x = gpu.tensor_from(batch, cols, &case.x).unwrap();
        let y = gpu.tensor(batch, rows).unwrap();
        let mut builder = PlanBuilder::new(gpu);
        builder.linear(&weight, &x, None, &y).unwrap();
        let plan = builder.build().unwrap();
        let gpu = gpu.clone();
        Self {
            gpu,
            weight,
            x,
            y,
            plan,
        }
    }

    fn compute(&self) -> Vec<f32> {
        self.plan.run().unwrap();
        self.y.read_blocking(&self.gpu).unwrap()
    }

    /// Asserts that every call reports the loss.
    fn assert_lost(&self, case: &Case) {
        let gpu = &self.gpu;
        assert!(is_lost(self.plan.run()));
        assert!(is_lost(self.plan.encode(&mut gpu.encoder())));
        assert!(is_lost(gpu.submit(gpu.encoder())));
        assert!(is_lost(gpu.wait()));
        assert!(is_lost(self.y.read_blocking(gpu)));
        assert!(is_lost(pollster::block_on(self.y.read(gpu))));
        assert!(is_lost(self.x.write(gpu, &case.x)));
        assert!(is_lost(self.weight.replace(gpu, &case.weight)));
        assert!(is_lost(gpu.upload(&case.weight)));
        assert!(is_lost(gpu.tensor(1, 1)));
        assert!(is_lost(gpu.active(1, 1)));
        let packed = Packed::new(&case.weight, Layout::Rows, gpu.caps()).unwrap();
        assert!(is_lost(gpu.upload_packed(&packed)));
        assert!(is_lost(PlanBuilder::new(gpu).build()));
    }
}

// 39
#[test]
fn weights_of_nothing_one_value_and_ones_are_right_in_every_format() {
    const SIDE: usize = 48;
    let Some(gpu) = gpu() else { return };
    let x = Random(1).vector(SIDE);
    for name in ["f32", "2:4", "1:8x16@f16", "w4g16", "2:4+w4g8", "w4g16s50"] {
        let format: Format = name.parse().unwrap();
        let identity = |i: usize| if i % (SIDE + 1) == 0 { 1.0 } else { 0.0 };
        let single = |i: usize| if i == 700 { -3.0 } else { 0.0 };
        let of = |value: &dyn Fn(usize) -> f32| {
            Dense::from_f32(SIDE, SIDE, (0..SIDE * SIDE).map(value).collect()).unwrap()
        };
        for dense in [of(&|_| 0.0), of(&single), of(&identity)] {
            let weight = compress::compress(&dense, format).unwrap();
            let truth = reference::linear(&weight, &x, 1, None).unwrap();
            let case = Case {
                weight,
                x: x.clone(),
                ..Case::new(SIDE, SIDE, 1, format, false)
            };
            let y = Product::new(&gpu, &case).compute();
            assert!(truth.compare(&y).unwrap().passes(), "{name}");
        }
    }
}

// 40
#[test]
fn a_list_that_the_host_overwrote_keeps_products_in_bounds() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(96, 96, 1, "f32".parse().unwrap(), false);
    let (rows, bands) = (
        gpu.upload(&case.weight).unwrap(),
        gpu.upload_bands(&case.weight).unwrap(),
    );
    // x, what is kept and y lie between numbers that must not change.
    let usage =
        wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let arena = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4096,
        usage,
        mapped_at_creation: false,
    });
    let whole = gpu.tensor_in(&arena, 0, 1, 1024).unwrap();
    whole.write(&gpu, &[7.0f32; 1024]).unwrap();
    let y = gpu.tensor_in(&arena, 1024, 1, 96).unwrap();
    let x = gpu.tensor_from(1, 96, &case.x).unwrap();
    let threshold = gpu.tensor_from(1, 1, &[0.5f32]).unwrap();
    let active = gpu.active(1, 96).unwrap();
    let mut search = PlanBuilder::new(&gpu);
    search
        .threshold(&x, &threshold, Activation::None, &active)
        .unwrap();
    search.build().unwrap().run().unwrap();
    let mut products = PlanBuilder::new(&gpu);
    products
        .input_sparse(&bands, &active, None, &y)
        .unwrap()
        .masked(&rows, &x, None, &active)
        .unwrap();
    let products = products.build().unwrap();
    let mut random = Random(9);
    for round in 0..6 {
        let word = |random: &mut Random| match round {
            0 => u32::MAX,
            1 => i32::MAX as u32,
            _ => (random.bits() >> (32 + round)) as u32,
        };
        let list: Vec<u32> = (0..active.list().len())
            .map(|_| word(&mut random))
            .collect();
        active.list().write(&gpu, &list).unwrap();
        products.run().unwrap();
        let all = whole.read_blocking(&gpu).unwrap();
        let mut beside = all[..256].iter().chain(&all[256 + 96..]);
        assert!(beside.all(|v| v.to_bits() == 7f32.to_bits()));
    }
}

// 44
#[test]
fn buffers_that_are_foreign_destroyed_or_mapped_are_errors() {
    // wgpu tells devices of one instance apart, but not devices of two instances.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        backend_options: wgpu::BackendOptions {
            noop: wgpu::NoopBackendOptions::enabled(),
            ..Default::default()
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let open = || {
        let adapter =
            pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
                .unwrap();
        let (device, queue) =
            pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
        Gpu::from_wgpu(device, queue)
    };
    let (gpu, other) = (open(), open());
    let case = Case::new(64, 64, 1, "f32".parse().unwrap(), false);
    let product = Product::new(&gpu, &case);
    let buffer = |gpu: &Gpu, usage, mapped_at_creation| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 1024,
            usage,
            mapped_at_creation,
        })
    };
    let storage = wgpu::BufferUsages::STORAGE;
    let with = |x: &wgpu::Buffer| {
        let x = gpu.tensor_in(x, 0, 1, 64)?;
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear(&product.weight, &x, None, &product.y)?;
        builder.build()
    };
    let refused = |result: lacuna::Result<()>, words: &str| match result {
        Err(Error::Gpu { message, .. }) => assert!(message.contains(words), "{message}"),
        other => panic!("{other:?}"),
    };

    let foreign = buffer(&other, storage, false);
    refused(with(&foreign).map(drop), "doesn't match Device");

    let destroyed = buffer(&gpu, storage, false);
    let plan = with(&destroyed).unwrap();
    destroyed.destroy();
    refused(plan.run(), "destroyed");
    refused(with(&destroyed).map(drop), "destroyed");

    let mapped = buffer(&gpu, storage, true);
    refused(with(&mapped).unwrap().run(), "mapped");
    mapped.unmap();
    with(&mapped).unwrap().run().unwrap();

    let unreadable = gpu.tensor_in(&mapped, 0, 1, 64).unwrap();
    assert!(matches!(
        unreadable.read_blocking(&gpu),
        Err(Error::Buffer { .. })
    ));
    let unwritable = unreadable.write(&gpu, &[0.0f32; 64]);
    assert!(
        matches!(&unwritable, Err(Error::Buffer { reason, .. }) if reason.contains("COPY_DST")),
        "{unwritable:?}"
    );
    // None of these errors lost the device.
    product.plan.run().unwrap();
}

// 44
#[test]
fn two_devices_that_the_engine_opened_do_not_take_each_others_buffers() {
    let Some(gpu) = gpu() else { return };
    let other = Gpu::new_blocking(&Options::default()).unwrap();
    let case = Case::new(64, 64, 1, "2:4".parse().unwrap(), false);
    let (own, foreign) = (Product::new(&gpu, &case), Product::new(&other, &case));
    let refused = |result: lacuna::Result<()>| match result {
        Err(Error::Gpu { message, .. }) => {
            assert!(message.contains("doesn't match Device"), "{message}");
        }
        other => panic!("{other:?}"),
    };
    refused(foreign.x.write(&gpu, &case.x));
    refused(foreign.y.read_blocking(&gpu).map(drop));
    refused(foreign.weight.replace(&gpu, &case.weight));
    for (weight, x) in [(&foreign.weight, &own.x), (&own.weight, &foreign.x)] {
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear(weight, x, None, &own.y).unwrap();
        refused(builder.build().map(drop));
    }
    own.plan.run().unwrap();
    let y = own.y.read_blocking(&gpu).unwrap();
    assert!(case.reference().unwrap().compare(&y).unwrap().passes());
}

// 45
#[test]
fn what_a_submission_uses_may_be_dropped_before_it_has_run() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(256, 512, 4, "2:4".parse().unwrap(), false);
    let truth = case.reference().unwrap();
    let Product {
        weight, x, y, plan, ..
    } = Product::new(&gpu, &case);
    for _ in 0..8 {
        plan.run().unwrap();
    }
    drop((weight, x, plan));
    let y = y.read_blocking(&gpu).unwrap();
    assert!(truth.compare(&y).unwrap().passes());
}

// 50
#[test]
fn without_features_another_candidate_is_chosen_and_the_reason_is_told() {
    let bare = |class, subgroups| Caps {
        class,
        subgroups,
        ..Caps::PORTABLE
    };
    let eight = Some(Subgroups { min: 8, max: 8 });
    let problem = Case::new(64, 64, 1, "f32".parse().unwrap(), false).problem;
    for (caps, missing) in [
        (bare(DeviceClass::Gpu, None), "SUBGROUP"),
        (bare(DeviceClass::Cpu, eight), "SHADER_INT64"),
    ] {
        let survey = kernel::survey(&problem, &caps).unwrap();
        let told = survey.iter().any(|(_, why)| {
            matches!(why, Err(Error::MissingFeature { feature, .. }) if *feature == missing)
        });
        assert!(told, "{missing}");
    }
    let gpu = noop();
    assert!(gpu.caps().subgroups.is_none() && !gpu.caps().int64);
    let case = Case::new(64, 64, 1, "2:4".parse().unwrap(), false);
    let product = Product::new(&gpu, &case);
    let mut steps = product.plan.steps();
    assert!(steps.all(|step| !step.subgroups && !step.int64));
}

// 52
#[test]
fn weights_at_the_limit_of_a_binding_are_split_where_it_ends() {
    const MIB: u64 = 1 << 20;
    let limit = 128 * MIB;
    let f32s = Format::Dense(Dtype::F32);
    // Rows of 1 MiB. Padding leaves room for 127 in a part; several parts hold multiples of 64 rows.
    let cols = (MIB / 4) as usize;
    for (rows, parts) in [(1, 1), (127, 1), (128, 2), (129, 3), (2048 + 5, 33)] {
        let split = kernel::layout::split(f32s, rows, cols, DeviceClass::Cpu, limit).unwrap();
        assert_eq!(split.len(), parts, "{rows} MiB");
        assert!(split.iter().all(|p| u64::from(p.words) * 4 <= limit));
        let held: usize = split.iter().map(|p| p.rows as usize).sum();
        assert_eq!(held, rows);
    }
    // A single row: one that is too long is refused with its size and the limit.
    let longest = (limit / 4) as usize - 64;
    let alone = |cols| kernel::layout::split(f32s, 1, cols, DeviceClass::Cpu, limit);
    assert_eq!(alone(longest).unwrap().len(), 1);
    assert!(matches!(
        alone(longest + 64),
        Err(Error::Limit { value, limit: l, .. }) if value > limit && l == limit
    ));
}

// 54
#[test]
fn no_more_is_asked_for_than_the_adapter_has() {
    let Some(gpu) = gpu() else { return };
    let adapters = pollster::block_on(adapters());
    let name = gpu.info().name;
    let own = adapters.iter().find(|a| a.info.name == name).unwrap();
    let limits = &own.limits;
    let caps = gpu.caps();
    assert!(caps.max_buffer_bytes <= limits.max_buffer_size);
    assert!(caps.max_binding_bytes <= limits.max_storage_buffer_binding_size);
    assert!(caps.max_invocations <= limits.max_compute_invocations_per_workgroup);
    let features = own.features;
    assert!(!caps.timestamps || features.contains(wgpu::Features::TIMESTAMP_QUERY));
    assert!(caps.subgroups.is_none() || features.contains(wgpu::Features::SUBGROUP));
    // Going past a limit of the device is an error, with both numbers.
    let past = (caps.max_binding_bytes / 4 + 1) as usize;
    assert!(matches!(gpu.tensor(1, past), Err(Error::Limit { .. })));
}

/// Loses the device of a product, by calling the given function at some point of its work.
type Point = fn(&Product, &dyn Fn(&Gpu));

// 57
#[test]
fn a_loss_at_any_point_is_told_by_every_call_after_it() {
    let case = Case::new(64, 64, 1, "2:4".parse().unwrap(), false);
    let lose = |gpu: &Gpu| gpu.device().destroy();
    let points: [Point; 4] = [
        // Before anything is encoded.
        |product, lose| {
            lose(&product.gpu);
            assert!(is_lost(product.plan.run()));
        },
        // Between encoding and submitting.
        |product, lose| {
            let mut encoder = product.gpu.encoder();
            product.plan.encode(&mut encoder).unwrap();
            lose(&product.gpu);
            assert!(is_lost(product.gpu.submit(encoder)));
        },
        // After submitting.
        |product, lose| {
            product.plan.run().unwrap();
            lose(&product.gpu);
            assert!(is_lost(product.gpu.wait()));
        },
        // While a result is read.
        |product, lose| {
            product.plan.run().unwrap();
            let mut read = Box::pin(product.y.read(&product.gpu));
            let waker = std::task::Waker::noop();
            let first = read
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
            if first.is_pending() {
                lose(&product.gpu);
                assert!(is_lost(pollster::block_on(read)));
            } else {
                lose(&product.gpu);
                assert!(is_lost(product.gpu.wait()));
            }
        },
    ];
    for point in points {
        for gpu in [Some(noop()), gpu()].into_iter().flatten() {
            let product = Product::new(&gpu, &case);
            point(&product, &lose);
            product.assert_lost(&case);
        }
    }
}

// 57
#[test]
fn what_is_built_again_after_a_loss_gives_the_same_bits() {
    let Some(first) = gpu() else { return };
    let case = Case::new(130, 260, 3, "2:4x8".parse().unwrap(), false);
    let bits = |gpu: &Gpu| -> Vec<u32> {
        let y = Product::new(gpu, &case).compute();
        y.into_iter().map(f32::to_bits).collect()
    };
    let before = bits(&first);
    first.device().destroy();
    assert!(is_lost(first.wait()));
    let second = Gpu::new_blocking(&Options::default()).unwrap();
    assert_eq!(bits(&second), before);
    assert!(is_lost(first.wait()), "the other device changes nothing");
}

// 57
#[test]
fn a_read_that_is_asked_for_twice_or_given_up_is_no_loss() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(256, 1024, 64, "f32".parse().unwrap(), false);
    let busy = Product::new(&gpu, &case);
    let read_back = ReadBack::new(&gpu, &busy.y).unwrap();
    let copy = || {
        let mut encoder = gpu.encoder();
        for _ in 0..20 {
            busy.plan.encode(&mut encoder).unwrap();
        }
        read_back.encode(&mut encoder);
        gpu.submit(encoder)
    };
    copy().unwrap();
    let mut first = Box::pin(read_back.read::<f32>(&gpu));
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    assert!(first.as_mut().poll(&mut context).is_pending());
    let second = read_back.read_blocking::<f32>(&gpu);
    assert!(matches!(second, Err(Error::Gpu { .. })), "{second:?}");
    drop(first);
    copy().unwrap();
    let y = read_back.read_blocking::<f32>(&gpu).unwrap();
    assert!(case.reference().unwrap().compare(&y).unwrap().passes());

    // The buffer of a read that is given up may be gone with its device.
    copy().unwrap();
    let mut last = Box::pin(read_back.read::<f32>(&gpu));
    assert!(last.as_mut().poll(&mut context).is_pending());
    gpu.device().destroy();
    drop(last);
    assert!(is_lost(read_back.read_blocking::<f32>(&gpu)));
}

// 59
#[test]
fn a_wait_that_is_too_short_is_an_error_and_the_work_goes_on() {
    if gpu().is_none() {
        return;
    }
    let timeout = Some(Duration::from_micros(1));
    let options = Options {
        timeout,
        ..Options::default()
    };
    let gpu = Gpu::new_blocking(&options).unwrap();
    let case = Case::new(256, 1024, 64, "f32".parse().unwrap(), false);
    let waited = |result: Result<(), Error>| match result {
        Ok(()) => true,
        Err(Error::Timeout(t)) if Some(t) == timeout => false,
        other => panic!("{other:?}"),
    };
    // Uploading waits too, so it may time out and have to be repeated.
    let weight = loop {
        match gpu.upload(&case.weight) {
            Err(Error::Timeout(_)) => {}
            other => break other.unwrap(),
        }
    };
    let x = gpu.tensor_from(64, 1024, &case.x).unwrap();
    let y = gpu.tensor(64, 256).unwrap();
    let mut builder = PlanBuilder::new(&gpu);
    for _ in 0..20 {
        builder.linear(&weight, &x, None, &y).unwrap();
    }
    builder.build().unwrap().run().unwrap();
    let mut late = 0;
    while !waited(gpu.wait()) {
        late += 1;
    }
    assert!(late > 0, "the work was done within a microsecond");
    let read = y.read_blocking(&gpu);
    let read = read.or_else(|_| pollster::block_on(y.read(&gpu))).unwrap();
    let truth = case.reference().unwrap();
    assert!(truth.compare(&read).unwrap().passes());
}

// 62
#[test]
fn a_panic_in_a_callback_of_the_hosts_leaves_the_engine_whole() {
    let gpu = noop();
    let case = Case::new(64, 64, 1, "f32".parse().unwrap(), false);
    let product = Product::new(&gpu, &case);
    gpu.queue()
        .on_submitted_work_done(|| std::panic::panic_any("the host's own"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        product.plan.run().unwrap();
        gpu.wait().unwrap();
    }));
    let caught = caught.expect_err("the callback ran");
    assert_eq!(caught.downcast_ref::<&str>(), Some(&"the host's own"));
    product.compute();
    assert_eq!(gpu.wait(), Ok(()));
}

// 67
#[test]
fn threads_share_a_device() {
    let Some(gpu) = gpu() else { return };
    let format: Format = "2:4x8".parse().unwrap();
    let cases: Vec<Case> = (1..=8)
        .map(|batch| Case::new(64, 96, batch, format, false))
        .collect();
    std::thread::scope(|scope| {
        for case in &cases {
            let gpu = &gpu;
            scope.spawn(move || {
                let product = Product::new(gpu, case);
                let truth = case.reference().unwrap();
                for _ in 0..8 {
                    let comparison = truth.compare(&product.compute()).unwrap();
                    assert!(comparison.passes(), "{comparison:?}");
                }
            });
        }
    });
}

/// Rows of the table of `docs/faults.md`: the number and the text of the last column.
fn table() -> Vec<(usize, String)> {
    let text = fs::read_to_string("docs/faults.md").unwrap();
    let rows = text.lines().filter(|l| l.starts_with("| "));
    let cells = rows.map(|l| l.split('|').map(str::trim).collect::<Vec<_>>());
    let number = |cells: Vec<&str>| Some((cells[1].parse().ok()?, cells[4].to_owned()));
    cells.filter_map(number).collect()
}

#[test]
fn the_table_of_faults_names_tests_that_exist() {
    let table = table();
    let numbers: Vec<usize> = table.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
    let mut named = 0;
    for (number, place) in table {
        for test in place.split('`').skip(1).step_by(2) {
            let (file, name) = test.split_once(' ').unwrap();
            let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(
                text.contains(&format!("fn {name}(")),
                "case {number}: no {name} in {file}"
            );
            named += 1;
        }
    }
    assert!(named > 60, "{named} tests are named only");
}
