//! Chooses thresholds from statistics and shares.

use crate::error::{Error, Result};
use lacuna::format::Thresholds;
use lacuna_io::Origin;
use lacuna_llm::{Gate, Linear};
use lacuna_prune::{GateStatistics, Importance, QuantileTable, Statistics};
use std::collections::BTreeMap;

/// How much an activation matters.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// A channel of the feed-forward by |g|, where g is its gate's value
    Cats,
    /// By |g| · E|u|, where u is the output of up
    Chess,
    /// By |g| · √E[u²]
    Chess2,
    /// By |g| · E|u| · ‖column of down‖
    ChessDown,
    /// Every input of every product by its magnitude
    Teal,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self.importance() {
            Some(importance) => importance.name(),
            None => "teal",
        }
    }

    /// How the method weighs channels of the feed-forward; `None` if it does not.
    const fn importance(self) -> Option<Importance> {
        match self {
            Self::Cats => Some(Importance::Cats),
            Self::Chess => Some(Importance::Chess),
            Self::Chess2 => Some(Importance::Chess2),
            Self::ChessDown => Some(Importance::ChessDown),
            Self::Teal => None,
        }
    }
}

/// The share that each gate drops.
pub type Shares = BTreeMap<(usize, Gate), f64>;

/// The statistics of a gate.
pub enum Known {
    /// The gate of a feed-forward.
    FeedForward(Box<GateStatistics>, Importance),
    /// A product's input.
    Input(QuantileTable),
}

/// Chooses thresholds from statistics.
pub struct Chooser {
    method: Method,
    attention: bool,
    gates: BTreeMap<(usize, Gate), Known>,
}

impl Chooser {
    /// Covers all layers that the statistics have.
    pub fn new(statistics: &Statistics, method: Method, attention: bool) -> Result<Self> {
        let layers = statistics.gates().count();
        if layers == 0 {
            let file = lacuna_io::printable(&statistics.path().to_string_lossy());
            return Err(Error::Usage(format!(
                "{file}: there is nothing to choose thresholds by: calibrate without \
                 --no-thresholds"
            )));
        }
        let linears: &[Linear] = match (method, attention) {
            (Method::Teal, _) => &Linear::ALL,
            (_, true) => &[Linear::Q, Linear::O],
            (_, false) => &[],
        };
        let mut gates = BTreeMap::new();
        for layer in 0..layers {
            for &linear in linears {
                let table = statistics.quantiles(&linear.module(layer))?;
                gates.insert((layer, Gate::Input(linear)), Known::Input(table));
            }
            if let Some(importance) = method.importance() {
                let gate = statistics.gate(&Gate::FeedForward.module(layer))?;
                let known = Known::FeedForward(Box::new(gate), importance);
                gates.insert((layer, Gate::FeedForward), known);
            }
        }
        Ok(Self {
            method,
            attention: attention && method != Method::Teal,
            gates,
        })
    }

    pub fn origin(&self) -> Origin {
        Origin {
            method: self.method.name().into(),
            attention: self.attention,
            ..Origin::default()
        }
    }

    /// The gates and their statistics.
    pub const fn gates(&self) -> &BTreeMap<(usize, Gate), Known> {
        &self.gates
    }

    /// The same share for every gate.
    pub fn uniform(&self, share: f64) -> Shares {
        self.gates.keys().map(|&gate| (gate, share)).collect()
    }

    /// Thresholds by module; a gate without a share drops zeros only.
    pub fn modules(&self, shares: &Shares) -> Result<BTreeMap<String, Thresholds>> {
        let choose = |(&(layer, gate), known): (&(usize, Gate), &Known)| {
            let share = shares.get(&(layer, gate)).copied().unwrap_or(0.0);
            let thresholds = known.thresholds(share)?.expecting(1.0 - share as f32)?;
            Ok((gate.module(layer), thresholds))
        };
        self.gates.iter().map(choose).collect()
    }
}

impl Known {
    /// Thresholds that drop `share` of the activations of the calibration.
    pub fn thresholds(&self, share: f64) -> Result<Thresholds> {
        Ok(match self {
            Self::FeedForward(gate, importance) => gate.thresholds(*importance, share)?,
            Self::Input(table) => Thresholds::scalar(table.at(share))?,
        })
    }

    /// The importance up to which `share` of the activations is dropped.
    pub fn limit(&self, share: f64) -> f32 {
        match self {
            Self::FeedForward(gate, importance) => gate.table(*importance).at(share),
            Self::Input(table) => table.at(share),
        }
    }
}
