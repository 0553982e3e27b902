//! Language models on Lacuna.

mod config;

pub use config::{
    Activation, Config, EMBEDDING, HEAD, Layer, Linear, Rope, RopeScaling,
};
