// In a browser nothing can wait: what serves blocking calls alone is not used there.
#![cfg_attr(target_arch = "wasm32", allow(unused_imports, dead_code))]
#![doc = include_str!("../README.md")]

pub mod caps;
pub mod compress;
mod error;
#[cfg(test)]
mod faults;
pub mod format;
pub mod gpu;
pub mod kernel;
mod plan;
pub mod reference;
pub mod tuning;
pub mod verify;

pub use caps::Caps;
pub use error::{Error, Result};
pub use gpu::{Active, Gpu, Tensor, Weight};
pub use plan::{Activation, Memory, Plan, PlanBuilder, Workspace};
pub use tuning::Tuning;
pub use wgpu;
