//! Tensors of 16-bit elements, on the adapter at hand: products give what f32 would, rounded once.

mod common;

use common::gpu;
use half::{bf16, f16};
use lacuna::{
    Activation, Error, Gpu, Plan, PlanBuilder, Tensor, compress,
    format::{Dense, Dtype},
    gpu::ReadBack,
    kernel, reference,
    verify::{Case, Random},
};

const HALVES: [Dtype; 2] = [Dtype::F16, Dtype::Bf16];

/// `v` as `dtype` stores it, rounded by the crate `half`.
fn rounded(dtype: Dtype, v: f32) -> f32 {
    match dtype {
        Dtype::F32 => v,
        Dtype::F16 => f16::from_f32(v).to_f32(),
        Dtype::Bf16 => bf16::from_f32(v).to_f32(),
    }
}

fn number(dtype: Dtype, bits: u16) -> f32 {
    match dtype {
        Dtype::Bf16 => bf16::from_bits(bits).to_f32(),
        _ => f16::from_bits(bits).to_f32(),
    }
}

fn tensor(gpu: &Gpu, dtype: Dtype, batch: usize, len: usize, data: &[f32]) -> Tensor {
    match dtype {
        Dtype::F32 => gpu.tensor_from(batch, len, data),
        Dtype::F16 => {
            let data: Vec<_> = data.iter().map(|&v| f16::from_f32(v)).collect();
            gpu.tensor_from(batch, len, &data)
        }
        Dtype::Bf16 => {
            let data: Vec<_> = data.iter().map(|&v| bf16::from_f32(v)).collect();
            gpu.tensor_from(batch, len, &data)
        }
    }
    .unwrap()
}

/// Multiplies `x` by 1, from a tensor of the type `from` to one of the type `to`.
fn moved(gpu: &Gpu, from: Dtype, to: Dtype, x: &[f32]) -> Vec<f32> {
    let one = gpu.upload(&Dense::from_f32(1, 1, vec![1.0]).unwrap().into());
    let (one, x) = (one.unwrap(), tensor(gpu, from, x.len(), 1, x));
    let y = gpu.tensor_as(to, x.batch(), 1).unwrap();
    let mut builder = PlanBuilder::new(gpu);
    builder.linear(&one, &x, None, &y).unwrap();
    builder.build().unwrap().run().unwrap();
    y.read_blocking(gpu).unwrap()
}

#[track_caller]
fn assert_same(what: &str, from: &[f32], got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for ((x, a), b) in from.iter().zip(got).zip(expected) {
        // Devices may flush an f32 below the smallest normal one to 0.
        let gone = *a == 0.0 && b.abs() < f32::MIN_POSITIVE;
        assert!(
            a.to_bits() == b.to_bits() || gone || a.is_nan() && b.is_nan(),
            "{what} of {x:e}: {a:e}, expected {b:e}"
        );
    }
}

#[test]
fn every_number_of_16_bits_goes_there_and_back() {
    let Some(gpu) = gpu() else { return };
    for dtype in HALVES {
        let all: Vec<f32> = (0..=u16::MAX).map(|bits| number(dtype, bits)).collect();
        let wide = moved(&gpu, dtype, Dtype::F32, &all);
        assert_same(&format!("{dtype} to f32"), &all, &wide, &all);
        let back = moved(&gpu, dtype, dtype, &all);
        assert_same(&format!("{dtype} to {dtype}"), &all, &back, &all);
    }
}

#[test]
fn the_nearest_is_taken_and_of_two_the_even_one() {
    let Some(gpu) = gpu() else { return };
    for dtype in HALVES {
        let finite = |bits: u16| Some(number(dtype, bits)).filter(|v| v.is_finite());
        let mut numbers = vec![];
        for bits in 0..u16::MAX {
            if let (Some(a), Some(b)) = (finite(bits), finite(bits + 1)) {
                let tie = f32::midpoint(a, b);
                numbers.extend([tie.next_down(), tie, tie.next_up()]);
            }
        }
        numbers.retain(|v| v.is_normal());
        numbers.extend([
            65504.0,
            65519.99,
            65520.0,
            -65520.0,
            1e30,
            f32::MAX,
            f32::MIN,
        ]);
        numbers.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 1e-30]);
        let expected: Vec<f32> = numbers.iter().map(|&v| rounded(dtype, v)).collect();
        let got = moved(&gpu, Dtype::F32, dtype, &numbers);
        assert_same(&format!("{dtype}"), &numbers, &got, &expected);
    }
}

