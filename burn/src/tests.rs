//! Tests on an adapter: values against the reference, buffers against Burn's own account of them.

use crate::{Error, Shared, SparseLinear, lent, primitive};
use burn::{
    module::Module,
    nn::{Linear, LinearConfig, Relu},
    tensor::{DType, Device, DeviceKind, Shape, Tensor, TensorData, wgpu::WgpuSetup},
};
use burn_cubecl::cubecl::{MemoryScope, client::Client};
use lacuna::{
    compress,
    format::{Dense, Matrix},
    reference,
    verify::Random,
};
use std::sync::OnceLock;

const FORMATS: &[&str] = &[
    "f32",
    "bf16",
    "2:4",
    "2:4x8@f16",
    "1:8",
    "w4g64",
    "2:4+w4g64",
    "w4g64s50",
];

/// The device that Burn and the engine share in all tests, as Burn opens an adapter only once.
fn shared() -> Option<&'static Shared> {
    static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
    let opened = SHARED.get_or_init(|| {
        let open = |kind| Shared::open(Device::wgpu_options().device_kind(kind));
        let opened = open(DeviceKind::DefaultDevice).or_else(|_| open(DeviceKind::Cpu));
        if let Err(why) = &opened {
            let promised = std::env::var_os("LACUNA_TEST_ADAPTER").is_some();
            assert!(!promised, "LACUNA_TEST_ADAPTER promises an adapter: {why}");
            eprintln!("skipped: {why}");
        }
        opened.ok()
    });
    opened.as_ref()
}

fn matrix(rows: usize, cols: usize, format: &str) -> Matrix {
    let dense = Dense::from_f32(rows, cols, Random(1).vector(rows * cols)).unwrap();
    compress::compress(&dense, format.parse().unwrap()).unwrap()
}

fn tensor<const D: usize>(shared: &Shared, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), shared.device())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}

/// Burn's dense linear layer with exactly the weights of `matrix`.
fn dense(shared: &Shared, matrix: &Matrix, bias: Option<&[f32]>) -> Linear {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut linear = LinearConfig::new(cols, rows)
        .with_bias(bias.is_some())
        .init(shared.device());
    let weight = tensor(shared, &matrix.to_dense().values().to_f32(), [rows, cols]);
    linear.weight = linear.weight.map(|_| weight.transpose());
    linear.bias = linear
        .bias
        .map(|param| param.map(|_| tensor(shared, bias.unwrap(), [rows])));
    linear
}

/// The client of a tensor, and its memory as Burn itself binds it: buffer, offset, bytes.
fn place<const D: usize>(tensor: &Tensor<D>) -> (Client, (lacuna::wgpu::Buffer, u64, u64)) {
    let tensor = primitive::resolve(tensor.clone()).unwrap();
    let (place, _pinned) = lent::memory(&tensor.client, tensor.handle).unwrap();
    (tensor.client, (place.buffer, place.offset, place.size))
}

#[test]
fn every_format_and_batch_is_within_the_bound() {
    let Some(shared) = shared() else { return };
    let (rows, cols) = (136, 192);
    let bias = Random(2).vector(rows);
    for (i, format) in FORMATS.iter().enumerate() {
        let matrix = matrix(rows, cols, format);
        let bias = (i % 2 == 0).then_some(&bias[..]);
        let module = SparseLinear::new(shared, &matrix, bias).unwrap();
        // More batch sizes than plans are kept.
        for batch in [1, 2, 5, 33, 1, 64, 2] {
            let x = Random(batch as u64).vector(batch * cols);
            let y = module.forward(tensor(shared, &x, [batch, cols]));
            assert_eq!(y.dims(), [batch, rows]);
            let truth = reference::linear(&matrix, &x, batch, bias).unwrap();
            let comparison = truth.compare(&values(y)).unwrap();
            assert!(comparison.passes(), "{format} {batch}: {comparison:?}");
        }
    }
}

#[test]
fn x_of_16_bits_gives_y_of_16_bits() {
    let Some(shared) = shared() else { return };
    let (rows, cols, batch) = (137, 192, 3);
    let matrix = matrix(rows, cols, "2:4x8@f16");
    let module = SparseLinear::new(shared, &matrix, None).unwrap();
    let x = Random(3).vector(batch * cols);
    for (dtype, share) in [(DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8))] {
        let data = TensorData::new(x.clone(), [batch, cols]).convert_dtype(dtype);
        let rounded = data.clone().convert::<f32>().try_into_vec::<f32>().unwrap();
        let truth = reference::linear(&matrix, &rounded, batch, None).unwrap();
        let y = module.forward(Tensor::<2>::from_data(data, (shared.device(), dtype)));
        assert_eq!((y.dims(), y.dtype()), ([batch, rows], dtype));
        let y = y
            .into_data()
            .convert::<f32>()
            .try_into_vec::<f32>()
            .unwrap();
        for ((got, exact), bound) in y.iter().zip(&truth.y).zip(&truth.bound) {
            let allowed = bound + share * (exact.abs() + bound);
            let off = (f64::from(*got) - exact).abs();
            assert!(off <= allowed, "{dtype:?}: {off} > {allowed}");
        }
    }
}

