//! Language models on Lacuna.

mod checkpoint;
mod config;
mod decoder;
mod error;
mod gguf;
mod glue;
mod hf;
mod limits;
mod model;
pub mod perplexity;
mod recipe;
pub mod sampling;
mod source;
mod template;
mod tokenizer;
mod twin;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, EMBEDDING, HEAD, Layer, Linear, Rope, RopeScaling};
pub use decoder::{Decoder, Options, Saved};
pub use error::{Error, Result};
pub use glue::KvType;
pub use model::{Bytes, Model, Progress};
pub use recipe::{Recipe, apply};
pub use source::Source;
pub use template::{ChatTemplate, Message};
pub use tokenizer::{Streamer, Tokenizer};
pub use twin::Twin;
pub use weights::{LayerWeights, Weights};
