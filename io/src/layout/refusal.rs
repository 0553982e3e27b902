//! Why a weight in another program's layout cannot be read.

use crate::error::quoted;

/// Why a weight cannot be read: the tensor or field, its value, and what it should be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A tensor that belongs to the layout is not there.
    #[error("there is no tensor {}", quoted(tensor))]
    Missing {
        /// The tensor.
        tensor: String,
    },

    /// The weight is stored twice.
    #[error("both {} and {} hold it", quoted(first), quoted(second))]
    Twice {
        /// A tensor of one layout.
        first: String,
        /// One of the other.
        second: String,
    },

    /// A tensor has another type than the layout demands.
    #[error("tensor {}: type is {got}, expected {expected}", quoted(tensor))]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        got: String,
        /// The type it must have.
        expected: &'static str,
    },

    /// A tensor has another shape than the layout demands.
    #[error("tensor {}: shape is {got:?}, expected {expected}", quoted(tensor))]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        got: Vec<usize>,
        /// The shape it must have, and why.
        expected: String,
    },

    /// A number in a tensor is not allowed there.
    #[error("tensor {}: {what} is {value}, expected {expected}", quoted(tensor))]
    Content {
        /// The tensor.
        tensor: String,
        /// Which number, for example `"group of column 7"`.
        what: String,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
    },

    /// Two readings fit, and nothing says which one is meant.
    #[error("{reading}")]
    Ambiguous {
        /// What the readings are.
        reading: String,
    },

    /// A dimension or size is beyond what files of weights hold.
    #[error("{reason}")]
    Limit {
        /// The quantity, its value and the limit.
        reason: String,
    },

    /// The layout is known but cannot be read.
    #[error("{reason}")]
    Unread {
        /// Why it cannot be read.
        reason: &'static str,
    },

    /// The engine refuses the weight.
    #[error(transparent)]
    Engine(#[from] lacuna::Error),
}
