//! Language models on Lacuna.

mod config;
mod decoder;
mod error;
mod glue;
mod model;
pub mod perplexity;
mod recipe;
pub mod sampling;
mod source;
mod twin;
mod weights;

pub use config::{Activation, Config, EMBEDDING, HEAD, Layer, Linear, Rope, RopeScaling};
pub use decoder::{Decoder, Options, Saved};
pub use error::{Error, Result};
pub use glue::KvType;
pub use model::{Bytes, Model, Progress};
pub use recipe::Recipe;
pub use source::Source;
pub use twin::Twin;
pub use weights::{LayerWeights, Weights};
