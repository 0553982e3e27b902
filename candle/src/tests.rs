use super::SparseLinear;
use candle_core::{DType, Device, Module, Tensor, Var};
use lacuna::{
    Gpu,
    compress::compress,
    format::{Dense, Matrix},
    gpu::Options,
    reference,
    verify::Random,
};
use std::thread;

const ROWS: usize = 48;
const COLS: usize = 128;

fn gpu() -> Gpu {
    Gpu::new_blocking(&Options::default()).expect("an adapter")
}

fn weight(format: &str) -> Matrix {
    let dense = Dense::from_f32(ROWS, COLS, Random(1).vector(ROWS * COLS)).unwrap();
    compress(&dense, format.parse().unwrap()).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn products_are_those_of_the_reference_and_of_candles_dense_layer() {
    let gpu = gpu();
    let bias = Random(2).vector(ROWS);
    let values = Random(3).vector(6 * COLS);
    let x = Tensor::from_slice(&values, (2, 3, COLS), &Device::Cpu).unwrap();
    for format in ["f32", "2:4", "2:4x8@f16", "w4g64", "w4g64s50"] {
        let weight = weight(format);
        let layer = SparseLinear::new(&gpu, &weight, Some(&bias)).unwrap();
        // A second call finds the plan of the first.
        for _ in 0..2 {
            let y = layer.forward(&x).unwrap();
            assert_eq!(y.dims(), [2, 3, ROWS], "{format}");
            let truth = reference::linear(&weight, &values, 6, Some(&bias)).unwrap();
            let comparison = truth.compare(&floats(&y)).unwrap();
            assert!(comparison.passes(), "{format}: {comparison:?}");
        }
        assert_eq!(layer.0.idle.lock().unwrap().len(), 1, "{format}");

        let dense = weight.to_dense().values().to_f32();
        let dense = Tensor::from_vec(dense, (ROWS, COLS), &Device::Cpu).unwrap();
        let flat = x.reshape((6, COLS)).unwrap();
        let theirs = flat.matmul(&dense.t().unwrap()).unwrap();
        let theirs = theirs.broadcast_add(&Tensor::new(&bias[..], &Device::Cpu).unwrap());
        let ours = floats(&layer.forward(&flat).unwrap());
        for (ours, theirs) in ours.iter().zip(floats(&theirs.unwrap())) {
            assert!((ours - theirs).abs() < 1e-4, "{format}: {ours} {theirs}");
        }
    }
}

#[test]
fn x_may_be_a_view_or_of_another_type() {
    let gpu = gpu();
    let layer = SparseLinear::new(&gpu, &weight("2:4"), None).unwrap();
    let x = Tensor::from_vec(Random(3).vector(3 * COLS), (3, COLS), &Device::Cpu).unwrap();
    let y = floats(&layer.forward(&x).unwrap());
    let turned = x.t().unwrap().contiguous().unwrap().t().unwrap();
    assert!(!turned.is_contiguous());
    assert_eq!(floats(&layer.forward(&turned).unwrap()), y);
    let middle = x.narrow(0, 1, 1).unwrap();
    assert_eq!(floats(&layer.forward(&middle).unwrap()), y[ROWS..2 * ROWS]);

    let halves = layer.forward(&x.to_dtype(DType::BF16).unwrap()).unwrap();
    assert_eq!(halves.dtype(), DType::BF16);
    let empty = layer.forward(&x.narrow(0, 0, 0).unwrap()).unwrap();
    assert_eq!(empty.dims(), [0, ROWS]);
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let gpu = gpu();
    let layer = SparseLinear::new(&gpu, &weight("2:4"), None).unwrap();
    let refused = |x: Tensor| layer.forward(&x).unwrap_err().to_string();
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu).unwrap();
    let text = refused(zeros(&[2, COLS - 1], DType::F32));
    assert!(text.contains("127") && text.contains("128"), "{text}");
    let text = refused(zeros(&[2, COLS], DType::U32));
    assert!(text.contains("U32"), "{text}");
    assert!(refused(zeros(&[], DType::F32)).contains("is a number"));
    assert!(SparseLinear::new(&gpu, &weight("2:4"), Some(&[0.0; ROWS - 1])).is_err());

    let x = Var::from_tensor(&zeros(&[1, COLS], DType::F32)).unwrap();
    let y = layer.forward(x.as_tensor()).unwrap().sum_all().unwrap();
    let text = y.backward().unwrap_err().to_string();
    assert!(text.contains("lacuna-linear"), "{text}");
}

#[test]
fn threads_share_a_layer() {
    let layer = SparseLinear::new(&gpu(), &weight("w4g64"), None).unwrap();
    let y = |seed: u64| {
        let x = Tensor::from_vec(Random(seed).vector(2 * COLS), (2, COLS), &Device::Cpu).unwrap();
        floats(&layer.forward(&x).unwrap())
    };
    let alone: Vec<_> = (0..4).map(y).collect();
    thread::scope(|scope| {
        for (seed, expected) in alone.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..8 {
                    assert_eq!(&y(seed as u64), expected);
                }
            });
        }
    });
}
