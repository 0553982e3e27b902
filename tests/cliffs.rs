//! No batch may cost out of proportion to a smaller one. Drivers that do not unroll a loop take tens
//! of times as long, and only a clock shows that.

mod common;

use common::gpu;
use lacuna::{Gpu, PlanBuilder, verify::Case};
use std::time::Instant;

const ROWS: usize = 1024;
const COLS: usize = 512;
const BATCHES: &[usize] = &[1, 2, 3, 4, 6, 8, 9, 12, 16, 17, 24, 32, 33, 64];
/// How many times as much a vector may cost as in any smaller batch. Tiles of 32 that hold 17 vectors,
/// and noise, stay below it.
const MOST: f64 = 6.0;

/// Seconds that the default product takes, the least of several runs.
fn seconds(gpu: &Gpu, format: &str, batch: usize) -> f64 {
    let case = Case::new(ROWS, COLS, batch, format.parse().unwrap(), false);
    let weight = gpu.upload(&case.weight).unwrap();
    let x = gpu.tensor_from(batch, COLS, &case.x).unwrap();
    let y = gpu.tensor(batch, ROWS).unwrap();
    let mut plan = PlanBuilder::new(gpu);
    plan.linear(&weight, &x, None, &y).unwrap();
    let plan = plan.build().unwrap();
    let run = || {
        let begin = Instant::now();
        plan.run().unwrap();
        y.read_blocking(gpu).unwrap();
        begin.elapsed().as_secs_f64()
    };
    (0..9).map(|_| run()).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement: cargo xtask test --full"]
fn no_batch_costs_out_of_proportion_to_a_smaller_one() {
    let Some(gpu) = gpu() else { return };
    for format in [
        "f32",
        "bf16",
        "w4g128",
        "w2g64",
        "w3g32",
        "2:4x8",
        "2:4x16@f16",
        "w4g64s50",
    ] {
        let mut least = f64::INFINITY;
        for &batch in BATCHES {
            let each = seconds(&gpu, format, batch) / batch as f64;
            let (now, before) = (each * 1e6, least * 1e6);
            assert!(
                each <= MOST * least,
                "{format}: {now:.1} µs a vector of {batch}, {before:.1} of fewer"
            );
            least = least.min(each);
        }
    }
}
