//! What is recovered, and how.

use crate::{
    error::{Error, Result},
    streams::Split,
    trainable::Rates,
};
use burn_tensor::Device;
use lacuna::format::Matrix;
use lacuna_llm::{LayerWeights, Linear, Source};
use std::ops::ControlFlow;

/// A compressed model, the dense one it was made from, and text to recover it on.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The dense model.
    pub dense: &'a dyn Source,
    /// The compressed one, of the same shape.
    pub packed: &'a dyn Source,
    /// Token ids, the same number in each window.
    pub windows: &'a [Vec<u32>],
    /// Where training runs: any Burn device whose backend is compiled in.
    pub device: &'a Device,
    /// The options of both stages.
    pub options: &'a Options,
}

/// How a model is recovered.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Seeds the order of the windows.
    pub seed: u64,
    /// One window in this many is not trained on, but decides which parameters are the best.
    pub held_out: usize,
    /// Steps between two checks on the held-out windows. The model stage also stores its state at each
    /// check.
    pub check: usize,
    /// The training of each block.
    pub blocks: Training,
    /// The training of the whole model.
    pub model: Training,
}

/// How long and how fast a stage trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Steps; 0 leaves everything as it is.
    pub steps: usize,
    /// Windows in each step.
    pub windows: usize,
    /// Adam's rates at the peak of their schedule.
    pub rates: Rates,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            held_out: 8,
            check: 25,
            blocks: Training {
                steps: 200,
                windows: 8,
                rates: Rates {
                    values: 2e-2,
                    scales: 1e-2,
                    zeros: 4e-3,
                },
            },
            model: Training {
                steps: 200,
                windows: 8,
                rates: Rates {
                    values: 3e-2,
                    scales: 1e-2,
                    zeros: 1e-2,
                },
            },
        }
    }
}

/// How far a recovery has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The block's number, from 0, and the number of blocks; `None` in the model stage.
    pub block: Option<(usize, usize)>,
    /// Steps done, and steps in all.
    pub steps: (usize, usize),
    /// Loss of the last step, on the windows that it trained on.
    pub loss: f64,
    /// Loss on the held-out windows before the first step.
    pub start: f64,
    /// The least loss on the held-out windows so far.
    pub best: f64,
}

/// Called with the progress after each step; may stop the work.
pub type Listener<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

impl Job<'_> {
    /// Tokens of a window.
    pub(crate) fn tokens(&self) -> usize {
        self.windows.first().map_or(0, Vec::len)
    }

    pub(crate) fn layers(&self) -> usize {
        self.packed.config().layers.len()
    }

    /// Refuses a job that contradicts itself, and splits the windows.
    pub(crate) fn check(&self) -> Result<Split> {
        let refuse = |what, value: String, supported: String| {
            Err(Error::Choice {
                what,
                value,
                supported,
            })
        };
        let (dense, packed) = (self.dense.config(), self.packed.config());
        for (what, got, expected) in [
            (
                "layers of the dense model",
                dense.layers.len(),
                self.layers(),
            ),
            (
                "hidden size of the dense model",
                dense.hidden,
                packed.hidden,
            ),
            ("vocabulary of the dense model", dense.vocab, packed.vocab),
        ] {
            if got != expected {
                return Err(Error::Shape {
                    what,
                    got,
                    expected,
                });
            }
        }
        let tokens = self.tokens();
        let most = packed.max_positions;
        if !(2..=most).contains(&tokens) {
            let supported = format!("2 to {most}, the positions of the model");
            return refuse("tokens of a window", tokens.to_string(), supported);
        }
        if let Some(other) = self.windows.iter().find(|w| w.len() != tokens) {
            let value = format!("{tokens} and {}", other.len());
            return refuse("tokens of a window", value, "as many in each".into());
        }
        let options = self.options;
        for (what, value) in [
            ("held-out share", options.held_out),
            ("steps between two checks", options.check),
            ("windows in a step of a block", options.blocks.windows),
            ("windows in a step of the model", options.model.windows),
        ] {
            if value == 0 {
                return refuse(what, "0".into(), "1 or more".into());
            }
        }
        for training in [options.blocks, options.model] {
            let Rates {
                values,
                scales,
                zeros,
            } = training.rates;
            for rate in [values, scales, zeros] {
                if !(rate.is_finite() && rate >= 0.0) {
                    return refuse("rate", rate.to_string(), "finite, 0 or more".into());
                }
            }
        }
        Split::new(self.windows.len(), options.held_out, options.seed)
    }

    /// The products of each layer of the compressed model.
    ///
    /// # Errors
    /// Those of the source.
    pub fn packed_layers(&self) -> Result<Vec<[Matrix; 7]>> {
        let layer = |n| each(|linear| Ok(self.packed.matrix(&linear.module(n))?));
        (0..self.layers()).map(layer).collect()
    }
}

/// Layer `layer` of a source, in the formats that it is stored in.
pub(crate) fn load(source: &dyn Source, layer: usize) -> Result<LayerWeights> {
    Ok(LayerWeights::load(
        source,
        &lacuna_llm::Recipe::default(),
        layer,
    )?)
}

/// One value for each of [`Linear::ALL`].
pub(crate) fn each<T>(of: impl FnMut(Linear) -> Result<T>) -> Result<[T; 7]> {
    let [q, k, v, o, gate, up, down] = Linear::ALL.map(of);
    Ok([q?, k?, v?, o?, gate?, up?, down?])
}
