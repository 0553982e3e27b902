#![doc = include_str!("../README.md")]

mod error;
mod lent;
mod linear;
mod plans;
mod primitive;
mod shared;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use lacuna;
pub use linear::SparseLinear;
pub use shared::Shared;
