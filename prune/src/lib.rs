//! Compression of trained weights by what their inputs look like.
//!
//! [`lacuna::compress`] knows the weights alone. This package knows the [`Inputs`] they meet too,
//! and so what an error of a weight costs in the output.

mod error;
mod inputs;

pub use error::{Error, Result};
pub use inputs::Inputs;
