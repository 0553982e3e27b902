//! A tensor of Burn's lent to the engine: the same bytes of the same buffer.

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

/// Keeps an allocation alive and in place. Its type has no public name.
type Pinned = Box<dyn Send>;

/// Vectors of Burn's, which its pool neither moves nor gives to others while this lives.
pub struct Lent {
    pub tensor: lacuna::Tensor,
    pub client: Client,
    pub device: CubeDevice,
    _memory: Pinned,
}

impl Lent {
    /// The elements of `x` as `[batch, len]`, which must be their number.
    ///
    /// Everything that Burn still had to do on the stream of `x`, and on that of this thread,
    /// has then been submitted to the queue: what is submitted next finds `x` written. Nobody
    /// waits for the device. Burn copies `x` only where it is no contiguous row-major tensor.
    ///
    /// # Errors
    /// [`Error::DType`], [`Error::Backend`], [`Error::Recording`], [`Error::Burn`], [`Error::Engine`].
    pub fn new<const D: usize>(gpu: &Gpu, x: Tensor<D>, batch: usize, len: usize) -> Result<Self> {
        let x = into_contiguous(primitive::resolve(x)?);
        Self::of(gpu, x, batch, len)
    }

    /// Memory for a tensor of `shape` and of the type of `beside`, with unknown values, to which one
    /// may write `[batch, len]`; and the tensor.
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
        // In whole words, which is what the engine writes.
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

/// What the engine calls the elements of a tensor of Burn's.
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

/// Where in which buffer the bytes of `handle` lie, after a flush of the streams concerned.
pub fn memory(client: &Client, handle: Handle) -> Result<(WgpuResource, Pinned)> {
    let memory = client.get_resource::<WgpuServer<AutoCompiler>>(handle);
    let memory = memory.map_err(|e| Error::Burn(e.to_string()))?;
    Ok((memory.resource().clone(), Box::new(memory)))
}