#[test]
fn burns_dense_linear_computes_the_same() {
    let Some(shared) = shared() else { return };
    let (rows, cols, batch) = (136, 192, 3);
    let (bias, x) = (Random(2).vector(rows), Random(3).vector(batch * cols));
    for format in ["2:4", "w4g64s50"] {
        let matrix = matrix(rows, cols, format);
        let truth = reference::linear(&matrix, &x, batch, Some(&bias)).unwrap();
        let x = tensor(shared, &x, [batch, cols]);
        let theirs = dense(shared, &matrix, Some(&bias)).forward(x.clone());
        let ours = SparseLinear::new(shared, &matrix, Some(&bias)).unwrap();
        for y in [theirs, ours.forward(x)] {
            let comparison = truth.compare(&values(y)).unwrap();
            assert!(comparison.passes(), "{format}: {comparison:?}");
        }
    }
}

#[test]
fn leading_dimensions_are_kept_and_strides_followed() {
    let Some(shared) = shared() else { return };
    let (rows, cols) = (40, 64);
    let matrix = matrix(rows, cols, "2:4");
    let module = SparseLinear::new(shared, &matrix, None).unwrap();
    let x = Random(4).vector(2 * 3 * cols);
    let truth = reference::linear(&matrix, &x, 6, None).unwrap();
    let y = module.forward(tensor(shared, &x, [2, 3, cols]));
    assert_eq!(y.dims(), [2, 3, rows]);
    assert!(truth.compare(&values(y)).unwrap().passes());
    // The same x, stored column by column.
    let mut turned = vec![0.0; x.len()];
    for (i, value) in x.iter().enumerate() {
        turned[i % cols * 6 + i / cols] = *value;
    }
    let y = module.forward(tensor(shared, &turned, [cols, 6]).transpose());
    assert!(truth.compare(&values(y)).unwrap().passes());
    // One vector without a batch.
    let y = module.forward(tensor(shared, &x[..cols], [cols]));
    assert_eq!(y.dims(), [rows]);
    assert!(y.into_data().try_into_vec_as::<f32>().is_ok());
}

#[test]
fn products_bind_the_very_buffers_that_burn_holds() {
    let Some(shared) = shared() else { return };
    let (rows, cols, batch) = (128, 256, 2);
    let module = SparseLinear::new(shared, &matrix(rows, cols, "2:4"), None).unwrap();
    let x = tensor(shared, &Random(5).vector(batch * cols), [batch, cols]);
    let (_, (x_buffer, x_at, x_bytes)) = place(&x);
    assert_eq!(x_bytes, 4 * (batch * cols) as u64);

    // What `try_forward` binds; tensors of the engine are equal if they are the same bytes of a buffer.
    let bound = module.bind(x, batch).unwrap();
    let gpu = shared.gpu();
    let own = |buffer, at, len| gpu.tensor_in(buffer, at, batch, len).unwrap();
    assert!(bound.x.tensor == own(&x_buffer, x_at, cols));
    let (_, (y_buffer, y_at, _)) = place(&bound.result);
    assert!(bound.y.tensor == own(&y_buffer, y_at, rows));
}

#[test]
fn slices_of_one_buffer_are_read_and_written_where_they_lie() {
    let Some(shared) = shared() else { return };
    let (rows, cols) = (256, 256);
    let matrix = matrix(rows, cols, "2:4");
    let module = SparseLinear::new(shared, &matrix, None).unwrap();
    let all = Random(6).vector(8 * cols);
    let whole = tensor(shared, &all, [8, cols]);
    let (_, (buffer, start, _)) = place(&whole);
    for (first, batch) in [(0, 1), (1, 1), (3, 2), (7, 1)] {
        let x = whole.clone().slice([first..first + batch, 0..cols]);
        let (_, (same, at, _)) = place(&x);
        assert!(same == buffer, "Burn copied the slice");
        assert_eq!(at, start + 4 * (first * cols) as u64);
        let bound = module.bind(x.clone(), batch).unwrap();
        let tensor = shared.gpu().tensor_in(&buffer, at, batch, cols).unwrap();
        assert!(bound.x.tensor == tensor);
        drop(bound);
        let y = module.forward(x);
        let x = &all[first * cols..(first + batch) * cols];
        let truth = reference::linear(&matrix, x, batch, None).unwrap();
        assert!(truth.compare(&values(y)).unwrap().passes());
    }
    assert_eq!(values(whole), all, "a product wrote beside its result");

    // Burn's pool places x and y in one buffer, which is the case that sharing has to handle.
    let mut met = false;
    for _ in 0..8 {
        let bound = module
            .bind(tensor(shared, &all[..cols], [1, cols]), 1)
            .unwrap();
        let (_, (y_buffer, y_at, _)) = place(&bound.result);
        let x = shared.gpu().tensor_in(&y_buffer, y_at, 1, cols).unwrap();
        assert!(bound.x.tensor != x, "x and y are the same bytes");
        met |= (0..y_buffer.size()).step_by(256).any(|at| {
            let there = shared.gpu().tensor_in(&y_buffer, at, 1, cols);
            there.is_ok_and(|there| there == bound.x.tensor)
        });
    }
    assert!(met, "x and y never shared a buffer");
}

