//! [`SparseLinear`]: a linear layer for Burn.

use crate::{
    error::{Error, Result},
    lent::{Lent, elements_of},
    plans::Plans,
    shared::Shared,
};
use burn::{
    module::{Content, DisplaySettings, Module, ModuleDisplay},
    nn::Linear,
    tensor::Tensor,
};
use lacuna::{
    Weight, compress,
    format::{Dense, Format, Matrix},
};
use std::sync::Arc;

/// `y = x · Wᵀ + bias` with a weight in one of Lacuna's formats, on Burn's device and in Burn's
/// buffers.
///
/// To Burn, weight and bias are constants: they are not parameters, not trained and not in its
/// records, and stay on their device when the module is moved (`to_device`). Clones share them.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct SparseLinear {
    #[module(skip)]
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Shared,
    weight: Weight,
    bias: Option<lacuna::Tensor>,
    plans: Plans,
}

/// The operands of one product.
pub(crate) struct Bound<const D: usize> {
    pub x: Lent,
    pub y: Lent,
    /// Burn's tensor that `y` is the memory of.
    pub result: Tensor<D>,
}

impl SparseLinear {
    /// A module with `weight` `[d_output, d_input]` and `bias` `[d_output]`, which are uploaded to
    /// the device.
    ///
    /// # Errors
    /// [`Error::Engine`]: [`Shape`](lacuna::Error::Shape) if `bias` has another length,
    /// [`Limit`](lacuna::Error::Limit) or [`OutOfMemory`](lacuna::Error::OutOfMemory) if the weight
    /// does not fit.
    pub fn new(shared: &Shared, weight: &Matrix, bias: Option<&[f32]>) -> Result<Self> {
        let rows = weight.rows();
        if let Some(bias) = bias
            && bias.len() != rows
        {
            return Err(Error::Engine(lacuna::Error::Shape {
                what: "bias elements",
                got: bias.len(),
                expected: rows,
            }));
        }
        let gpu = shared.gpu();
        let bias = bias.map(|bias| gpu.tensor_from(1, rows, bias));
        Ok(Self {
            inner: Arc::new(Inner {
                shared: shared.clone(),
                weight: gpu.upload(weight)?,
                bias: bias.transpose()?,
                plans: Plans::default(),
            }),
        })
    }

    /// A replacement for a dense `linear`, whose weight is read back, pruned by magnitude and rounded
    /// as `format` demands.
    ///
    /// # Errors
    /// [`Error::Burn`] if it cannot be read, [`Error::Engine`] if a weight is not finite or does not
    /// fit the format, and the errors of [`new`](Self::new).
    pub fn compress(shared: &Shared, linear: &Linear, format: Format) -> Result<Self> {
        let weight = linear.weight.val();
        let [cols, rows] = weight.dims();
        // Burn stores [d_input, d_output].
        let values = floats(weight.transpose())?;
        let dense = Dense::from_f32(rows, cols, values)?;
        let bias = linear.bias.as_ref().map(|bias| floats(bias.val()));
        let bias = bias.transpose()?;
        Self::new(
            shared,
            &compress::compress(&dense, format)?,
            bias.as_deref(),
        )
    }

    /// Maps `x` `[…, d_input]` in f32, f16 or bf16 to y `[…, d_output]` of the same type.
    ///
    /// # Panics
    /// If [`try_forward`](Self::try_forward) returns an error, as Burn's modules return plain
    /// tensors.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.try_forward(x) {
            Ok(y) => y,
            Err(error) => panic!("SparseLinear: {error}"),
        }
    }

    /// Maps `x` `[…, d_input]` in f32, f16 or bf16 to y `[…, d_output]` of the same type, in memory of
    /// Burn's pool. Sums are f32, rounded once. Returns as soon as the product is submitted; Burn's
    /// later work on the result runs after it.
    ///
    /// The first product with a batch size compiles pipelines, which takes a moment.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Backend`], [`Error::Device`],
    /// [`Error::Recording`], [`Error::Burn`], and [`Error::Engine`] for what the engine refuses.
    pub fn try_forward<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>> {
        let batch = self.check(&x)?;
        let Inner { shared, weight, .. } = &*self.inner;
        if batch == 0 || weight.rows() == 0 {
            let mut shape = x.shape();
            shape[D - 1] = weight.rows();
            return Ok(Tensor::zeros(shape, (&x.device(), x.dtype())));
        }
        let bound = self.bind(x, batch)?;
        let bias = self.inner.bias.as_ref();
        let key = (batch, bound.x.tensor.dtype());
        let plans = &self.inner.plans;
        let product = plans.product(shared.gpu(), weight, bias, key)?;
        product.submit(shared.gpu(), &bound.x.tensor, &bound.y.tensor)?;
        Ok(bound.result)
    }

    /// The number of vectors in `x`, or an error if its shape, type or device does not suit the weight.
    fn check<const D: usize>(&self, x: &Tensor<D>) -> Result<usize> {
        let expected = self.inner.weight.cols();
        let shape = x.shape();
        let Some((&got, outer)) = shape.split_last() else {
            return Err(Error::Shape { got: 0, expected });
        };
        if got != expected {
            return Err(Error::Shape { got, expected });
        }
        elements_of(x.dtype())?;
        let (device, own) = (x.device(), self.inner.shared.device());
        if device != *own {
            return Err(Error::Device {
                got: Box::new(device),
                expected: Box::new(own.clone()),
            });
        }
        Ok(outer.iter().product())
    }

    /// Lends `x` and new memory for the result to the engine.
    pub(crate) fn bind<const D: usize>(&self, x: Tensor<D>, batch: usize) -> Result<Bound<D>> {
        let Inner { shared, weight, .. } = &*self.inner;
        let mut shape = x.shape();
        shape[D - 1] = weight.rows();
        let x = Lent::new(shared.gpu(), x, batch, weight.cols())?;
        let (y, result) = Lent::empty(shared.gpu(), &x, shape, [batch, weight.rows()])?;
        Ok(Bound { x, y, result })
    }

    /// The weight.
    pub fn weight(&self) -> &Weight {
        &self.inner.weight
    }
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let floats = tensor.try_into_vec_as::<f32>();
    floats.map_err(|e| Error::Burn(format!("{e:?}")))
}

impl ModuleDisplay for SparseLinear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let weight = self.weight();
        content
            .add("d_input", &weight.cols())
            .add("d_output", &weight.rows())
            .add("format", &weight.format().to_string())
            .add("bias", &self.inner.bias.is_some())
            .optional()
    }
}
