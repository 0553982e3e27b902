//! Compression of trained weights by what their inputs look like.
//!
//! [`lacuna::compress`] knows the weights alone. This package knows the [`Inputs`] they meet too,
//! and so what an error of a weight costs in the output.

mod accumulator;
mod error;
mod inputs;
mod statistics;

pub use accumulator::Accumulator;
pub use error::{Error, Result};
pub use inputs::Inputs;
pub use statistics::{Shared, Statistics, StatisticsWriter};
