//! `--activations`: how products take their activations.

use lacuna::format::Precision;

/// The precision of activations in products.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Activations {
    /// As they are
    F32,
    /// As integers of eight bits, which the product makes of each block of up to 32 columns
    I8,
}

impl From<Activations> for Precision {
    fn from(activations: Activations) -> Self {
        match activations {
            Activations::F32 => Self::F32,
            Activations::I8 => Self::I8,
        }
    }
}
