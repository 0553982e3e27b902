//! Why a product of Burn's tensors was refused.

use burn::tensor::{DType, Device};

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a product of Burn's tensors was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Burn opens no such device, or has opened it before.
    #[error("Burn opens no such device: {0}")]
    Open(String),

    /// The last dimension of x is not what the weight takes.
    #[error("the last dimension of x is {got}, the weight takes {expected}")]
    Shape {
        /// Size of the last dimension of x.
        got: usize,
        /// Columns of the weight.
        expected: usize,
    },

    /// x is of another type.
    #[error("x is {0:?}, products take f32, f16 and bf16")]
    DType(DType),

    /// x is no plain tensor of a wgpu device: one of another backend, or one that gradients are
    /// tracked for, which do not pass a packed weight (`x.inner()` leaves them behind).
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

    /// Burn records a graph on this stream, in which a product of ours would be missing.
    #[error("a product cannot be part of a graph that Burn records")]
    Recording,

    /// Burn gives no memory, or what was to write x has failed.
    #[error("Burn: {0}")]
    Burn(String),

    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),
}
