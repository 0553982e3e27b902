//! Products of the same x in one plan: what one of them prepares from x serves those after it, but
//! only as long as it is valid.

mod common;

use common::gpu;
use lacuna::{
    Error, Gpu, Plan, PlanBuilder, Tensor, Weight, compress,
    format::{Dense, Precision},
    kernel::{Dispatch, Operand, Role},
    verify::Random,
};

const COLS: usize = 128;

fn weight(gpu: &Gpu, rows: usize, seed: u64) -> Weight {
    let dense = Dense::from_f32(rows, COLS, Random(seed).vector(rows * COLS)).unwrap();
    let codes = compress::compress(&dense, "w4g32".parse().unwrap()).unwrap();
    gpu.upload(&codes).unwrap()
}

fn tensor(gpu: &Gpu, seed: u64) -> Tensor {
    gpu.tensor_from(1, COLS, &Random(seed).vector(COLS))
        .unwrap()
}

fn add(builder: &mut PlanBuilder, precision: Precision, weight: &Weight, x: &Tensor, y: &Tensor) {
    let builder = builder.precision(precision);
    builder.linear(weight, x, None, y).unwrap();
}

/// How many launches of a plan convert x to integers.
fn quantized(plan: &Plan) -> usize {
    let launches = plan.steps();
    launches.filter(|s| s.name.starts_with("quantize")).count()
}

/// The y of each of `products`, in one plan, and how many launches converted x to integers.
fn run(
    gpu: &Gpu,
    shares: bool,
    products: &[(&Weight, &Tensor, &Tensor)],
) -> (Vec<Vec<f32>>, usize) {
    let mut builder = PlanBuilder::new(gpu);
    builder.sharing(shares);
    for (weight, x, y) in products {
        add(&mut builder, Precision::I8, weight, x, y);
    }
    let plan = builder.build().unwrap();
    plan.run().unwrap();
    let read = |(_, _, y): &(_, _, &Tensor)| y.read_blocking(gpu).unwrap();
    (products.iter().map(read).collect(), quantized(&plan))
}

#[test]
fn products_of_one_x_prepare_it_once() {
    let Some(gpu) = gpu() else { return };
    let (a, b, c) = (
        weight(&gpu, 16, 1),
        weight(&gpu, 40, 2),
        weight(&gpu, 16, 3),
    );
    let (x, other) = (tensor(&gpu, 4), tensor(&gpu, 5));
    let y = |rows| gpu.tensor(1, rows).unwrap();
    let (ya, yb, yc) = (y(16), y(40), y(16));
    let products = [
        (&a, &x, &ya),
        (&b, &x, &yb),
        (&c, &other, &yc),
        (&a, &x, &ya),
    ];
    let (apart, all) = run(&gpu, false, &products);
    assert_eq!(all, 4);
    let (shared, fewer) = run(&gpu, true, &products);
    // Before the last product, another x took the place of this one.
    assert_eq!(fewer, 3);
    assert_eq!(apart, shared);
}

#[test]
fn what_has_changed_is_prepared_again() {
    let Some(gpu) = gpu() else { return };
    let (square, down) = (weight(&gpu, COLS, 6), weight(&gpu, 16, 7));
    let (x, other) = (tensor(&gpu, 8), tensor(&gpu, 9));
    let (first, second) = (gpu.tensor(1, 16).unwrap(), gpu.tensor(1, 16).unwrap());
    let mut builder = PlanBuilder::new(&gpu);
    let mut add = |precision, weight, x, y| add(&mut builder, precision, weight, x, y);
    add(Precision::I8, &down, &x, &first);
    // This product needs no scratch: what counts is that it writes x.
    add(Precision::F32, &square, &other, &x);
    add(Precision::I8, &down, &x, &second);
    let plan = builder.build().unwrap();
    plan.run().unwrap();
    assert_eq!(quantized(&plan), 2);
    let (alone, _) = run(&gpu, true, &[(&down, &x, &first)]);
    assert_eq!(alone[0], second.read_blocking(&gpu).unwrap());
}

#[test]
fn what_is_shared_cannot_be_rebound_to_what_is_written() {
    let Some(gpu) = gpu() else { return };
    let (square, down) = (weight(&gpu, COLS, 10), weight(&gpu, 16, 11));
    let [x, other, new, between] = [12, 13, 14, 15].map(|seed| tensor(&gpu, seed));
    let [first, second] = [(); 2].map(|()| gpu.tensor(1, 16).unwrap());
    let mut builder = PlanBuilder::new(&gpu);
    let mut add = |precision, weight, x, y| add(&mut builder, precision, weight, x, y);
    add(Precision::I8, &down, &x, &first);
    add(Precision::F32, &square, &other, &between);
    add(Precision::I8, &down, &x, &second);
    let mut plan = builder.build().unwrap();
    assert_eq!(quantized(&plan), 1);

    // Taken alone, that product could write x.
    let refused = plan.rebind(&between, &x);
    assert!(
        matches!(refused, Err(Error::Aliasing { .. })),
        "{refused:?}"
    );
    assert_eq!(plan.rebind(&x, &new).unwrap(), 3);
    plan.run().unwrap();
    let (alone, _) = run(&gpu, true, &[(&down, &new, &first)]);
    assert_eq!(alone[0], second.read_blocking(&gpu).unwrap());
}

#[test]
fn a_launch_of_the_hosts_runs_as_often_as_it_was_appended() {
    let Some(gpu) = gpu() else { return };
    // Each adds x to scratch, and the last shows it.
    let step = |text: &str, operands| Dispatch {
        name: "step".into(),
        fragments: vec![
            format!("{text}\n@compute @workgroup_size(1) fn main() {{ sum[0] += given[0]; }}")
                .into(),
        ],
        params: vec![0],
        operands,
        invocations: 1,
        scratch_bytes: 16,
        grid: [1, 1, 1],
        ..Dispatch::default()
    };
    let text = "@group(0) @binding(1) var<storage, read> given: array<f32>;
        @group(0) @binding(2) var<storage, read_write> sum: array<f32>;";
    let into = |to| {
        vec![
            Operand::read("given", 1, Role::Tensor(0)),
            Operand::write("sum", 2, to),
        ]
    };
    let out = vec![
        Operand::read("given", 1, Role::Scratch),
        Operand::write("sum", 2, Role::Tensor(0)),
    ];
    let x = gpu.tensor_from(1, 1, &[1.5]).unwrap();
    let y = gpu.tensor_from(1, 1, &[0.0]).unwrap();
    let mut builder = PlanBuilder::new(&gpu);
    for _ in 0..3 {
        let adds = step(text, into(Role::Scratch));
        builder.dispatch(adds, std::slice::from_ref(&x)).unwrap();
    }
    builder
        .dispatch(step(text, out), std::slice::from_ref(&y))
        .unwrap();
    let plan = builder.build().unwrap();
    assert_eq!(plan.steps().len(), 4);
    plan.run().unwrap();
    assert_eq!(y.read_blocking(&gpu).unwrap(), [4.5]);
}
