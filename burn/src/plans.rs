//! Plans of one product, kept by batch.

use lacuna::{Gpu, Plan, PlanBuilder, Tensor, Weight};
use std::sync::{Arc, Mutex, PoisonError};

/// Batches whose plans are kept.
const KEPT: usize = 4;

/// A plan with more scratch than this is made anew for each call: so large a product does not
/// notice, and the memory would be held for every layer of a model.
const MOST_SCRATCH: u64 = 64 << 10;

/// The product of one batch, whose x and y each call names.
#[derive(Debug)]
pub struct Product {
    plan: Plan,
    batch: usize,
    x: Tensor,
    y: Tensor,
}

impl Product {
    fn new(
        gpu: &Gpu,
        weight: &Weight,
        bias: Option<&Tensor>,
        batch: usize,
    ) -> lacuna::Result<Self> {
        let x = gpu.slot(batch, weight.cols())?;
        let y = gpu.slot(batch, weight.rows())?;
        let mut plan = PlanBuilder::new(gpu);
        plan.linear(weight, &x, bias, &y)?;
        let plan = plan.build()?;
        Ok(Self { plan, batch, x, y })
    }

    /// Submits the product of `x` to `y`.
    pub fn submit(&self, gpu: &Gpu, x: &Tensor, y: &Tensor) -> lacuna::Result<()> {
        let mut encoder = gpu.encoder();
        self.plan
            .encode_with(&mut encoder, &[(&self.x, x), (&self.y, y)])?;
        gpu.submit(encoder)
    }
}

/// The batches used last, the last one in front.
#[derive(Debug, Default)]
pub struct Plans(Mutex<Vec<Arc<Product>>>);

impl Plans {
    /// The product of `batch` vectors, kept or new.
    pub fn product(
        &self,
        gpu: &Gpu,
        weight: &Weight,
        bias: Option<&Tensor>,
        batch: usize,
    ) -> lacuna::Result<Arc<Product>> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = kept();
            if let Some(at) = kept.iter().position(|p| p.batch == batch) {
                kept[..=at].rotate_right(1);
                return Ok(Arc::clone(&kept[0]));
            }
        }
        let made = Arc::new(Product::new(gpu, weight, bias, batch)?);
        if made.plan.memory().scratch <= MOST_SCRATCH {
            let mut kept = kept();
            kept.truncate(KEPT - 1);
            kept.insert(0, Arc::clone(&made));
        }
        Ok(made)
    }
}
