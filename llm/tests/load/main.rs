//! Loading models: what files say, and those that say what is not supported.

mod assets;
mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
mod configs;
mod export;
mod faults;
mod files;
mod gguf_configs;
mod mutations;
mod recipes;
mod templates;
mod tokenizers;
