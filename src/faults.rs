//! Allocations that fail, one after the other: what was made before is given back, and the
//! device goes on.

use crate::{
    Activation, Error, Gpu, PlanBuilder, Result, Workspace,
    gpu::{ReadBack, refusal},
    kernel::{Layout, Packed},
    verify::{Case, Random},
};

const ROWS: usize = 48;
const COLS: usize = 64;
const BATCH: usize = 3;

/// Everything that allocates, and what it computes.
fn everything(gpu: &Gpu) -> Result<Vec<f32>> {
    let case =
        |format: &str| Case::new(ROWS, COLS, BATCH, format.parse().expect("a format"), false);
    let (plain, pruned) = (case("f32"), case("w4g16s50"));
    let first = gpu.upload(&plain.weight)?;
    let packed = Packed::new(&pruned.weight, Layout::Rows, gpu.caps())?;
    let second = gpu.upload_packed(&packed)?;
    let bands = gpu.upload_bands(&plain.weight)?;
    let x = gpu.tensor_from(BATCH, COLS, &plain.x)?;
    let ys = [(); 4].map(|()| gpu.tensor(BATCH, ROWS));
    let [a, b, c, d] = ys;
    let ys = [a?, b?, c?, d?];
    let active = gpu.active(BATCH, COLS)?;
    let threshold = gpu.tensor_from(1, 1, &[0.5f32])?;
    let workspace = Workspace::new(gpu, 1 << 20)?;
    let mut builder = PlanBuilder::new(gpu);
    builder.workspace(&workspace);
    builder.linear(&first, &x, None, &ys[0])?;
    builder.linear(&second, &x, None, &ys[1])?;
    builder.threshold(&x, &threshold, Activation::None, &active)?;
    builder.input_sparse(&bands, &active, None, &ys[2])?;
    builder.linear(&bands, &x, None, &ys[3])?;
    let mut plan = builder.build()?;
    plan.run()?;
    // The same from another buffer, through a weight that was replaced by itself.
    let other = gpu.tensor(BATCH, COLS)?;
    other.write(gpu, &plain.x)?;
    plan.rebind(&x, &other)?;
    first.replace(gpu, &plain.weight)?;
    plan.run()?;
    let mut all = vec![];
    for y in &ys {
        all.extend(y.read_blocking(gpu)?);
    }
    let back = ReadBack::new(gpu, &ys[0])?;
    let mut encoder = gpu.encoder();
    back.encode(&mut encoder);
    gpu.submit(encoder)?;
    all.extend(back.read_blocking::<f32>(gpu)?);
    if gpu.caps().timestamps {
        let times = gpu.timestamps(plan.steps().len())?;
        let mut encoder = gpu.encoder();
        plan.encode_timed(&mut encoder, &times)?;
        times.resolve(&mut encoder);
        gpu.submit(encoder)?;
        times.read_blocking(gpu)?;
    }
    Ok(all)
}

/// What wgpu's allocator holds, where it tells.
fn held(gpu: &Gpu) -> Option<u64> {
    // What was written lies beside the buffer until the next submission has run.
    gpu.submit(gpu.encoder()).expect("the device is there");
    gpu.wait().expect("the device is there");
    let report = gpu.device().generate_allocator_report()?;
    Some(report.allocations.iter().map(|a| a.size).sum())
}

fn allocations_fail_one_by_one(gpu: &Gpu) {
    // Pipelines are cached: this makes them all.
    let expected = everything(gpu).expect("nothing is refused yet");
    let before = held(gpu);
    let mut refused = 0;
    loop {
        refusal::refuse_after(refused);
        let result = everything(gpu);
        let never = refusal::pardon();
        assert_eq!(held(gpu), before, "refusal {refused} left something behind");
        if never {
            assert_eq!(result, Ok(expected.clone()));
            break;
        }
        assert!(
            matches!(result, Err(Error::OutOfMemory { .. })),
            "{result:?}"
        );
        refused += 1;
    }
    assert!(refused > 30, "{refused} calls were refused only");
    assert_eq!(
        everything(gpu),
        Ok(expected),
        "the device is as good as before"
    );
}

#[test]
fn a_refused_allocation_is_an_error_and_leaves_nothing() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    allocations_fail_one_by_one(&Gpu::from_wgpu(device, queue));
    if let Some(gpu) = Gpu::of_tests() {
        allocations_fail_one_by_one(&gpu);
    }
}

#[test]
fn a_refused_pipeline_is_not_kept() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let gpu = Gpu::from_wgpu(device, queue);
    let case = Case::new(8, 8, 1, "f32".parse().expect("a format"), false);
    let weight = gpu.upload(&case.weight).expect("room");
    let x = gpu.tensor_from(1, 8, &Random(1).vector(8)).expect("room");
    let y = gpu.tensor(1, 8).expect("room");
    let build = || {
        let mut builder = PlanBuilder::new(&gpu);
        builder.linear(&weight, &x, None, &y)?;
        builder.build().map(drop)
    };
    // After scratch and parameters the pipeline is made.
    refusal::refuse_after(2);
    let refused = build();
    assert!(!refusal::pardon());
    assert!(
        matches!(
            refused,
            Err(Error::OutOfMemory {
                what: "pipeline",
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(build(), Ok(()));
}
