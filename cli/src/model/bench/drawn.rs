//! Random masks, to measure the speed of models whose activations mean nothing.

use lacuna_llm::{ActivationThresholds, Config, Gate, Linear};
use std::{fmt, str::FromStr};

/// `WAY@PERCENT` on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Drawn {
    way: Way,
    percent: u8,
}

/// Which activations are thresholded.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The feed-forward's gate.
    Chess,
    /// Also the inputs of the query and attention output products.
    ChessAttention,
    /// The inputs of all products.
    Teal,
}

impl Way {
    const ALL: [Self; 3] = [Self::Chess, Self::ChessAttention, Self::Teal];

    const fn name(self) -> &'static str {
        match self {
            Self::Chess => "chess",
            Self::ChessAttention => "chess-attention",
            Self::Teal => "teal",
        }
    }

    fn gates(self) -> Vec<Gate> {
        match self {
            Self::Chess => vec![Gate::FeedForward],
            Self::ChessAttention => vec![
                Gate::FeedForward,
                Gate::Input(Linear::Q),
                Gate::Input(Linear::O),
            ],
            Self::Teal => Linear::ALL.map(Gate::Input).to_vec(),
        }
    }
}

impl Drawn {
    /// Thresholds that drop `percent` of the channels, whatever their values.
    pub fn thresholds(self, config: &Config) -> lacuna_llm::Result<ActivationThresholds> {
        let share = f64::from(self.percent) / 100.0;
        ActivationThresholds::drawn(config, &self.way.gates(), share, 1)
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.way.name(), self.percent)
    }
}

impl FromStr for Drawn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('@').and_then(|(way, percent)| {
            let way = Way::ALL.into_iter().find(|w| w.name() == way)?;
            let percent = percent.parse().ok().filter(|p| *p <= 100)?;
            Some(Self { way, percent })
        });
        parsed.ok_or_else(|| {
            "it must be chess, chess-attention or teal, @ and the percent that is dropped, for \
             example chess@50"
                .into()
        })
    }
}
