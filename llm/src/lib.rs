//! Language models on Lacuna.

mod config;
mod error;
pub mod perplexity;
pub mod sampling;
mod twin;
mod weights;

pub use config::{Activation, Config, EMBEDDING, HEAD, Layer, Linear, Rope, RopeScaling};
pub use error::{Error, Result};
pub use twin::Twin;
pub use weights::{LayerWeights, Weights};
