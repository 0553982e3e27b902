//! `--activations`: the precision in which products take their activations.

use crate::error::{Error, Result};
use lacuna::{Gpu, format::Precision};

/// The precision of activations in products.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Activations {
    /// Unchanged
    F32,
    /// Rounded to f16, for the matrix units of a GPU
    F16,
    /// Rounded to 8-bit integers in blocks of up to 32 columns
    I8,
    /// Rounded to 24-bit integers, which costs little precision, where there is a kernel for it; else
    /// unchanged
    I24,
}

impl Activations {
    /// Refuses a precision that the device does not support.
    pub fn check(self, gpu: &Gpu) -> Result<()> {
        if self == Self::F16 && gpu.caps().cooperative.is_none() {
            return Err(Error::Usage(
                "--activations f16 needs --cooperative, and an adapter with cooperative matrices of \
                 f16"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::I24 => "i24",
        }
    }
}

impl From<Activations> for Precision {
    fn from(activations: Activations) -> Self {
        match activations {
            Activations::F32 => Self::F32,
            Activations::F16 => Self::F16,
            Activations::I8 => Self::I8,
            Activations::I24 => Self::I24,
        }
    }
}
