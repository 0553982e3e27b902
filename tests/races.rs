//! A kernel with and without its barriers, for a detector of data races: `cargo xtask adapters` runs
//! each under one, which must be silent about the first and report the second.

mod common;

use common::gpu;
use lacuna::{PlanBuilder, kernel, verify::Case};

const ROWS: usize = 8;
const COLS: usize = 512;
const BARRIER: &str = "workgroupBarrier();";

/// A product whose partial sums meet in workgroup memory.
fn product(barriers: bool) {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(ROWS, COLS, 1, "f32".parse().unwrap(), false);
    let weight = gpu.upload(&case.weight).unwrap();
    let x = gpu.tensor_from(1, COLS, &case.x).unwrap();
    let y = gpu.tensor(1, ROWS).unwrap();
    let layouts: Vec<_> = weight.layouts().copied().collect();
    let candidates = kernel::candidates(&case.problem, gpu.caps()).unwrap();
    let mut dispatch = candidates
        .iter()
        .filter_map(|c| c.lower(&case.problem, &layouts, gpu.caps()).ok()?.pop())
        .find(|d| d.wgsl().contains(BARRIER) && d.invocations >= 32)
        .expect("a candidate that sums in workgroup memory");
    if !barriers {
        for fragment in &mut dispatch.fragments {
            *fragment = fragment.replace(BARRIER, "").into();
        }
    }
    let mut plan = PlanBuilder::new(&gpu);
    plan.dispatch_on(dispatch, &weight, &[x, y.clone()])
        .unwrap();
    plan.build().unwrap().run().unwrap();
    let y: Vec<f32> = y.read_blocking(&gpu).unwrap();
    if barriers {
        assert!(case.reference().unwrap().compare(&y).unwrap().passes());
    }
}

#[test]
#[ignore = "for a detector: cargo xtask adapters"]
fn with_barriers() {
    product(true);
}

#[test]
#[ignore = "for a detector: cargo xtask adapters"]
fn without_barriers() {
    product(false);
}
