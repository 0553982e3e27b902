//! Plans on wgpu's no-op device: everything the host decides, without a GPU.

use lacuna::{
    Caps, Error, Gpu, PlanBuilder, Tensor, Tuning, Workspace,
    caps::DeviceClass,
    format::{Dense, Dtype, Format, Matrix},
    kernel::{self, Dispatch, Operand, Problem, Role},
    verify::Case,
    wgpu,
};

fn noop(limits: wgpu::Limits) -> Gpu {
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: limits,
        ..Default::default()
    };
    let (device, queue) = wgpu::Device::noop(&descriptor);
    Gpu::from_wgpu(device, queue)
}

fn weight(rows: usize, cols: usize) -> Matrix {
    Dense::from_f32(rows, cols, vec![1.0; rows * cols])
        .unwrap()
        .into()
}

struct Linear {
    gpu: Gpu,
    weight: lacuna::Weight,
    x: Tensor,
    y: Tensor,
}

fn linear(gpu: Gpu, rows: usize, cols: usize, batch: usize) -> Linear {
    let weight = gpu.upload(&weight(rows, cols)).unwrap();
    let (x, y) = (
        gpu.tensor(batch, cols).unwrap(),
        gpu.tensor(batch, rows).unwrap(),
    );
    Linear { gpu, weight, x, y }
}

#[test]
fn operands_of_the_wrong_shape_are_refused_by_name() {
    let Linear { gpu, weight, x, y } = linear(noop(wgpu::Limits::default()), 8, 4, 2);
    let shape = |x: &Tensor, bias: Option<&Tensor>, y: &Tensor| match PlanBuilder::new(&gpu)
        .linear(&weight, x, bias, y)
        .map(|_| ())
    {
        Err(Error::Shape {
            what,
            got,
            expected,
        }) => (what, got, expected),
        other => panic!("{other:?}"),
    };
    let other = |batch, len| gpu.tensor(batch, len).unwrap();
    assert_eq!(shape(&other(2, 5), None, &y), ("x columns", 5, 4));
    assert_eq!(shape(&x, None, &other(2, 7)), ("y columns", 7, 8));
    assert_eq!(shape(&x, None, &other(3, 8)), ("y vectors", 3, 2));
    assert_eq!(shape(&x, Some(&other(1, 3)), &y), ("bias elements", 3, 8));
}

#[test]
fn a_buffer_may_be_read_and_written_at_once_in_disjoint_ranges() {
    let gpu = noop(wgpu::Limits::default());
    let weight = gpu.upload(&weight(64, 64)).unwrap();
    let usage = wgpu::BufferUsages::STORAGE;
    let arena = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4096,
        usage,
        mapped_at_creation: false,
    });
    let x = gpu.tensor_in(&arena, 1024, 1, 64).unwrap();
    let beside = gpu.tensor_in(&arena, 1024 + 256, 1, 64).unwrap();
    let product = |y: &Tensor| {
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear(&weight, &x, None, y)?;
        builder.build()?.run()
    };
    assert_eq!(product(&beside), Ok(()));
    let aliasing = Err(Error::Aliasing {
        first: "y",
        second: "x",
    });
    assert_eq!(product(&x), aliasing);
    // x is the second half of one tensor and the first half of another.
    let wide = |offset| gpu.tensor_in(&arena, offset, 1, 128).unwrap();
    let mut into_x = PlanBuilder::new(&gpu);
    let weight = gpu.upload(&self::weight(128, 64)).unwrap();
    let refused = into_x.linear(&weight, &x, None, &wide(768)).map(|_| ());
    assert_eq!(refused, aliasing);
    let refused = into_x.linear(&weight, &x, None, &wide(1024)).map(|_| ());
    assert_eq!(refused, aliasing);
    assert!(into_x.linear(&weight, &x, None, &wide(512)).is_ok());
}

