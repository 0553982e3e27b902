//! Language models on Lacuna.

mod config;
mod error;
mod gguf;
mod hf;
mod limits;

pub use config::{Activation, Config, EMBEDDING, HEAD, Layer, Linear, Rope, RopeScaling};
pub use error::{Error, Result};
