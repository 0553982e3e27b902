//! Compares `SparseLinear` with Burn's dense linear on one device: checks results, then times in turns.
//!
//! ```text
//! WGPU_BACKEND=vulkan cargo run --release --example beside_dense -- [ROUNDS]
//! ```
//! Ratios are to Burn's fastest form of the product, out of its `Linear` with the default layout and
//! with `LinearLayout::Col`, and `W·x` with x as a column.

use burn::{
    nn::{Linear, LinearConfig, LinearLayout},
    tensor::{Device, DeviceKind, Tensor, TensorData},
};
use lacuna_burn::{
    Shared, SparseLinear,
    lacuna::{
        compress,
        format::{Dense, Matrix},
        reference::Sampled,
        verify::Random,
    },
};
use std::{error::Error, time::Instant};

const N: usize = 4096;
const FORMATS: [&str; 2] = ["2:4", "w4g64s50"];

/// Two inputs alternate, so that a result left over from the previous run is detected.
const INPUTS: usize = 2;

type Forward = Box<dyn Fn(Tensor<2>) -> Tensor<2>>;

struct Subject {
    name: String,
    /// Maps `[1, N]` to `N` values in any shape.
    forward: Forward,
    truths: Vec<Sampled>,
    samples: usize,
    /// Milliseconds until the result is there, and until the call returns.
    whole: Vec<f64>,
    call: Vec<f64>,
}

impl Subject {
    fn new(
        name: &str,
        matrix: &Matrix,
        inputs: &[Vec<f32>],
        forward: Forward,
    ) -> Result<Self, Box<dyn Error>> {
        let truths = inputs.iter().map(|x| Sampled::new(matrix, x, 1));
        Ok(Self {
            name: name.into(),
            forward,
            truths: truths.collect::<Result<_, _>>()?,
            samples: 0,
            whole: vec![],
            call: vec![],
        })
    }

    /// Times one product, from the call to the result; checks it outside the timed span.
    fn sample(
        &mut self,
        device: &Device,
        inputs: &[Tensor<2>],
    ) -> Result<[f64; 2], Box<dyn Error>> {
        let input = self.samples % INPUTS;
        self.samples += 1;
        let x = inputs[input].clone();
        let begin = Instant::now();
        let y = (self.forward)(x);
        let call = begin.elapsed();
        device.sync().map_err(|e| format!("{e:?}"))?;
        let whole = begin.elapsed();
        let y = y.into_data().try_into_vec_as::<f32>();
        let y = y.map_err(|e| format!("{e:?}"))?;
        let found = self.truths[input].compare(&y)?;
        if !found.passes() {
            return Err(format!("{}: wrong, {found:?}", self.name).into());
        }
        Ok([whole, call].map(|time| 1e3 * time.as_secs_f64()))
    }

    /// Runs until three samples in a row are near the fastest, as Burn tunes in its first calls.
    fn warm_up(&mut self, device: &Device, inputs: &[Tensor<2>]) -> Result<(), Box<dyn Error>> {
        let (mut fastest, mut near) = (f64::INFINITY, 0);
        while near < 3 && self.samples < 40 {
            let [whole, _] = self.sample(device, inputs)?;
            fastest = fastest.min(whole);
            near = if whole < 1.5 * fastest { near + 1 } else { 0 };
        }
        Ok(())
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

fn linear(device: &Device, layout: LinearLayout, weight: &Tensor<2>) -> Linear {
    let config = LinearConfig::new(N, N).with_bias(false).with_layout(layout);
    let mut linear = config.init(device);
    // Stored as [d_input, d_output], or as its transpose in memory.
    linear.weight = linear.weight.map(|_| {
        let turned = weight.clone().transpose();
        match layout {
            LinearLayout::Row => turned.mul_scalar(1.0),
            LinearLayout::Col => turned,
        }
    });
    linear
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(31), |n| n.parse::<usize>())?
        .max(1);
    let open = |kind| Shared::open(Device::wgpu_options().device_kind(kind));
    let shared = open(DeviceKind::DefaultDevice).or_else(|_| open(DeviceKind::Cpu))?;
    let device = shared.device();
    let values = Random(1).vector(N * N);
    let xs: Vec<_> = (0..INPUTS as u64)
        .map(|i| Random(2 + i).vector(N))
        .collect();
    let inputs: Vec<_> = xs
        .iter()
        .map(|x| Tensor::<2>::from_data(TensorData::new(x.clone(), [1, N]), device))
        .collect();
    let weight = Tensor::<2>::from_data(TensorData::new(values.clone(), [N, N]), device);
    let dense = Dense::from_f32(N, N, values)?;
    let matrix = Matrix::from(dense.clone());

    let mut subjects = vec![];
    for (name, layout) in [
        ("Linear", LinearLayout::Row),
        ("Linear, Col", LinearLayout::Col),
    ] {
        let linear = linear(device, layout, &weight);
        let forward = Box::new(move |x| linear.forward(x));
        subjects.push(Subject::new(
            &format!("Burn {name}"),
            &matrix,
            &xs,
            forward,
        )?);
    }
    let forward = Box::new(move |x: Tensor<2>| weight.clone().matmul(x.reshape([N, 1])));
    subjects.push(Subject::new("Burn W·x", &matrix, &xs, forward)?);
    let burns = subjects.len();
    for format in FORMATS {
        let matrix = compress::compress(&dense, format.parse()?)?;
        let module = SparseLinear::new(&shared, &matrix, None)?;
        let forward = Box::new(move |x| module.forward(x));
        subjects.push(Subject::new(
            &format!("SparseLinear {format}"),
            &matrix,
            &xs,
            forward,
        )?);
    }

    for subject in &mut subjects {
        subject.warm_up(device, &inputs)?;
    }
    for _ in 0..rounds {
        for subject in &mut subjects {
            let [whole, call] = subject.sample(device, &inputs)?;
            subject.whole.push(whole);
            subject.call.push(call);
        }
    }
    let info = shared.gpu().info();
    println!(
        "{} ({} {}), {N} x {N}, batch 1, {rounds} rounds",
        info.name, info.driver, info.driver_info
    );
    println!("| product | ms | call ms | x Burn's fastest |");
    println!("|---|--:|--:|--:|");
    let medians: Vec<_> = subjects.iter().map(|s| median(&s.whole)).collect();
    let fastest = (0..burns)
        .min_by(|&a, &b| medians[a].total_cmp(&medians[b]))
        .unwrap_or(0);
    for subject in &subjects {
        // Ratios within a round, so that whatever else the machine does affects both.
        let rounds = subject.whole.iter().zip(&subjects[fastest].whole);
        let ratios: Vec<_> = rounds.map(|(own, theirs)| theirs / own).collect();
        println!(
            "| {} | {:.2} | {:.3} | {:.2} |",
            subject.name,
            median(&subject.whole),
            median(&subject.call),
            median(&ratios)
        );
    }
    Ok(())
}
