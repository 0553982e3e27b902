//! Language models on Lacuna.

mod checkpoint;
mod config;
mod error;
mod gguf;
mod hf;
mod limits;
mod recipe;
mod template;
mod tokenizer;

pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, EMBEDDING, HEAD, Layer, Linear, Rope, RopeScaling};
pub use error::{Error, Result};
pub use recipe::{Recipe, apply};
pub use template::{ChatTemplate, Message};
pub use tokenizer::{Streamer, Tokenizer};