#[test]
fn a_result_over_its_input_is_refused_however_many_launches_there_are() {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 160 << 10,
        ..wgpu::Limits::default()
    };
    let gpu = noop(limits);
    let weight = gpu.upload_bands(&weight(256, 256)).unwrap();
    assert!(weight.parts() > 1);
    let [t, y] = [(); 2].map(|()| gpu.tensor(1, 256).unwrap());
    let aliasing = Error::Aliasing {
        first: "y",
        second: "x",
    };
    let mut builder = PlanBuilder::new(&gpu);
    let refused = builder.linear(&weight, &t, None, &t).map(|_| ());
    assert_eq!(refused, Err(aliasing.clone()));
    builder.linear(&weight, &t, None, &y).unwrap();
    let mut plan = builder.build().unwrap();
    assert_eq!(plan.rebind(&y, &t), Err(aliasing));
}

#[test]
fn nothing_may_be_viewed_anywhere() {
    let Linear { gpu, weight, x, y } = linear(noop(wgpu::Limits::default()), 64, 64, 1);
    let [x, y] = [x, y].map(|t| t.view(&gpu, 64, 0, 64).unwrap());
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &x, None, &y).unwrap();
    builder.build().unwrap().run().unwrap();
}

#[test]
fn a_shader_that_hides_its_declarations_cannot_share_a_buffer() {
    let gpu = noop(wgpu::Limits::default());
    let arena = gpu.tensor(2, 64).unwrap();
    let (x, y) = (
        arena.view(&gpu, 0, 1, 64).unwrap(),
        arena.view(&gpu, 64, 1, 64).unwrap(),
    );
    let copy = |declaration: &str| Dispatch {
        name: "copy".into(),
        fragments: vec![
            format!(
                "@group(0) @binding(1) {declaration}: array<f32>;
                @group(0) @binding(2) var<storage, read_write> y: array<f32>;
                @compute @workgroup_size(64)
                fn main(@builtin(local_invocation_index) i: u32) {{ y[i] = x[i]; }}"
            )
            .into(),
        ],
        params: vec![0],
        operands: vec![
            Operand::read("x", 1, Role::Tensor(0)),
            Operand::write("y", 2, Role::Tensor(1)),
        ],
        invocations: 64,
        grid: [1, 1, 1],
        ..Dispatch::default()
    };
    let run = |declaration| {
        let mut builder = PlanBuilder::new(&gpu);
        builder.dispatch(copy(declaration), &[x.clone(), y.clone()])?;
        builder.build()?.run()
    };
    assert_eq!(run("var<storage, read> x"), Ok(()));
    let refused = run("var<storage,read> x").unwrap_err().to_string();
    assert!(
        refused.contains("buffer x: it is shared with y"),
        "{refused}"
    );
}

#[test]
fn plans_take_the_candidate_that_was_measured_where_it_is_legal() {
    let gpu = noop(wgpu::Limits::default());
    let weight = gpu.upload(&weight(64, 64)).unwrap();
    let problem: Problem = "f32 64x64 batch 1".parse().unwrap();
    let legal = Tuning::default().candidates(&problem, gpu.caps()).unwrap();
    let step = |tuning: Tuning, batch| {
        let gpu = gpu.clone().tuned(tuning);
        let (x, y) = (
            gpu.tensor(batch, 64).unwrap(),
            gpu.tensor(batch, 64).unwrap(),
        );
        let mut plan = PlanBuilder::new(&gpu);
        plan.linear(&weight, &x, None, &y).unwrap();
        let plan = plan.build().unwrap();
        plan.steps().next().unwrap().clone()
    };
    let mut tuning = Tuning::new("an adapter", "its driver");
    let [first, .., last] = legal.as_slice() else {
        panic!("one candidate");
    };
    assert_ne!(first.to_string(), last.to_string());
    tuning.prefer(&problem, last);
    let default = step(Tuning::default(), 1);
    assert_ne!(step(tuning.clone(), 1), default);
    assert_eq!(
        step(tuning.clone(), 2),
        step(Tuning::default(), 2),
        "another class"
    );
    tuning.forget(&problem);
    assert_eq!(step(tuning, 1), default);
    let gone = "lacuna tuning 1\nf32 64x64 batch 1 = gemv/was-once-g1-r1-b1-w1";
    assert_eq!(step(Tuning::parse(gone).unwrap(), 1), default);
}

