//! Loading models: what files say, and those that say what is not supported.

mod assets;
mod checkpoints;
mod configs;
mod files;
mod gguf_configs;
mod mutations;
mod recipes;
mod templates;
mod tokenizers;
