//! Language models on Lacuna: decoder-only transformers from Hugging Face folders and GGUF
//! files, with every linear product in a format of the engine, chosen product by product.
//!
//! A [`Checkpoint`] is read weight by weight; a [`Recipe`] says in which format each goes to the device;
//! the resulting [`Model`] serves any number of [`Decoder`]s, one for each sequence. The whole forward
//! pass exists a second time in plain Rust, the [`Twin`], as the reference that the device is compared
//! with.
//!
//! ```no_run
//! use lacuna::Gpu;
//! use lacuna_llm::{Checkpoint, Decoder, Model, Options, Recipe, sampling::Sampling};
//! use std::{ops::ControlFlow, sync::Arc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gpu = Gpu::new_blocking(&Default::default())?;
//! let checkpoint = Checkpoint::open("assets/shakespeare")?;
//! let recipe = Recipe::parse("model.layers.* = 2:4x8\n*.down_proj = dense")?;
//! let model = Model::load(&gpu, &checkpoint, &recipe, &mut |_| ControlFlow::Continue(()))?;
//! let mut decoder = Decoder::new(&Arc::new(model), &Options::default())?;
//!
//! let tokenizer = checkpoint.tokenizer()?;
//! let prompt = tokenizer.encode("KING HENRY V:\n")?;
//! decoder.prefill(&prompt, &mut |_| ControlFlow::Continue(()))?;
//! let (mut text, sampling) = (tokenizer.streamer_after(&prompt), Sampling::default());
//! for _ in 0..100 {
//!     let id = decoder.next_token(&sampling)?;
//!     if checkpoint.config().eos.contains(&id) {
//!         break;
//!     }
//!     print!("{}", text.push(id));
//! }
//! # Ok(()) }
//! ```
//!
//! Models: Llama, Mistral, Qwen 2 and 3, Gemma 3 (text). Opening a checkpoint that needs anything else
//! fails with an error that names it.

pub mod blocks;
mod checkpoint;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
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
mod small;
mod source;
mod template;
mod thresholds;
mod tokenizer;
mod twin;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, EMBEDDING, HEAD, Layer, Linear, Rope, RopeScaling, Site};
pub use decoder::{Decoder, Options, Saved};
pub use error::{Error, Result};
pub use glue::KvType;
pub use model::{Bytes, Model, Progress};
pub use recipe::{Recipe, apply};
pub use source::Source;
pub use template::{ChatTemplate, Message};
pub use thresholds::{ActivationThresholds, Gate, Tally, weights_needed};
pub use tokenizer::{Streamer, Tokenizer};
pub use twin::Twin;
pub use weights::{LayerWeights, Weights};
