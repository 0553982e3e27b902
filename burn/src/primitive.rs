//! Conversion between Burn's tensors and what its wgpu backend stores for them: a buffer slice with a shape.

use crate::error::{Error, Result};
use burn::{
    backend::{BackendTypes, Cube},
    tensor::Tensor,
};
use burn_cubecl::tensor::CubeTensor;

/// What Burn stores for a float tensor: the tensor itself, or, with fusion, a promise of it.
type Primitive = <Cube as BackendTypes>::FloatTensorPrimitive;

/// The tensor in memory. Operations on it that Burn still holds back to fuse are sent to its stream.
///
/// # Errors
/// [`Error::Backend`] for a tensor of another backend or with gradients.
pub fn resolve<const D: usize>(x: Tensor<D>) -> Result<CubeTensor> {
    let primitive = x.try_into_primitive::<Cube>();
    primitive
        .map(in_memory)
        .map_err(|e| Error::Backend(format!("{e:?}")))
}

/// Turns a tensor in memory into one of Burn's public tensors.
pub fn wrap<const D: usize>(tensor: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<Cube>(promised(tensor))
}

#[cfg(not(feature = "fusion"))]
fn in_memory(tensor: Primitive) -> CubeTensor {
    tensor
}

#[cfg(not(feature = "fusion"))]
fn promised(tensor: CubeTensor) -> Primitive {
    tensor
}

#[cfg(feature = "fusion")]
fn in_memory(tensor: Primitive) -> CubeTensor {
    let client = tensor.client.clone();
    client.resolve_tensor_float::<burn_cubecl::CubeBackend>(tensor)
}

/// Registers a handle that already has its data with the stream, as Burn does for data from the host.
#[cfg(feature = "fusion")]
fn promised(tensor: CubeTensor) -> Primitive {
    use burn::backend::{
        TensorMetadata,
        fusion::{NoOp, custom::StreamId, get_client},
        ir::{InitOperationIr, OperationIr, OperationOutput},
    };
    use burn_cubecl::CubeBackend;

    let client = get_client::<CubeBackend>(&tensor.device);
    let (shape, dtype) = (tensor.shape(), tensor.dtype);
    let handle = tensor.into();
    let made = InitOperationIr::create(shape, dtype, || client.register_tensor_handle(handle));
    let stream = StreamId::current();
    client
        .register(stream, OperationIr::Init(made), NoOp::<CubeBackend>::new())
        .output()
}