#[test]
fn products_lose_nothing_but_the_last_rounding() {
    let Some(gpu) = gpu() else { return };
    for (format, rows, cols, batch) in [
        ("f32", 37, 61, 1),
        ("f16", 64, 128, 3),
        ("2:4x8@f16", 33, 127, 2),
        ("1:8", 5, 9, 9),
        ("w4g16", 31, 95, 1),
        ("w4g16s50", 48, 64, 17),
        ("f32", 3, 0, 2),
        ("f32", 0, 3, 2),
        ("f32", 2, 3, 0),
    ] {
        let mut random = Random(7);
        let dense = Dense::from_f32(rows, cols, random.vector(rows * cols)).unwrap();
        let matrix = compress::compress(&dense, format.parse().unwrap()).unwrap();
        let weight = gpu.upload(&matrix).unwrap();
        let (x, bias) = (random.vector(batch * cols), random.vector(rows));
        let on_device = gpu.tensor_from(1, rows, &bias).unwrap();
        for (from, to) in [
            (Dtype::F16, Dtype::F16),
            (Dtype::Bf16, Dtype::F32),
            (Dtype::F32, Dtype::Bf16),
        ] {
            let x: Vec<f32> = x.iter().map(|&v| rounded(from, v)).collect();
            let truth = reference::linear(&matrix, &x, batch, Some(&bias)).unwrap();
            let (x, y) = (
                tensor(&gpu, from, batch, cols, &x),
                gpu.tensor_as(to, batch, rows).unwrap(),
            );
            let mut builder = PlanBuilder::new(&gpu);
            let bias = Some(&on_device);
            builder.linear(&weight, &x, bias, &y).unwrap();
            builder.build().unwrap().run().unwrap();
            let step = if to == Dtype::F32 { 0.0 } else { rounding(to) };
            for (i, got) in y.read_blocking(&gpu).unwrap().iter().enumerate() {
                let (y, bound) = (truth.y[i], truth.bound[i]);
                let allowed = bound + step * (y.abs() + bound);
                let off = (f64::from(*got) - y).abs();
                assert!(
                    off <= allowed,
                    "{format} {from} {to} {i}: {off} > {allowed}"
                );
            }
        }
    }
}

/// The largest share of a number that rounding it loses.
fn rounding(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Bf16 => 2f64.powi(-8),
        _ => 2f64.powi(-11),
    }
}

fn count(plan: &Plan, what: &str) -> usize {
    plan.steps().filter(|s| s.name.starts_with(what)).count()
}

#[test]
fn products_of_one_x_widen_it_once() {
    let Some(gpu) = gpu() else { return };
    let weight = |rows, seed| {
        let dense = Dense::from_f32(rows, 32, Random(seed).vector(rows * 32)).unwrap();
        gpu.upload(&dense.into()).unwrap()
    };
    let (a, b) = (weight(32, 1), weight(16, 2));
    let vector = |seed| tensor(&gpu, Dtype::F16, 1, 32, &Random(seed).vector(32));
    let (x, other) = (vector(3), vector(4));
    let y = |rows| gpu.tensor_as(Dtype::F16, 1, rows).unwrap();
    let (ya, yb) = (y(32), y(16));
    let mut results = vec![];
    for (shares, widened) in [(true, 3), (false, 5)] {
        let mut builder = PlanBuilder::new(&gpu);
        builder.sharing(shares);
        builder.linear(&a, &x, None, &ya).unwrap();
        builder.linear(&b, &x, None, &yb).unwrap();
        // Another x of the same shape replaces the first; after it, the first x itself changes.
        builder.linear(&b, &other, None, &yb).unwrap();
        builder.linear(&a, &other, None, &x).unwrap();
        builder.linear(&a, &x, None, &ya).unwrap();
        let plan = builder.build().unwrap();
        assert_eq!(count(&plan, "widen"), widened);
        assert_eq!(count(&plan, "narrow"), 5);
        x.write(
            &gpu,
            &Random(3)
                .vector(32)
                .iter()
                .map(|&v| f16::from_f32(v))
                .collect::<Vec<_>>(),
        )
        .unwrap();
        plan.run().unwrap();
        results.push([&ya, &yb].map(|y| y.read_blocking(&gpu).unwrap()));
    }
    assert_eq!(results[0], results[1]);
    assert!(results[0][0].iter().any(|&v| v != 0.0));
}