#[test]
fn ranges_of_a_host_buffer_are_checked() {
    let gpu = noop(wgpu::Limits::default());
    let buffer = |usage, size| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    };
    let storage = buffer(wgpu::BufferUsages::STORAGE, 1024);
    let reason = |r: lacuna::Result<Tensor>| r.unwrap_err().to_string();
    assert!(gpu.tensor_in(&storage, 256, 3, 64).is_ok());
    assert!(reason(gpu.tensor_in(&storage, 4, 1, 4)).contains("offset 4 is no multiple of 256"));
    assert!(reason(gpu.tensor_in(&storage, 256, 4, 64)).contains("end past its 1024 bytes"));
    assert!(reason(gpu.tensor_in(&storage, u64::MAX - 255, 4, 64)).contains("end past"));
    assert!(reason(gpu.tensor_in(&storage, 0, 0, 64)).contains("empty"));
    let copy = buffer(wgpu::BufferUsages::COPY_DST, 1024);
    assert!(reason(gpu.tensor_in(&copy, 0, 1, 64)).contains("STORAGE"));
    assert!(matches!(
        gpu.tensor_in(&storage, 0, usize::MAX, 2),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        gpu.tensor_from(2, 2, &[0.0; 3]),
        Err(Error::Shape {
            got: 3,
            expected: 4,
            ..
        })
    ));
}

#[test]
fn weights_past_a_binding_are_split_between_index_words() {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 64 << 10,
        ..Default::default()
    };
    let gpu = noop(limits);
    assert_eq!(gpu.upload(&weight(100, 640)).unwrap().parts(), 4);
    let format: Format = "2:4x3".parse().unwrap();
    let case = Case::new(500, 128, 1, format, false);
    let parts = case.problem.parts(gpu.caps()).unwrap();
    assert!(parts.len() > 1);
    let mut next = 0;
    for part in &parts {
        assert_eq!((part.row_base, part.row_base % 12), (next, 0));
        assert!(u64::from(part.words) * 4 <= 64 << 10);
        next += part.rows;
    }
    assert_eq!(next, 500);
}

#[test]
fn what_can_never_fit_says_so_with_the_limit() {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 64 << 10,
        ..Default::default()
    };
    let gpu = noop(limits);
    let limit = 64 << 10;
    assert!(
        matches!(gpu.tensor(1, 16_385), Err(Error::Limit { value: 65_540, limit: l, .. }) if l == limit)
    );
    assert!(
        matches!(gpu.upload(&weight(1, 16_385)), Err(Error::Limit { limit: l, .. }) if l == limit)
    );
}

#[test]
fn a_plan_counts_its_memory_once() {
    let Linear { gpu, weight, x, y } = linear(noop(wgpu::Limits::default()), 64, 32, 1);
    let mut builder = PlanBuilder::new(&gpu);
    builder
        .linear(&weight, &x, None, &y)
        .unwrap()
        .linear(&weight, &x, None, &y)
        .unwrap();
    let plan = builder.build().unwrap();
    let memory = plan.memory();
    assert_eq!(plan.steps().len(), 2);
    assert_eq!(memory.weights, weight.bytes());
    assert_eq!(memory.tensors, x.bytes() + y.bytes());
    // Nor do views of each other count twice.
    let [narrow, wide] = [64, 128].map(|cols| gpu.upload(&self::weight(64, cols)).unwrap());
    let all = gpu.tensor(1, 128).unwrap();
    let half = all.view(&gpu, 64, 1, 64).unwrap();
    let out = gpu.tensor(1, 64).unwrap();
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&narrow, &half, None, &out).unwrap();
    builder.linear(&wide, &all, None, &out).unwrap();
    let memory = builder.build().unwrap().memory();
    assert_eq!(memory.tensors, all.bytes() + out.bytes());
    // And slots hold nothing of what will stand in them.
    let slot = gpu.slot(1, 128).unwrap();
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&wide, &slot, None, &out).unwrap();
    let memory = builder.build().unwrap().memory();
    assert!(memory.tensors < slot.bytes(), "{memory:?}");
}

