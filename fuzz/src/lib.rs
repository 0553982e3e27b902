//! Fuzz targets of Lacuna: every reader of files, and what is checked before it reaches a kernel.
//!
//! A target is a function of bytes that must neither panic nor hang, whatever they are. A refusal
//! must have a proper message; what is accepted must have the properties that its target states.
//!
//! ```text
//! cargo xtask fuzz [--minutes N] [TARGET]   searches, on a nightly compiler
//! cargo test -p lacuna-fuzz                 replays corpus/TARGET and changes of it, on any
//! ```
//! A file that made a target fail goes into `corpus/TARGET`, and stays there.

#![allow(
    clippy::missing_panics_doc,
    reason = "a panic is how a target says what it found"
)]

mod config;
mod folder;
mod formats;
mod gguf;
mod index;
mod matrix;
mod packed;
mod safetensors;
mod sketch;
mod statistics;
mod thresholds;
mod tokenizer;
mod walk;

pub use config::config;
pub use formats::formats;
pub use gguf::gguf;
pub use index::index;
pub use packed::packed;
pub use safetensors::{safetensors, tensors};
pub use sketch::sketch_of;
pub use statistics::statistics;
pub use thresholds::thresholds;
pub use tokenizer::tokenizer;

/// A function of bytes that must neither panic nor hang.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its binary and of its folder in `corpus`.
pub const TARGETS: [(&str, Target); 10] = [
    ("safetensors", safetensors),
    ("tensors", tensors),
    ("index", index),
    ("thresholds", thresholds),
    ("statistics", statistics),
    ("gguf", gguf),
    ("formats", formats),
    ("packed", packed),
    ("config", config),
    ("tokenizer", tokenizer),
];
