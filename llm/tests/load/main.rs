//! Loading models: what files say, and files that ask for what is not supported.

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