#[test]
fn a_tensor_is_rebound_in_every_step_or_in_none() {
    let Linear { gpu, weight, x, y } = linear(noop(wgpu::Limits::default()), 64, 64, 1);
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &x, None, &y).unwrap();
    let mut plan = builder.build().unwrap();
    let other = gpu.tensor(1, 64).unwrap();
    assert_eq!(
        plan.rebind(&x, &y),
        Err(Error::Aliasing {
            first: "y",
            second: "x"
        })
    );
    assert_eq!(plan.rebind(&x, &other), Ok(1));
    assert_eq!(plan.rebind(&x, &other), Ok(0), "x is no longer in the plan");
    let short = gpu.tensor(1, 63).unwrap();
    assert!(matches!(
        plan.rebind(&other, &short),
        Err(Error::Shape {
            got: 63,
            expected: 64,
            ..
        })
    ));
    plan.run().unwrap();
}

#[test]
fn a_workspace_that_is_too_small_is_refused() {
    let Linear { gpu, weight, x, y } = linear(noop(wgpu::Limits::default()), 64, 64, 40);
    let case = Case::new(64, 64, 40, Format::Dense(Dtype::F32), false);
    let survey = case.survey(gpu.caps()).unwrap();
    let (lanes, _) = survey
        .iter()
        .find(|(c, _)| c.to_string().contains("each") && c.kernel.name() == "gemm_lanes")
        .unwrap();
    let build = |workspace: &Workspace| {
        let mut builder = PlanBuilder::new(&gpu);
        builder.workspace(workspace);
        builder.linear_with(*lanes, &weight, &x, None, &y).unwrap();
        builder.build()
    };
    let small = Workspace::new(&gpu, 64).unwrap();
    let needed = match build(&small) {
        Err(Error::Limit {
            value, limit: 64, ..
        }) => value,
        other => panic!("{other:?}"),
    };
    let plan = build(&Workspace::new(&gpu, needed).unwrap()).unwrap();
    assert_eq!(plan.memory().scratch, needed);
}

