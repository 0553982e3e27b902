//! The statistics gathered from one layer.

use super::dump::Dump;
use crate::{
    error::{Error, Result},
    interrupt, progress,
};
use lacuna_llm::{
    Config, Error as ModelError, Gate, Linear, Site, Source,
    blocks::{Block, Seen},
};
use lacuna_prune::{
    Accumulator, ChannelSums, Channels, Error as PruneError, GateQuantiles, Quantiles,
    StatisticsWriter,
};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Sums and quantiles of one layer.
pub struct Layer {
    number: usize,
    /// In the order of [`Site::ALL`].
    sites: [Accumulator; 4],
    thresholds: Option<ForThresholds>,
    dump: Option<Dump>,
    /// Time spent on adding up.
    pub time: Duration,
}

/// The statistics from which thresholds are chosen.
struct ForThresholds {
    /// In the order of [`Site::ALL`].
    sites: [Quantiles; 4],
    gate: GateQuantiles,
}

impl Layer {
    pub fn new(config: &Config, number: usize, hessian: bool) -> Self {
        Self {
            number,
            sites: Site::ALL.map(|site| Accumulator::new(config.width(site), hessian)),
            thresholds: None,
            dump: None,
            time: Duration::ZERO,
        }
    }

    /// Also collects what thresholds are chosen from: magnitudes of inputs, and importances of the
    /// feed-forward's channels, whose factors beside |g| are in `channels`.
    pub fn with_thresholds(mut self, channels: Channels) -> Self {
        self.thresholds = Some(ForThresholds {
            sites: [(); 4].map(|()| Quantiles::default()),
            gate: GateQuantiles::new(channels),
        });
        self
    }

    /// Also writes all activations to `dump`.
    pub fn with_dump(mut self, dump: Option<Dump>) -> Self {
        self.dump = dump;
        self
    }

    /// Runs the layer over all windows; their streams become its output.
    pub fn observe(&mut self, block: &mut Block, streams: &mut [Vec<f32>]) -> Result<()> {
        let message = format!("layer {}", self.number);
        watch(block, streams, &message, &mut |seen| {
            let begin = Instant::now();
            self.add(seen)?;
            self.time += begin.elapsed();
            Ok(())
        })
    }

    fn add(&mut self, seen: Seen<'_>) -> Result<()> {
        if let Some(dump) = &mut self.dump {
            dump.add(seen)?;
        }
        match seen {
            Seen::Input(site, x) => {
                self.sites[site as usize].add(x)?;
                if let Some(thresholds) = &mut self.thresholds {
                    thresholds.sites[site as usize].extend(x.iter().copied());
                }
            }
            Seen::FeedForward { gate, .. } => {
                if let Some(thresholds) = &mut self.thresholds {
                    thresholds.gate.add(gate);
                }
            }
        }
        Ok(())
    }

    /// Writes the statistics.
    pub fn finish(self, writer: &mut StatisticsWriter) -> Result<()> {
        let layer = self.number;
        for (site, sums) in Site::ALL.into_iter().zip(self.sites) {
            interrupt::check()?;
            let module = site.module(layer);
            let inputs = sums.finish().map_err(|e| not_finite(&module, &e))?;
            writer.inputs(&module, &inputs)?;
        }
        if let Some(dump) = self.dump {
            dump.finish()?;
        }
        let Some(thresholds) = self.thresholds else {
            return Ok(());
        };
        let (sites, gate) = (thresholds.sites, thresholds.gate);
        let tables: Vec<_> = sites.into_par_iter().map(Quantiles::finish).collect();
        for (site, table) in Site::ALL.into_iter().zip(tables) {
            let module = site.module(layer);
            let table = table.map_err(|e| not_finite(&module, &e))?;
            writer.quantiles(&module, &table)?;
        }
        let module = Gate::FeedForward.module(layer);
        let gate = gate.finish().map_err(|e| not_finite(&module, &e))?;
        Ok(writer.gate(&module, &gate)?)
    }
}

/// The first pass over a layer: gathers the factors of the channels' importances. Does not change
/// the streams.
pub fn channels(
    block: &mut Block,
    source: &dyn Source,
    streams: &[Vec<f32>],
    layer: usize,
) -> Result<Channels> {
    let mut sums = ChannelSums::new(source.config().ffn);
    let message = format!("layer {layer}, first pass");
    let mut copies: Vec<Vec<f32>> = vec![];
    for stream in streams {
        copies.clear();
        copies.push(stream.clone());
        watch(block, &mut copies, &message, &mut |seen| {
            if let Seen::FeedForward { up, .. } = seen {
                sums.add(up);
            }
            Ok(())
        })?;
    }
    let module = Linear::Down.module(layer);
    let down = source.matrix(&module)?;
    let mut squares = vec![0f64; down.cols()];
    for row in 0..down.rows() {
        for entry in down.entries(row) {
            squares[entry.col] += f64::from(entry.value).powi(2);
        }
    }
    let norms = squares.into_iter().map(|s| s.sqrt() as f32).collect();
    let module = Gate::FeedForward.module(layer);
    sums.finish(norms).map_err(|e| not_finite(&module, &e))
}

/// Runs a layer over streams with a progress bar; an error of `see` ends the run.
fn watch(
    block: &mut Block,
    streams: &mut [Vec<f32>],
    message: &str,
    see: &mut dyn FnMut(Seen<'_>) -> Result<()>,
) -> Result<()> {
    let bar = progress::bar(streams.len());
    bar.set_message(message.to_owned());
    for stream in streams {
        let mut refused = None;
        let seen = block.watch(stream, &mut |seen| {
            interrupt::check().and_then(|()| see(seen)).map_err(|e| {
                refused = Some(e);
                ModelError::Cancelled
            })
        });
        match refused {
            Some(e) => return Err(e),
            None => seen?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The error for a model whose activations overflow.
fn not_finite(module: &str, error: &PruneError) -> Error {
    Error::Input(format!("the inputs of \"{module}\": {error}"))
}