#[test]
fn burns_work_before_and_behind_a_product_keeps_its_order() {
    let Some(shared) = shared() else { return };
    let n = 256;
    let matrix = matrix(n, n, "2:4");
    let module = SparseLinear::new(shared, &matrix, None).unwrap();
    let relu = Relu::new();
    // Nothing waits between the layers: Burn computes what a layer reads, and reads what it wrote.
    let mut x = Random(7).vector(n);
    let mut y = tensor(shared, &x, [1, n]);
    for _ in 0..20 {
        y = relu
            .forward(module.forward(y.mul_scalar(0.5)))
            .add_scalar(0.125);
        // Overwrites at once, from the host, the memory of an x that is no longer needed.
        let scratch = tensor(shared, &vec![f32::NAN; n], [1, n]);
        drop(scratch);
        let halves: Vec<f32> = x.iter().map(|v| v * 0.5).collect();
        let truth = reference::linear(&matrix, &halves, 1, None).unwrap();
        x = truth.y.iter().map(|v| v.max(0.0) as f32 + 0.125).collect();
    }
    let found = values(y);
    let scale = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    for (found, expected) in found.iter().zip(&x) {
        assert!(
            (found - expected).abs() <= 1e-4 * scale,
            "{found} {expected}"
        );
    }
}

#[test]
fn tensors_of_other_threads_are_met_written() {
    let Some(shared) = shared() else { return };
    let n = 128;
    let matrix = matrix(n, n, "1:8");
    let module = SparseLinear::new(shared, &matrix, None).unwrap();
    for round in 0..8 {
        let x = Random(round).vector(3 * n);
        let halves: Vec<f32> = x.iter().map(|v| v * 0.5).collect();
        let truth = reference::linear(&matrix, &halves, 3, None).unwrap();
        let made = std::thread::scope(|scope| {
            let made = scope.spawn(|| tensor(shared, &x, [3, n]).mul_scalar(0.5));
            made.join().unwrap()
        });
        let ys = std::thread::scope(|scope| {
            let forward = || module.clone().forward(made.clone());
            let threads = [scope.spawn(forward), scope.spawn(forward)];
            threads.map(|thread| thread.join().unwrap())
        });
        for y in ys {
            let comparison = truth.compare(&values(y)).unwrap();
            assert!(comparison.passes(), "{comparison:?}");
        }
    }
}

#[test]
fn wrong_inputs_are_refused_by_kind() {
    let Some(shared) = shared() else { return };
    let matrix = matrix(64, 32, "2:4");
    let module = SparseLinear::new(shared, &matrix, None).unwrap();
    let wrong = tensor(shared, &[0.0; 31], [1, 31]);
    let refused = module.try_forward(wrong).unwrap_err();
    assert_eq!(
        refused,
        Error::Shape {
            got: 31,
            expected: 32
        }
    );
    let x = tensor(shared, &[0.0; 32], [1, 32]);
    let double = x.clone().cast(DType::F64);
    assert!(matches!(module.try_forward(double), Err(Error::DType(_))));
    let bias = SparseLinear::new(shared, &matrix, Some(&[0.0; 63])).unwrap_err();
    assert!(
        matches!(bias, Error::Engine(lacuna::Error::Shape { .. })),
        "{bias}"
    );
    // The module still works.
    assert!(module.try_forward(x).is_ok());
}

#[test]
#[should_panic(expected = "the last dimension of x is 31, the weight takes 32")]
fn forward_panics_with_the_error() {
    let Some(shared) = shared() else {
        panic!("the last dimension of x is 31, the weight takes 32");
    };
    let module = SparseLinear::new(shared, &matrix(64, 32, "2:4"), None).unwrap();
    module.forward(tensor(shared, &[0.0; 31], [1, 31]));
}

