//! The residual streams of all windows, on the host, and which windows are trained on.

use crate::{
    error::{Error, Result},
    layer::Layer,
    network::{tensor, values},
};
use burn_tensor::{Device, Tensor};
use lacuna::verify::Random;
use lacuna_llm::{Recipe, Source, blocks::embed};

/// Windows that run at once where nothing is trained.
const TOGETHER: usize = 8;

/// A residual stream `[tokens, hidden]` for each window.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    windows: Vec<Vec<f32>>,
    tokens: usize,
    hidden: usize,
}

impl Streams {
    /// The streams before the first layer of `source`.
    pub fn embed(source: &dyn Source, windows: &[Vec<u32>]) -> Result<Self> {
        Ok(Self {
            windows: embed(source, &Recipe::default(), windows)?,
            tokens: windows.first().map_or(0, Vec::len),
            hidden: source.config().hidden,
        })
    }

    /// The streams of some windows, `[windows, tokens, hidden]`.
    pub fn batch(&self, of: &[usize], device: &Device) -> Tensor<3> {
        let values = of.iter().flat_map(|&i| &self.windows[i]).copied().collect();
        tensor([of.len(), self.tokens, self.hidden], values, device)
    }

    /// Runs a layer: its output takes the place of its input.
    pub fn run(&mut self, layer: &Layer, device: &Device) -> Result<()> {
        let products = layer.products();
        let all: Vec<usize> = (0..self.windows.len()).collect();
        for of in all.chunks(TOGETHER) {
            let y = values(layer.frame.forward(&products, self.batch(of, device)))?;
            let of_window = y.chunks_exact(self.tokens * self.hidden);
            for (&i, y) in of.iter().zip(of_window) {
                self.windows[i].copy_from_slice(y);
            }
        }
        Ok(())
    }
}

/// Which windows are trained on and which judge the result.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub trained: Vec<usize>,
    pub held_out: Vec<usize>,
    seed: u64,
}

impl Split {
    /// Holds out the last of every `every` windows.
    ///
    /// # Errors
    /// [`Error::Choice`] where that leaves none to train on or none to hold out.
    pub fn new(windows: usize, every: usize, seed: u64) -> Result<Self> {
        let (held_out, trained) = (0..windows).partition(|i| i % every == every - 1);
        let this = Self {
            trained,
            held_out,
            seed,
        };
        if this.trained.is_empty() || this.held_out.is_empty() {
            return Err(Error::Choice {
                what: "number of windows",
                value: windows.to_string(),
                supported: format!("{every} or more, of which one in {every} is held out"),
            });
        }
        Ok(this)
    }

    /// The windows of step `done`, which depend on the seed and `done` alone. Every window comes once
    /// before any comes again.
    pub fn batch(&self, done: usize, windows: usize) -> Vec<usize> {
        let count = self.trained.len();
        let mut order = (usize::MAX, vec![]);
        (done * windows..(done + 1) * windows)
            .map(|at| {
                let round = at / count;
                if order.0 != round {
                    order = (round, self.shuffled(round));
                }
                order.1[at % count]
            })
            .collect()
    }

    /// All training windows, in an order that differs from round to round.
    fn shuffled(&self, round: usize) -> Vec<usize> {
        let mut random = Random(Random(self.seed).bits() ^ round as u64);
        let mut order = self.trained.clone();
        for i in (1..order.len()).rev() {
            order.swap(i, (random.bits() % (i as u64 + 1)) as usize);
        }
        order
    }

    /// The held-out windows in batches.
    pub fn judges(&self) -> impl Iterator<Item = &[usize]> {
        self.held_out.chunks(TOGETHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_is_trained_on_once_a_round_and_none_that_judges() {
        let split = Split::new(23, 4, 7).unwrap();
        assert_eq!(split.held_out, [3, 7, 11, 15, 19]);
        let seen: Vec<usize> = (0..9).flat_map(|done| split.batch(done, 4)).collect();
        for round in seen.chunks_exact(18) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, split.trained);
        }
        assert_ne!(seen[..18], seen[18..]);
        assert_eq!(split.batch(5, 4), split.clone().batch(5, 4));
        let other = Split::new(23, 4, 8).unwrap();
        assert_ne!(split.batch(0, 18), other.batch(0, 18));
        // More at a time than there are.
        assert_eq!(split.batch(0, 40).len(), 40);
    }

    #[test]
    fn too_few_windows_are_refused() {
        assert!(Split::new(3, 4, 0).is_err());
        assert!(Split::new(5, 1, 0).is_err());
        assert!(Split::new(4, 4, 0).is_ok());
    }
}
