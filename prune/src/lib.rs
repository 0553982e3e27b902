//! Compression of trained weights by what their inputs look like.
//!
//! [`lacuna::compress`] knows the weights alone. This package knows the [`Inputs`] they meet too,
//! and so what an error of a weight costs in the output.

mod accumulator;
mod blocks;
mod compensate;
mod error;
mod hessian;
mod inputs;
mod kept;
mod linear;
mod method;
mod recover;
mod score;
mod statistics;
mod store;

pub use accumulator::Accumulator;
pub use error::{Error, Result};
pub use hessian::output_error;
pub use inputs::Inputs;
pub use method::{Compressed, Method};
pub use score::Score;
pub use statistics::{Shared, Statistics, StatisticsWriter};
