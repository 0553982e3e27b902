#![doc = include_str!("../README.md")]

#[cfg(test)]
mod tests;

use candle_core::{
    CpuStorage, CustomOp1, DType, Device, Error, Layout, Module, Result, Shape, Tensor, bail,
};
pub use lacuna;
use lacuna::{Gpu, Plan, PlanBuilder, Weight, format::Matrix};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of plans that are kept.
const KEPT: usize = 4;

/// `y = x · Wᵀ + bias` with a weight in one of Lacuna's formats, on Lacuna's device.
///
/// Clones share the weight. Several threads may use it at the same time.
#[derive(Debug, Clone)]
pub struct SparseLinear(Arc<Product>);

#[derive(Debug)]
struct Product {
    gpu: Gpu,
    weight: Weight,
    bias: Option<lacuna::Tensor>,
    /// Plans not in use, the most recently used in front.
    idle: Mutex<Vec<Ready>>,
}

/// The plan for one batch size, with memory for x and y.
#[derive(Debug)]
struct Ready {
    batch: usize,
    x: lacuna::Tensor,
    y: lacuna::Tensor,
    plan: Plan,
}

impl SparseLinear {
    /// A layer with `weight` `[d_output, d_input]` and `bias` `[d_output]`, which are uploaded to `gpu`.
    ///
    /// # Errors
    /// [`Shape`](lacuna::Error::Shape) if `bias` has another length,
    /// [`Limit`](lacuna::Error::Limit) or [`OutOfMemory`](lacuna::Error::OutOfMemory) if the weight
    /// does not fit.
    pub fn new(gpu: &Gpu, weight: &Matrix, bias: Option<&[f32]>) -> lacuna::Result<Self> {
        let bias = bias.map(|bias| gpu.tensor_from(1, weight.rows(), bias));
        Ok(Self(Arc::new(Product {
            gpu: gpu.clone(),
            weight: gpu.upload(weight)?,
            bias: bias.transpose()?,
            idle: Mutex::default(),
        })))
    }

    /// The weight.
    pub fn weight(&self) -> &Weight {
        &self.0.weight
    }
}

impl Module for SparseLinear {
    /// Maps `x` `[…, d_input]` of a float type to y `[…, d_output]` of the same type on the same device.
    /// Returns when y is computed. The first product with a batch size compiles pipelines, which takes a
    /// moment.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !x.dtype().is_float() {
            bail!("x is {:?}, products take floats", x.dtype());
        }
        let staged = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let y = staged.contiguous()?.apply_op1(Op(Arc::clone(&self.0)))?;
        y.to_dtype(x.dtype())?.to_device(x.device())
    }
}

/// The product as a Candle operation on host tensors.
struct Op(Arc<Product>);

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "lacuna-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(all), Some((begin, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("x must lie side by side in f32");
        };
        let product = &*self.0;
        let (cols, rows) = (product.weight.cols(), product.weight.rows());
        let Some((&last, outer)) = layout.dims().split_last() else {
            bail!("x is a number, the weight takes vectors of {cols}");
        };
        if last != cols {
            bail!("the last dimension of x is {last}, the weight takes {cols}");
        }
        let batch = outer.iter().product();
        let y = product.run(batch, &all[begin..end]).map_err(Error::wrap)?;
        let shape = outer.iter().copied().chain([rows]);
        Ok((CpuStorage::F32(y), shape.collect::<Vec<_>>().into()))
    }
}

impl Product {
    fn run(&self, batch: usize, x: &[f32]) -> lacuna::Result<Vec<f32>> {
        if batch == 0 || self.weight.rows() == 0 {
            return Ok(vec![]);
        }
        let ready = self.take(batch)?;
        ready.x.write(&self.gpu, x)?;
        ready.plan.run()?;
        let y = ready.y.read_blocking(&self.gpu)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.insert(0, ready);
        idle.truncate(KEPT);
        Ok(y)
    }

    /// An idle plan for `batch` vectors, or a new one.
    fn take(&self, batch: usize) -> lacuna::Result<Ready> {
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = idle.iter().position(|ready| ready.batch == batch) {
                return Ok(idle.remove(at));
            }
        }
        let x = self.gpu.tensor(batch, self.weight.cols())?;
        let y = self.gpu.tensor(batch, self.weight.rows())?;
        let mut plan = PlanBuilder::new(&self.gpu);
        plan.linear(&self.weight, &x, self.bias.as_ref(), &y)?;
        let plan = plan.build()?;
        Ok(Ready { batch, x, y, plan })
    }
}
