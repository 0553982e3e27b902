//! `--activations`: how products take their activations.

use crate::error::{Error, Result};
use lacuna::{Gpu, format::Precision};

/// The precision of activations in products.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Activations {
    /// As they are
    F32,
    /// In f16, for the matrix units of a GPU
    F16,
    /// As integers of eight bits, which the product makes of each block of up to 32 columns
    I8,
    /// As integers of 24 bits where a product multiplies bytes, which costs little precision, else as
    /// they are
    I24,
}

impl Activations {
    /// Refuses what the device cannot do at all.
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

    /// As on the command line.
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