#[test]
fn products_that_skip_take_and_give_halves() {
    let Some(gpu) = gpu() else { return };
    let (rows, cols) = (24, 48);
    let mut random = Random(5);
    let gate = random.vector(rows);
    let x: Vec<f32> = random
        .vector(cols)
        .iter()
        .map(|&v| rounded(Dtype::F16, v))
        .collect();
    let up = Dense::from_f32(rows, cols, random.vector(rows * cols)).unwrap();
    let down = Dense::from_f32(cols, rows, random.vector(rows * cols)).unwrap();
    let limit = gpu.tensor_from(1, 1, &[0.5f32]).unwrap();
    let mut all = vec![];
    for dtype in [Dtype::F32, Dtype::F16] {
        let active = gpu.active(1, rows).unwrap();
        let gate: Vec<f32> = gate.iter().map(|&v| rounded(Dtype::F16, v)).collect();
        let (gate, x) = (
            tensor(&gpu, dtype, 1, rows, &gate),
            tensor(&gpu, dtype, 1, cols, &x),
        );
        let y = gpu.tensor_as(dtype, 1, cols).unwrap();
        let (up, down) = (
            gpu.upload(&up.clone().into()).unwrap(),
            gpu.upload_bands(&down.clone().into()).unwrap(),
        );
        let mut builder = PlanBuilder::new(&gpu);
        builder
            .threshold(&gate, &limit, Activation::None, &active)
            .unwrap();
        builder.masked(&up, &x, None, &active).unwrap();
        builder.input_sparse(&down, &active, None, &y).unwrap();
        builder.build().unwrap().run().unwrap();
        all.push(y.read_blocking(&gpu).unwrap());
    }
    let expected: Vec<f32> = all[0].iter().map(|&v| rounded(Dtype::F16, v)).collect();
    assert_eq!(all[1], expected);
    assert!(expected.iter().any(|&v| v != 0.0));
}

#[test]
fn a_refused_product_appends_nothing() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(8, 16, 1, "f32".parse().unwrap(), false);
    let weight = gpu.upload(&case.weight).unwrap();
    let x = tensor(&gpu, Dtype::F16, 1, 16, &case.x);
    let y = gpu.tensor(1, 8).unwrap();
    let mut candidate = kernel::candidates(&case.problem, gpu.caps()).unwrap()[0];
    candidate.config.workgroup = u32::MAX;
    let mut builder = PlanBuilder::new(&gpu);
    let refused = builder.linear_with(candidate, &weight, &x, None, &y);
    assert!(refused.is_err());
    assert_eq!(builder.build().unwrap().steps().count(), 0);
}

