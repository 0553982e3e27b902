//! Compression of trained weights by what their inputs look like.
//!
//! [`lacuna::compress`] knows the weights alone. This crate also knows the [`Inputs`] that they
//! multiply, and so what an error in a weight costs in the output.
//!
//! ```
//! use lacuna::format::Dense;
//! use lacuna_prune::{Inputs, Method, Score};
//!
//! // Two inputs that nearly agree: what one of them loses, the other makes up for.
//! let weight = Dense::from_f32(1, 2, vec![1.0, 2.0])?;
//! let hessian = vec![1.0, 0.9, 0.9, 1.0];
//! let inputs = Inputs::new(1000, vec![0.0; 2], vec![1.0; 2], Some(hessian))?;
//! let error = |score| -> lacuna_prune::Result<_> {
//!     let method = Method { score, recover: false };
//!     Ok(method.compress(&weight, "1:2".parse()?, Some(&inputs))?.output_error)
//! };
//! assert!(error(Score::SparseGpt)? < error(Score::Magnitude)?);
//! # Ok::<(), lacuna_prune::Error>(())
//! ```

mod accumulator;
mod blocks;
mod compensate;
mod error;
mod gate;
mod hessian;
mod inputs;
mod kept;
mod linear;
mod method;
mod quantiles;
mod recover;
mod score;
mod statistics;
mod store;
mod tail;

pub use accumulator::Accumulator;
pub use error::{Error, Result};
pub use gate::{ChannelSums, Channels, GateQuantiles, GateStatistics, Importance};
pub use hessian::output_error;
pub use inputs::Inputs;
pub use method::{Compressed, Method};
pub use quantiles::{QuantileTable, Quantiles};
pub use score::Score;
pub use statistics::{Gated, Shared, Statistics, StatisticsWriter};
pub use tail::{TailCurve, Tails};
