//! Weights as other programs store them.
//!
//! ```text
//! names of tensors ──names──▶ Layout ──look──▶ format, evidence ──matrix──▶ Matrix
//! ```
//! Layouts are recognised by the names, types and shapes of tensors, which cannot lie without the
//! file being useless to everyone. `config.json` decides only what they leave open. Opening a
//! file *looks* at each weight: it reads what decides the format (scales, zero points, the order
//! of groups, about a thirtieth of the file) but not the codes. Nothing is rounded: codes stay
//! codes if the engine has their format, otherwise they decode to f32.

mod awq;
mod bitmask;
mod config;
mod gptq;
mod grid;
mod names;
pub(crate) mod packed;
mod refusal;
mod view;

pub use gptq::ZeroPoints;
pub use packed::{pack_quantized_config, packs_quantized};
pub use refusal::Refusal;

pub(crate) use config::Quantization;
pub(crate) use gptq::{Convention, convention};
pub(crate) use names::find;
pub(crate) use view::View;

use crate::error::Result;
use lacuna::format::{Format, Matrix};
use std::fmt;

/// How a file stores a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// A tensor `P.weight`.
    Tensor,
    /// The sections of a Lacuna container.
    Container,
    /// GPTQ: `P.qweight`, packed along the inputs.
    Gptq,
    /// AWQ, version GEMM: `P.qweight`, packed along the outputs.
    Awq,
    /// `P.weight_packed` of compressed-tensors.
    PackQuantized,
    /// `P.compressed` and `P.bitmask` of compressed-tensors, with two of every four columns kept.
    Sparse24Bitmask,
    /// The same, with any columns kept.
    SparseBitmask,
    /// A layout that is known by this name but cannot be read.
    Other(&'static str),
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tensor => "tensor",
            Self::Container => "container",
            Self::Gptq => "GPTQ",
            Self::Awq => "AWQ",
            Self::PackQuantized => "pack-quantized",
            Self::Sparse24Bitmask => "sparse-24-bitmask",
            Self::SparseBitmask => "sparse-bitmask",
            Self::Other(name) => name,
        })
    }
}

/// What a weight is, before its codes or values are read.
#[derive(Debug)]
pub(crate) struct Look {
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    /// [`Codes::factor`](lacuna::format::Codes::factor).
    pub factor: f32,
    pub evidence: Vec<String>,
    pub warnings: Vec<String>,
}

/// Looks at a weight: finds its format without reading codes or values.
pub(crate) fn look(view: &View<'_>) -> Result<Look> {
    match view.layout {
        Layout::Gptq => gptq::grid(view)?.look(view),
        Layout::Awq => awq::grid(view)?.look(view),
        Layout::PackQuantized => packed::read::grid(view)?.0.look(view),
        Layout::Sparse24Bitmask => bitmask::look_24(view),
        Layout::SparseBitmask => bitmask::look(view),
        _ => Err(view.refuse(names::why_unread(view.layout))),
    }
}

/// Reads a weight in the format that [`look`] returns.
pub(crate) fn matrix(view: &View<'_>) -> Result<Matrix> {
    match view.layout {
        Layout::Gptq => {
            let grid = gptq::grid(view)?;
            let codes = gptq::codes(view, &grid)?;
            grid.matrix(view, codes)
        }
        Layout::Awq => {
            let grid = awq::grid(view)?;
            let codes = awq::codes(view, &grid)?;
            grid.matrix(view, codes)
        }
        Layout::PackQuantized => {
            let (grid, packing) = packed::read::grid(view)?;
            let codes = packed::read::codes(view, &grid, packing)?;
            grid.matrix(view, codes)
        }
        Layout::Sparse24Bitmask => bitmask::matrix_24(view),
        Layout::SparseBitmask => bitmask::matrix(view),
        _ => Err(view.refuse(names::why_unread(view.layout))),
    }
}
