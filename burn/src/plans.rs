//! A cache of the plans of one product, by batch size and type.

use lacuna::{Gpu, Plan, PlanBuilder, Tensor, Weight, format::Dtype};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of plans that are kept.
const KEPT: usize = 4;

/// A plan that holds more bytes than this is built anew for each call: for so large a product that costs
/// little, and keeping it would hold the memory for every layer of a model.
const MOST_HELD: u64 = 64 << 10;

/// Number of vectors, and the type of x and y.
type Key = (usize, Dtype);

/// The product for one batch size and type; each call binds its own x and y.
#[derive(Debug)]
pub struct Product {
    plan: Plan,
    key: Key,
    x: Tensor,
    y: Tensor,
}

impl Product {
    fn new(gpu: &Gpu, weight: &Weight, bias: Option<&Tensor>, key: Key) -> lacuna::Result<Self> {
        let (batch, dtype) = key;
        let x = gpu.slot_as(dtype, batch, weight.cols())?;
        let y = gpu.slot_as(dtype, batch, weight.rows())?;
        let mut plan = PlanBuilder::new(gpu);
        plan.linear(weight, &x, bias, &y)?;
        let plan = plan.build()?;
        Ok(Self { plan, key, x, y })
    }

    /// Bytes that the plan holds between calls: scratch, and f32 copies of x and y if these have 16 bits.
    fn held(&self) -> u64 {
        let beside = |t: &Tensor| match t.dtype() {
            Dtype::F32 => 0,
            Dtype::F16 | Dtype::Bf16 => 2 * t.bytes(),
        };
        self.plan.memory().scratch + beside(&self.x) + beside(&self.y)
    }

    /// Submits the product of `x` to `y`.
    pub fn submit(&self, gpu: &Gpu, x: &Tensor, y: &Tensor) -> lacuna::Result<()> {
        let mut encoder = gpu.encoder();
        self.plan
            .encode_with(&mut encoder, &[(&self.x, x), (&self.y, y)])?;
        gpu.submit(encoder)?;
        Ok(())
    }
}

/// The products used most recently, the latest in front.
#[derive(Debug, Default)]
pub struct Plans(Mutex<Vec<Arc<Product>>>);

impl Plans {
    /// The product for `key`, from the cache or new.
    pub fn product(
        &self,
        gpu: &Gpu,
        weight: &Weight,
        bias: Option<&Tensor>,
        key: Key,
    ) -> lacuna::Result<Arc<Product>> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = kept();
            if let Some(at) = kept.iter().position(|p| p.key == key) {
                kept[..=at].rotate_right(1);
                return Ok(Arc::clone(&kept[0]));
            }
        }
        let made = Arc::new(Product::new(gpu, weight, bias, key)?);
        if made.held() <= MOST_HELD {
            let mut kept = kept();
            kept.truncate(KEPT - 1);
            kept.insert(0, Arc::clone(&made));
        }
        Ok(made)
    }
}
