//! Work in submissions of limited length (case 63 of `docs/faults.md`): wherever it is cut, between
//! launches or between their workgroups, it must give the same bits.

mod common;

use common::gpu;
use lacuna::{
    Gpu, Plan, PlanBuilder, Workspace,
    format::{Format, Precision},
    gpu::Options,
    kernel::{self, Candidate, Config, Skip},
    verify::{self, Case},
};
use std::{collections::HashSet, time::Duration};

/// So short that every launch is cut into all the workgroups of its longest side.
const NOTHING: Duration = Duration::from_nanos(1);

// 63
#[test]
fn a_plan_in_many_submissions_gives_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let limited = Gpu::new_blocking(&Options {
        max_submission: Some(Duration::from_micros(1)),
        ..Options::default()
    });
    let limited = limited.unwrap();
    let case = Case::new(128, 128, 4, "f16".parse().unwrap(), false);
    // Each product takes the output of the one before it.
    let chain = |gpu: &Gpu, run: &dyn Fn(&Plan) -> lacuna::Result<()>| {
        let weight = gpu.upload(&case.weight).unwrap();
        let (x, y) = (
            gpu.tensor_from(4, 128, &case.x).unwrap(),
            gpu.tensor(4, 128).unwrap(),
        );
        let mut builder = PlanBuilder::new(gpu);
        for _ in 0..3 {
            builder.linear(&weight, &x, None, &y).unwrap();
            builder.linear(&weight, &y, None, &x).unwrap();
        }
        let plan = builder.build().unwrap();
        let bits = || {
            x.write(gpu, &case.x).unwrap();
            run(&plan).unwrap();
            let x = x.read_blocking(gpu).unwrap();
            x.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        // The first two runs measure how long launches take.
        [bits(), bits(), bits()]
    };
    let whole = chain(&gpu, &Plan::run);
    assert_eq!(whole[0], whole[2]);
    assert_eq!(chain(&limited, &Plan::run), whole);
    let second = Duration::from_secs(1);
    assert_eq!(chain(&gpu, &|plan| plan.run_within(second)), whole);
}

#[test]
fn a_plan_that_was_cut_computes_of_what_it_was_rebound_to() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(128, 128, 4, "f16".parse().unwrap(), false);
    let weight = gpu.upload(&case.weight).unwrap();
    let negative: Vec<f32> = case.x.iter().map(|x| -x).collect();
    let [x, new] = [&case.x, &negative].map(|x| gpu.tensor_from(4, 128, x).unwrap());
    let y = gpu.tensor(4, 128).unwrap();
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &x, None, &y).unwrap();
    let mut plan = builder.build().unwrap();
    // The first two runs measure, the third cuts.
    for _ in 0..3 {
        plan.run_within(NOTHING).unwrap();
    }
    let before = y.read_blocking(&gpu).unwrap();
    assert!(plan.rebind(&x, &new).unwrap() > 0);
    plan.run_within(NOTHING).unwrap();
    let expected: Vec<f32> = before.iter().map(|y| -y).collect();
    assert_eq!(y.read_blocking(&gpu).unwrap(), expected);
}

// 79
#[test]
fn plans_of_two_threads_share_a_workspace() {
    let Some(gpu) = gpu() else { return };
    // Many vectors of a pattern shared by rows: x is transposed in scratch.
    let case = Case::new(64, 256, 40, "2:4x16".parse().unwrap(), false);
    let truth = case.reference().unwrap();
    let weight = gpu.upload(&case.weight).unwrap();
    let workspace = Workspace::new(&gpu, 1 << 20).unwrap();
    let work = |scale: f32| {
        let values: Vec<f32> = case.x.iter().map(|x| scale * x).collect();
        let x = gpu.tensor_from(40, 256, &values).unwrap();
        let y = gpu.tensor(40, 64).unwrap();
        let mut builder = PlanBuilder::new(&gpu);
        builder.workspace(&workspace);
        builder.linear(&weight, &x, None, &y).unwrap();
        let plan = builder.build().unwrap();
        assert!(plan.memory().scratch > 0 && plan.steps().len() > 1);
        for _ in 0..20 {
            plan.run_within(NOTHING).unwrap();
            // Powers of two scale without rounding.
            let y = y.read_blocking(&gpu).unwrap();
            let y: Vec<f32> = y.iter().map(|y| y / scale).collect();
            assert!(truth.compare(&y).unwrap().passes());
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| work(1.0));
        threads.spawn(|| work(1024.0));
    });
}

#[test]
fn products_cut_between_workgroups_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let cases = verify::cases(true).filter(|case| {
        let problem = &case.problem;
        let sides = [problem.rows, problem.cols, problem.batch];
        // Group-pruned weights meet no matrices as they lie on CPU adapters.
        let matrices =
            gpu.caps().cooperative.is_some() && !matches!(problem.format, Format::Gqs { .. });
        let runs = problem.precision != Precision::F16 || matrices;
        runs && problem.skip == Skip::Nothing && sides.iter().all(|&side| 0 < side && side < 1000)
    });
    // Where a candidate reads its place in a launch does not depend on formats.
    let mut met = HashSet::new();
    for case in cases {
        let problem = case.problem;
        let Candidate { kernel, config } = kernel::candidates(&problem, gpu.caps()).unwrap()[0];
        if !met.insert((kernel.name(), Config { batch: 0, ..config })) {
            continue;
        }
        let weight = gpu
            .upload_as(problem.layout, gpu.caps().class, &case.weight)
            .unwrap();
        let x = gpu
            .tensor_from(problem.batch, problem.cols, &case.x)
            .unwrap();
        let y = gpu.tensor(problem.batch, problem.rows).unwrap();
        let mut builder = PlanBuilder::new(&gpu);
        builder.precision(problem.precision);
        builder.linear(&weight, &x, None, &y).unwrap();
        let plan = builder.build().unwrap();
        let bits = |run: &dyn Fn() -> lacuna::Result<()>| {
            y.write(&gpu, &vec![f32::NAN; y.batch() * y.len()]).unwrap();
            run().unwrap();
            let y = y.read_blocking(&gpu).unwrap();
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let whole = bits(&|| plan.run());
        // Two runs measure the launches; the third is cut.
        for _ in 0..3 {
            assert_eq!(bits(&|| plan.run_within(NOTHING)), whole, "{problem:?}");
        }
    }
}
