//! The libraries behind one interface: run some products and wait, then read the last result.

use burn::tensor::{DType, Device, Tensor, TensorData};
use gemm::Parallelism;
use lacuna::{Gpu, Plan, PlanBuilder, format::Matrix};
use std::error::Error;

/// Two inputs alternate, so that a result left over from the previous run is detected.
pub const INPUTS: usize = 2;

/// The product that a subject computes: `y[b, r] = Σ_c W[r, c] · x[b, c]`.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub weight: &'a Matrix,
    /// Each `[batch, cols]`.
    pub inputs: &'a [Vec<f32>; INPUTS],
    pub batch: usize,
    /// Copies of the weight, which successive products use in rotation.
    pub copies: usize,
}

/// A library that computes one product.
pub trait Subject {
    /// Runs `count` products of input `input`, the first of them with copy `first`, and returns when
    /// the device has finished.
    fn run(&mut self, input: usize, first: usize, count: usize) -> Result<(), Box<dyn Error>>;

    /// `y [batch, rows]` of the last product.
    fn read(&mut self) -> Result<Vec<f32>, Box<dyn Error>>;
}

/// The ways in which a Burn user may write the product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `x.matmul(w.transpose())`, W as checkpoints store it.
    Transpose,
    /// `x.matmul(w)`, W stored `[cols, rows]`.
    Stored,
    /// `w.matmul(x)` with x a column: for one vector only.
    Column,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::Transpose, Self::Stored, Self::Column];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Transpose => "x·Wᵀ",
            Self::Stored => "x·W stored [cols, rows]",
            Self::Column => "W·x",
        }
    }
}

/// Burn's matmul, its kernel chosen by its autotune.
pub struct Burn {
    device: Device,
    form: Form,
    weights: Vec<Tensor<2>>,
    inputs: Vec<Tensor<2>>,
    y: Option<Tensor<2>>,
}

impl Burn {
    pub fn new(device: &Device, dtype: DType, form: Form, product: Product) -> Self {
        let Product { weight, batch, .. } = product;
        let (rows, cols) = (weight.rows(), weight.cols());
        let tensor = |values: Vec<f32>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values, shape), (device, dtype))
        };
        let mut values = weight.to_dense().values().to_f32();
        let mut shape = [rows, cols];
        if form == Form::Stored {
            let at = |i: usize| values[i % rows * cols + i / rows];
            values = (0..rows * cols).map(at).collect();
            shape = [cols, rows];
        }
        let x_shape = match form {
            Form::Column => [cols, batch],
            Form::Transpose | Form::Stored => [batch, cols],
        };
        Self {
            device: device.clone(),
            form,
            weights: (0..product.copies)
                .map(|_| tensor(values.clone(), shape))
                .collect(),
            inputs: product
                .inputs
                .iter()
                .map(|x| tensor(x.clone(), x_shape))
                .collect(),
            y: None,
        }
    }
}

impl Subject for Burn {
    fn run(&mut self, input: usize, first: usize, count: usize) -> Result<(), Box<dyn Error>> {
        for i in first..first + count {
            let w = self.weights[i % self.weights.len()].clone();
            let x = self.inputs[input].clone();
            self.y = Some(match self.form {
                Form::Transpose => x.matmul(w.transpose()),
                Form::Stored => x.matmul(w),
                Form::Column => w.matmul(x),
            });
        }
        self.device.sync().map_err(|e| format!("Burn: {e:?}"))?;
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<f32>, Box<dyn Error>> {
        let y = self.y.take().ok_or("nothing has run")?;
        let y = y.try_into_vec_as::<f32>();
        Ok(y.map_err(|e| format!("Burn: {e:?}"))?)
    }
}

/// The engine, with the kernel that it chooses by itself.
pub struct Lacuna {
    gpu: Gpu,
    /// For each copy of the weight, one plan per input.
    plans: Vec<Vec<Plan>>,
    y: lacuna::Tensor,
}

impl Lacuna {
    pub fn new(gpu: &Gpu, product: Product) -> lacuna::Result<Self> {
        let Product { weight, batch, .. } = product;
        let inputs = product
            .inputs
            .iter()
            .map(|x| gpu.tensor_from(batch, weight.cols(), x))
            .collect::<lacuna::Result<Vec<_>>>()?;
        let y = gpu.tensor(batch, weight.rows())?;
        let plans = (0..product.copies).map(|_| {
            let copy = gpu.upload(weight)?;
            let plan = |x| {
                let mut builder = PlanBuilder::new(gpu);
                builder.linear(&copy, x, None, &y)?;
                builder.build()
            };
            inputs.iter().map(plan).collect()
        });
        let plans = plans.collect::<lacuna::Result<_>>()?;
        Ok(Self {
            gpu: gpu.clone(),
            plans,
            y,
        })
    }

