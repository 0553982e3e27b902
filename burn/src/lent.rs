//! Lends Burn's tensors to the engine: the same bytes of the same buffer.

use crate::{
    error::{Error, Result},
    primitive,
};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::{
    CubeDevice,
    cubecl::{
        client::Client,
        server::Handle,
        wgpu::{AutoCompiler, WgpuResource, WgpuServer},
    },
    kernel::into_contiguous,
    tensor::CubeTensor,
};
use lacuna::{Gpu, format::Dtype};

/// Keeps an allocation alive and in place. Burn's type for that has no public name.
type Pinned = Box<dyn Send>;

/// Memory of a Burn tensor, which Burn's pool neither moves nor reuses while this lives.
pub struct Lent {
    pub tensor: lacuna::Tensor,
    pub client: Client,
    pub device: CubeDevice,
    _memory: Pinned,
}

impl Lent {
    /// Lends `x` as `[batch, len]`; it must have `batch * len` elements.
    ///
    /// On return, all pending work of Burn on the stream of `x` and on that of this thread has been
    /// submitted to the queue, so whatever is submitted next finds `x` written. This does not wait for
    /// the device. Burn copies `x` only if it is not contiguous and row-major.
    ///
    /// # Errors
    /// [`Error::DType`], [`Error::Backend`], [`Error::Recording`], [`Error::Burn`], [`Error::Engine`].
    pub fn new<const D: usize>(gpu: &Gpu, x: Tensor<D>, batch: usize, len: usize) -> Result<Self> {
        let x = into_contiguous(primitive::resolve(x)?);
        Self::of(gpu, x, batch, len)
    }

    /// Uninitialised memory to which the engine may write `[batch, len]`, and Burn's tensor of `shape`
    /// in it. Type and device are those of `beside`.
    ///
    /// # Errors
    /// [`Error::Burn`], [`Error::Engine`].
    pub fn empty<const D: usize>(
        gpu: &Gpu,
        beside: &Self,
        shape: Shape,
        [batch, len]: [usize; 2],
    ) -> Result<(Self, Tensor<D>)> {
        let (client, device) = (beside.client.clone(), beside.device.clone());
        let elements = beside.tensor.dtype();
        // The engine writes whole words.
        let bytes = (elements.size() * batch * len).next_multiple_of(4);
        let y = client.empty(bytes);
        let y = CubeTensor::new_contiguous(client, device, shape, y, dtype_of(elements));
        let lent = Self::of(gpu, y.clone(), batch, len)?;
        Ok((lent, primitive::wrap(y)))
    }

    fn of(gpu: &Gpu, tensor: CubeTensor, batch: usize, len: usize) -> Result<Self> {
        let CubeTensor {
            client,
            handle,
            device,
            dtype,
            ..
        } = tensor;
        let dtype = elements_of(dtype)?;
        if client.is_capturing() {
            return Err(Error::Recording);
        }
        let (place, memory) = memory(&client, handle)?;
        let tensor = if batch * len == 0 {
            gpu.tensor_as(dtype, batch, len)?
        } else {
            gpu.tensor_in_as(dtype, &place.buffer, place.offset, batch, len)?
        };
        Ok(Self {
            tensor,
            client,
            device,
            _memory: memory,
        })
    }
}

/// The engine's name for the element type of a Burn tensor.
///
/// # Errors
/// [`Error::DType`] for those that products do not take.
pub fn elements_of(dtype: DType) -> Result<Dtype> {
    match dtype {
        DType::F32 => Ok(Dtype::F32),
        DType::F16 => Ok(Dtype::F16),
        DType::BF16 => Ok(Dtype::Bf16),
        other => Err(Error::DType(other)),
    }
}

fn dtype_of(elements: Dtype) -> DType {
    match elements {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}

/// The buffer and offset of the bytes of `handle`, after flushing the streams that use them.
pub fn memory(client: &Client, handle: Handle) -> Result<(WgpuResource, Pinned)> {
    let memory = client.get_resource::<WgpuServer<AutoCompiler>>(handle);
    let memory = memory.map_err(|e| Error::Burn(e.to_string()))?;
    Ok((memory.resource().clone(), Box::new(memory)))
}