#[test]
fn elements_of_another_type_are_refused() {
    let Some(gpu) = gpu() else { return };
    let half = gpu.tensor_as(Dtype::F16, 1, 3).unwrap();
    let wrong = |what, got, expected| {
        Err(Error::Dtype {
            what,
            got,
            expected,
        })
    };
    assert_eq!(half.bytes(), 8);
    let refused = half.write(&gpu, &[1.0f32; 3]);
    assert_eq!(refused, wrong("data for a tensor", Dtype::F32, Dtype::F16));
    let refused = half.write(&gpu, &[bf16::ONE; 3]);
    assert_eq!(refused, wrong("data for a tensor", Dtype::Bf16, Dtype::F16));
    half.write(&gpu, &[f16::ONE; 3]).unwrap();
    assert_eq!(half.read_blocking(&gpu).unwrap(), [1.0; 3]);

    let back = ReadBack::new(&gpu, &half).unwrap();
    let mut encoder = gpu.encoder();
    back.encode(&mut encoder);
    gpu.submit(encoder).unwrap();
    let refused = back.read_blocking::<f32>(&gpu);
    assert_eq!(
        refused.map(|_| ()),
        wrong("a read-back", Dtype::F32, Dtype::F16)
    );
    assert_eq!(back.read_blocking::<f16>(&gpu).unwrap(), [f16::ONE; 3]);

    let weight = gpu.upload(&Dense::from_f32(3, 3, vec![1.0; 9]).unwrap().into());
    let (weight, f32s) = (weight.unwrap(), gpu.tensor(1, 3).unwrap());
    let mut builder = PlanBuilder::new(&gpu);
    let refused = builder.linear(&weight, &f32s, Some(&half), &f32s);
    assert_eq!(refused.map(|_| ()), wrong("bias", Dtype::F16, Dtype::F32));
    let y = gpu.tensor(1, 3).unwrap();
    builder.linear(&weight, &half, None, &y).unwrap();
    let mut plan = builder.build().unwrap();
    let refused = plan.rebind(&half, &f32s).map(|_| ());
    assert_eq!(refused, wrong("rebound tensor", Dtype::F32, Dtype::F16));
    let other = tensor(&gpu, Dtype::F16, 1, 3, &[1.0, 2.0, 4.0]);
    assert_eq!(plan.rebind(&half, &other), Ok(1));
    plan.run().unwrap();
    assert_eq!(y.read_blocking(&gpu).unwrap(), [7.0; 3]);
}

#[test]
fn halves_lie_in_buffers_of_the_host() {
    let Some(gpu) = gpu() else { return };
    let alignment = u64::from(gpu.caps().storage_alignment);
    let usage = lacuna::wgpu::BufferUsages::STORAGE
        | lacuna::wgpu::BufferUsages::COPY_SRC
        | lacuna::wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.device().create_buffer(&lacuna::wgpu::BufferDescriptor {
        label: None,
        size: alignment + 8,
        usage,
        mapped_at_creation: false,
    });
    // Three elements end in the middle of the buffer's last word.
    let y = gpu
        .tensor_in_as(Dtype::Bf16, &buffer, alignment, 1, 3)
        .unwrap();
    assert!(
        gpu.tensor_in_as(Dtype::Bf16, &buffer, alignment, 1, 5)
            .is_err()
    );
    let x = gpu.tensor_in_as(Dtype::F16, &buffer, 0, 1, 2).unwrap();
    x.write(&gpu, &[f16::from_f32(0.5), f16::from_f32(-3.0)])
        .unwrap();
    let weight = Dense::from_f32(3, 2, vec![1.0, 0.0, 0.0, 1.0, 2.0, 2.0]).unwrap();
    let weight = gpu.upload(&weight.into()).unwrap();
    // Both lie in one buffer, and the plan knows them as slots.
    let (from, to) = (
        gpu.slot_as(Dtype::F16, 1, 2).unwrap(),
        gpu.slot_as(Dtype::Bf16, 1, 3).unwrap(),
    );
    let mut builder = PlanBuilder::new(&gpu);
    builder.linear(&weight, &from, None, &to).unwrap();
    let plan = builder.build().unwrap();
    let mut encoder = gpu.encoder();
    plan.encode_with(&mut encoder, &[(&from, &x), (&to, &y)])
        .unwrap();
    gpu.submit(encoder).unwrap();
    assert_eq!(y.read_blocking(&gpu).unwrap(), [0.5, -3.0, -5.0]);
    let view = gpu
        .tensor_in_as(Dtype::F16, &buffer, 0, 1, 2 + alignment as usize / 2)
        .unwrap();
    let last = view.view(&gpu, alignment as usize / 2, 1, 2).unwrap();
    assert_eq!(last.dtype(), Dtype::F16);
    // Kernels write whole words, and the other half of the last one would be the tensor's.
    let refused = view.view(&gpu, 0, 1, 1).unwrap_err().to_string();
    assert!(refused.contains("end within a word"), "{refused}");
}