    /// Names of the plan's launches.
    pub fn kernel(&self) -> String {
        let names: Vec<_> = self.plans[0][0].steps().map(|s| s.name.as_str()).collect();
        names.join(" + ")
    }
}

impl Subject for Lacuna {
    fn run(&mut self, input: usize, first: usize, count: usize) -> Result<(), Box<dyn Error>> {
        let mut encoder = self.gpu.device().create_command_encoder(&<_>::default());
        for i in first..first + count {
            self.plans[i % self.plans.len()][input].encode(&mut encoder)?;
        }
        self.gpu.submit(encoder)?;
        Ok(self.gpu.wait()?)
    }

    fn read(&mut self) -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(self.y.read_blocking(&self.gpu)?)
    }
}

/// The `gemm` crate on all CPU cores, for orientation.
pub struct Cpu {
    weights: Vec<Vec<f32>>,
    inputs: Vec<Vec<f32>>,
    y: Vec<f32>,
    rows: usize,
    cols: usize,
    batch: usize,
}

impl Cpu {
    pub fn new(product: Product) -> Self {
        let Product { weight, batch, .. } = product;
        Self {
            weights: vec![weight.to_dense().values().to_f32(); product.copies],
            inputs: product.inputs.to_vec(),
            y: vec![0.0; batch * weight.rows()],
            rows: weight.rows(),
            cols: weight.cols(),
            batch,
        }
    }

    /// Multiplies the rows in `w`; the results go to the first columns of `y`, whose rows are
    /// `self.rows` apart.
    fn part(&self, w: &[f32], x: &[f32], y: &mut [f32], parallelism: Parallelism) {
        let (all, cols) = (self.rows as isize, self.cols as isize);
        let rows = w.len() / self.cols;
        assert!(
            x.len() == self.batch * self.cols && y.len() >= (self.batch - 1) * self.rows + rows
        );
        // SAFETY: with these strides the last elements touched are those asserted above,
        // and `w` holds `rows` whole rows.
        unsafe {
            gemm::gemm(
                self.batch,
                rows,
                self.cols,
                y.as_mut_ptr(),
                1,
                all,
                false,
                x.as_ptr(),
                1,
                cols,
                w.as_ptr(),
                cols,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

impl Subject for Cpu {
    fn run(&mut self, input: usize, first: usize, count: usize) -> Result<(), Box<dyn Error>> {
        let mut y = std::mem::take(&mut self.y);
        for i in first..first + count {
            let (w, x) = (&self.weights[i % self.weights.len()], &self.inputs[input]);
            if self.batch == 1 {
                // The crate multiplies a single vector on one thread only.
                let threads = std::thread::available_parallelism()?.get();
                let share = self.rows.div_ceil(threads);
                let this = &*self;
                std::thread::scope(|scope| {
                    for (w, y) in w.chunks(share * self.cols).zip(y.chunks_mut(share)) {
                        scope.spawn(move || this.part(w, x, y, Parallelism::None));
                    }
                });
            } else {
                self.part(w, x, &mut y, Parallelism::Rayon(0));
            }
        }
        self.y = y;
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(self.y.clone())
    }
}