#[test]
fn a_device_of_the_hosts_is_shared_and_kept_apart_from_others() {
    let Some(shared) = shared() else { return };
    // A second device on the adapter, which the host creates and registers with Burn.
    let host = lacuna::Gpu::new_blocking(&lacuna::gpu::Options::default()).unwrap();
    let setup = WgpuSetup {
        device: host.device().clone(),
        queue: host.queue().clone(),
        ..shared.setup().clone()
    };
    let other = Shared::register(Device::wgpu_options(), setup).unwrap();
    let matrix = matrix(64, 32, "2:4");
    let module = SparseLinear::new(&other, &matrix, None).unwrap();
    let x = Random(3).vector(32);
    let truth = reference::linear(&matrix, &x, 1, None).unwrap();
    let y = module.forward(tensor(&other, &x, [1, 32]));
    assert!(truth.compare(&values(y)).unwrap().passes());
    let refused = module.try_forward(tensor(shared, &x, [1, 32]));
    assert!(matches!(refused, Err(Error::Device { .. })), "{refused:?}");
    let again = Shared::open(Device::wgpu_options().tasks_max(0));
    assert!(matches!(again, Err(Error::Open(_))), "{again:?}");
}

#[test]
fn nothing_to_compute_gives_zeros_or_the_bias() {
    let Some(shared) = shared() else { return };
    let module = SparseLinear::new(shared, &matrix(64, 32, "2:4"), None).unwrap();
    let y = module.forward(Tensor::<2>::zeros([0, 32], shared.device()));
    assert_eq!(y.dims(), [0, 64]);
    let none = SparseLinear::new(shared, &matrix(0, 32, "2:4"), None).unwrap();
    let y = none.forward(Tensor::<2>::zeros([3, 32], shared.device()));
    assert_eq!(y.shape(), Shape::new([3, 0]));
}

#[test]
fn memory_is_given_back() {
    let Some(shared) = shared() else { return };
    let n = 512;
    let module = SparseLinear::new(shared, &matrix(n, n, "2:4"), None).unwrap();
    let x = Random(8).vector(64 * n);
    let in_use = |client: &Client| {
        client
            .memory_report(MemoryScope::CurrentStream)
            .usage()
            .bytes_in_use
    };
    let (client, _) = place(&tensor(shared, &[0.0], [1]));
    // With fusion, a dropped tensor is freed only when its stream is drained.
    shared.device().sync().unwrap();
    let before = in_use(&client);
    for batch in [1, 64, 1, 8, 3, 64, 2, 16] {
        for _ in 0..4 {
            let y = module.forward(tensor(shared, &x[..batch * n], [batch, n]));
            assert!(in_use(&client) > before);
            drop(y);
        }
    }
    shared.device().sync().unwrap();
    assert_eq!(
        in_use(&client),
        before,
        "a product keeps memory of Burn's pool"
    );
    // Nor does a plan keep a page alive that the pool has freed.
    let allocated = || {
        shared.gpu().wait().unwrap();
        let report = shared.gpu().device().generate_allocator_report();
        report.map(|report| report.total_allocated_bytes)
    };
    client.memory_cleanup().unwrap();
    let small = allocated();
    let large = tensor(shared, &vec![1.0; 4096 * n], [4096, n]);
    drop(module.forward(large));
    shared.device().sync().unwrap();
    client.memory_cleanup().unwrap();
    let (Some(small), Some(after)) = (small, allocated()) else {
        return;
    };
    assert!(
        after < small + 4 * 4096 * n as u64,
        "{small} bytes became {after}"
    );
}

#[test]
fn it_is_a_module_among_modules() {
    #[derive(Module, Debug)]
    struct Mlp {
        up: SparseLinear,
        activation: Relu,
        down: Linear,
    }
    let Some(shared) = shared() else { return };
    let down = LinearConfig::new(128, 16).init(shared.device());
    let up = LinearConfig::new(64, 128).init(shared.device());
    let model = Mlp {
        up: SparseLinear::compress(shared, &up, "f32".parse().unwrap()).unwrap(),
        activation: Relu::new(),
        down: down.clone(),
    };
    // Packed weights are constants.
    assert_eq!(model.num_params(), 128 * 16 + 16);
    let shown = format!("{model}");
    assert!(shown.contains("d_output: 128"), "{shown}");
    let x = tensor(shared, &Random(9).vector(2 * 64), [2, 64]);
    let model = model.clone();
    let y = model
        .down
        .forward(model.activation.forward(model.up.forward(x.clone())));
    let expected = down.forward(Relu::new().forward(up.forward(x)));
    for (found, expected) in values(y).iter().zip(values(expected)) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}
