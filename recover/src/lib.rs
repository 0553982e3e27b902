//! Recovers compressed language models by gradient training, in the two stages of GQSA
//! (<https://arxiv.org/abs/2412.17560>): [`recover_blocks`] trains what each block kept against the
//! output of the dense block, then [`recover_model`] trains scales and zeros against the dense model's
//! predictions.
//!
//! Gradients come from Burn's autodiff. Any of its backends will do; the CPU backend is compiled in. A
//! packed weight is trained as it is stored ([`Trainable`]): formats, masks and sizes do not change, and
//! training sees exactly the weights that the model computes with afterwards.
//!
//! ```no_run
//! use lacuna_llm::Checkpoint;
//! use lacuna_recover::{Job, Journal, Options, cpu, recover_blocks, recover_model};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (dense, packed) = (Checkpoint::open("dense")?, Checkpoint::open("packed")?);
//! let ids = dense.tokenizer()?.encode(&std::fs::read_to_string("prose.txt")?)?;
//! let windows: Vec<Vec<u32>> = ids.chunks_exact(256).map(<[u32]>::to_vec).collect();
//! let job = Job {
//!     dense: &dense,
//!     packed: &packed,
//!     windows: &windows,
//!     device: &cpu(),
//!     options: &Options::default(),
//! };
//! let journal = Journal::new("packed.recovery", "dense + packed + prose.txt");
//! let layers = recover_blocks(&job, Some(&journal), &mut |_| ControlFlow::Continue(()))?;
//! let layers = recover_model(&job, &layers, Some(&journal), &mut |_| ControlFlow::Continue(()))?;
//! # Ok(()) }
//! ```

mod adam;
mod blocks;
mod error;
mod head;
mod job;
mod journal;
mod layer;
mod model;
mod network;
mod sensitivity;
mod streams;
#[cfg(test)]
mod tests;
mod trainable;
mod training;

pub use blocks::recover_blocks;
pub use burn_tensor;
pub use error::{Error, Result};
pub use job::{Job, Listener, Options, Progress, Training};
pub use journal::Journal;
pub use model::recover_model;
pub use network::{Frame, Products};
pub use trainable::{Rates, Trainable, Trained};

/// The CPU device, which is always compiled in: all cores, f32.
pub fn cpu() -> burn_tensor::Device {
    burn_tensor::Device::flex()
}
