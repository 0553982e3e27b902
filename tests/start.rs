//! How soon a new process has its first result, if the driver has seen the shaders before.

mod common;

use common::gpu;
use lacuna::{PlanBuilder, verify::Case};
use std::{
    collections::HashSet,
    env,
    process::Command,
    time::{Duration, Instant},
};

const FORMATS: &[&str] = &[
    "f32", "f16", "bf16", "2:4", "2:4x4", "2:4x8", "1:8", "1:8@f16", "w2g64", "w3g64", "w4g128",
    "w8g128",
];
const ROWS: usize = 256;
const COLS: usize = 512;
const PIPELINES: usize = 20;
const MOST: Duration = Duration::from_millis(500);

/// What the process that is timed does.
#[test]
#[ignore = "run by the test below"]
fn a_plan_of_many_pipelines_runs() {
    let Some(gpu) = gpu() else { return };
    if let Some(folder) = env::var_os("LACUNA_TEST_PIPELINES") {
        // SwiftShader and Mesa's software drivers keep nothing there; others do.
        let _ = gpu.clone().keep_pipelines(folder.as_ref());
    }
    let mut plan = PlanBuilder::new(&gpu);
    let mut last = None;
    for format in FORMATS {
        for batch in [1, 4] {
            let case = Case::new(ROWS, COLS, batch, format.parse().unwrap(), false);
            let weight = gpu.upload(&case.weight).unwrap();
            let x = gpu.tensor_from(batch, COLS, &case.x).unwrap();
            let y = gpu.tensor(batch, ROWS).unwrap();
            plan.linear(&weight, &x, None, &y).unwrap();
            last = Some((case, y));
        }
    }
    let plan = plan.build().unwrap();
    let texts: HashSet<String> = plan.steps().map(lacuna::kernel::Dispatch::wgsl).collect();
    assert!(texts.len() >= PIPELINES, "{} pipelines", texts.len());
    plan.run().unwrap();
    let (case, y) = last.unwrap();
    let y: Vec<f32> = y.read_blocking(&gpu).unwrap();
    assert!(case.reference().unwrap().compare(&y).unwrap().passes());
}

#[test]
#[ignore = "a measurement: cargo xtask test --full"]
fn a_warm_process_has_its_first_result_within_half_a_second() {
    let Some(gpu) = gpu() else { return };
    drop(gpu);
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let begin = Instant::now();
        let status = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "a_plan_of_many_pipelines_runs"])
            .env("LACUNA_TEST_PIPELINES", folder.path())
            .status();
        assert!(status.unwrap().success());
        begin.elapsed()
    };
    let cold = run();
    let warm = (0..3).map(|_| run()).min().unwrap();
    println!("{cold:?} the first time, {warm:?} from then on");
    assert!(warm <= MOST, "{warm:?}, of a first run of {cold:?}");
}
