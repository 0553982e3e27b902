//! Why a product of Burn's tensors was refused.

use burn::tensor::{DType, Device};

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a product of Burn's tensors was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Burn cannot open such a device, or has already opened it.
    #[error("Burn opens no such device: {0}")]
    Open(String),

    /// The last dimension of x differs from the number of columns of the weight.
    #[error("the last dimension of x is {got}, the weight takes {expected}")]
    Shape {
        /// Size of the last dimension of x.
        got: usize,
        /// Columns of the weight.
        expected: usize,
    },

    /// x has a type that products do not take.
    #[error("x is {0:?}, products take f32, f16 and bf16")]
    DType(DType),

    /// x is not a plain tensor of a wgpu device: it belongs to another backend, or its gradients are
    /// tracked, which a packed weight cannot propagate (`x.inner()` drops the tracking).
    #[error("x is no plain tensor of Burn's wgpu backend: {0}")]
    Backend(String),

    /// x lies on another device than the weight.
    #[error("x lies on {got:?}, the weight on {expected:?}")]
    Device {
        /// Where x lies.
        got: Box<Device>,
        /// Where the weight lies.
        expected: Box<Device>,
    },

    /// Burn is recording a graph on this stream, and our product would be missing from it.
    #[error("a product cannot be part of a graph that Burn records")]
    Recording,

    /// Burn could not provide memory, or the work that was to write x has failed.
    #[error("Burn: {0}")]
    Burn(String),

    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),
}