#[test]
fn a_broken_shader_makes_no_plan() {
    let gpu = noop(wgpu::Limits::default());
    let y = gpu.tensor(1, 4).unwrap();
    let dispatch = |text: &'static str| Dispatch {
        name: "mine".into(),
        enables: vec![],
        consts: vec![],
        fragments: vec![text.into()],
        params: vec![4],
        operands: vec![Operand {
            name: "y",
            binding: 1,
            role: Role::Tensor(0),
            write: true,
        }],
        invocations: 4,
        workgroup_bytes: 0,
        subgroups: false,
        int64: false,
        scratch_bytes: 0,
        grid: [1, 1, 1],
    };
    let build = |d: Dispatch| {
        let mut builder = PlanBuilder::new(&gpu);
        builder.dispatch(d, std::slice::from_ref(&y))?;
        builder.build()
    };
    let good = "@group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { y[i] = 1.0; }";
    assert!(build(dispatch(good)).is_ok());
    let bad = build(dispatch("this is not WGSL")).unwrap_err();
    assert!(
        matches!(&bad, Error::Kernel { kernel, .. } if kernel == "mine"),
        "{bad}"
    );
    // The same text with other bindings is another pipeline, in whatever order they come.
    let mislabelled = build(Dispatch {
        operands: vec![Operand {
            write: false,
            ..dispatch(good).operands[0]
        }],
        ..dispatch(good)
    });
    assert!(
        matches!(mislabelled, Err(Error::Kernel { .. })),
        "{mislabelled:?}"
    );
    let unused = Operand::read("unused", 2, Role::Scratch);
    let more = build(Dispatch {
        operands: vec![dispatch(good).operands[0], unused],
        ..dispatch(good)
    });
    assert!(more.is_ok(), "{more:?}");
    let missing = build(Dispatch {
        operands: vec![Operand {
            role: Role::Tensor(1),
            ..dispatch(good).operands[0]
        }],
        ..dispatch(good)
    });
    assert!(matches!(
        missing,
        Err(Error::Shape {
            what: "tensor of an operand",
            got: 1,
            ..
        })
    ));
    let wide = build(Dispatch {
        grid: [65_536, 1, 1],
        ..dispatch(good)
    });
    assert!(matches!(
        wide,
        Err(Error::Limit {
            value: 65_536,
            limit: 65_535,
            ..
        })
    ));
    let subgroups = build(Dispatch {
        subgroups: true,
        int64: false,
        ..dispatch(good)
    });
    assert!(matches!(
        subgroups,
        Err(Error::MissingFeature {
            feature: "SUBGROUP",
            ..
        })
    ));
}

#[test]
fn after_loss_every_call_says_so() {
    let Linear {
        gpu,
        weight: uploaded,
        x,
        y,
    } = linear(noop(wgpu::Limits::default()), 64, 64, 1);
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&uploaded, &x, None, &y).unwrap();
    let plan = builder.build().unwrap();
    gpu.mark_lost("unplugged");
    let lost = Error::DeviceLost("unplugged".into());
    assert_eq!(plan.run(), Err(lost.clone()));
    assert_eq!(y.read_blocking(&gpu), Err(lost.clone()));
    assert_eq!(x.write(&gpu, &[0.0; 64]), Err(lost.clone()));
    assert_eq!(gpu.wait(), Err(lost.clone()));
    assert_eq!(gpu.tensor(1, 1), Err(lost.clone()));
    assert_eq!(gpu.upload(&weight(1, 1)).unwrap_err(), lost);
    gpu.mark_lost("again");
    assert_eq!(gpu.wait(), Err(lost), "the first reason is kept");
}

#[test]
fn handles_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Gpu>();
    check::<lacuna::Weight>();
    check::<Tensor>();
    check::<lacuna::Plan>();
}

#[test]
fn a_thousand_devices_come_and_go() {
    let pages = || -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/statm").ok()?;
        text.split(' ').nth(1)?.parse().ok()
    };
    let make = || {
        let Linear { gpu, weight, x, y } = linear(noop(wgpu::Limits::default()), 64, 512, 1);
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear(&weight, &x, None, &y).unwrap();
        builder.build().unwrap().run().unwrap();
    };
    (0..100).for_each(|_| make());
    let before = pages();
    (0..1000).for_each(|_| make());
    // The weight of each is 128 KiB.
    if let Some((before, after)) = before.zip(pages()) {
        assert!(
            after < before + (64 << 20) / 4096,
            "{before} pages, then {after}"
        );
    }
}

#[test]
fn a_product_of_too_many_launches_is_left_to_another_candidate() {
    let case = Case::new(2, 3, 70_001, "w3g32".parse().unwrap(), false);
    let caps = Caps {
        class: DeviceClass::Cpu,
        ..Caps::PORTABLE
    };
    let all = kernel::survey(&case.problem, &caps).unwrap();
    let refused = |(_, legal): &(_, Result<(), Error>)| matches!(legal, Err(Error::Limit { what, .. }) if *what == "launches of a product");
    assert!(all.iter().any(refused), "{all:?}");
    assert!(all.iter().any(|(_, legal)| legal.is_ok()), "{all:?}");
}
