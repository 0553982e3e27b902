//! Finds the thresholds that raise a text's perplexity by a given amount. Every gate drops as much as
//! costs its products the same share of their outputs, called CETT, so that one number is searched for.
//! (Sparsing Law, <https://arxiv.org/abs/2411.02335>.)

use super::{
    Args, Sequence,
    choose::{Chooser, Known, Shares},
    text,
};
use crate::{
    calibrate::spread,
    device,
    error::{Error, Result},
    interrupt,
    model::context,
};
use lacuna_io::printable;
use lacuna_llm::{
    ActivationThresholds, Checkpoint, Gate, Linear, Recipe, Site,
    blocks::{Blocks, Seen, embed},
    perplexity::{Perplexity, Windows},
};
use lacuna_prune::{TailCurve, Tails};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};

/// Most evaluations of the text.
const TRIES: usize = 24;
/// How far from the wanted increase the result may be, as a share of it.
const TOLERANCE: f64 = 0.05;

/// The result of the search.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The share of their outputs that products lose.
    pub cett: f64,
    /// The wanted increase, as a share of the perplexity.
    pub wanted: f64,
    /// The increase on the text.
    pub increase: f64,
    /// Perplexity of the text, dense and sparse.
    pub perplexity: [f64; 2],
    /// Perplexity of the held-out text, dense and sparse.
    pub heldout: Option<[f64; 2]>,
}

impl Found {
    pub fn text(&self) -> String {
        let line = |what: &str, [dense, sparse]: [f64; 2]| {
            let increase = 100.0 * (sparse / dense - 1.0);
            format!("{what}: perplexity {dense:.4} to {sparse:.4}, {increase:+.2} %\n")
        };
        let heldout = self.heldout.map_or(String::new(), |h| line("held out", h));
        format!(
            "CETT {:.4}\n{}{heldout}",
            self.cett,
            line("the text", self.perplexity)
        )
    }
}

pub fn run(
    args: &Args,
    wanted: f64,
    chooser: &Chooser,
    device: &device::Args,
) -> Result<(Shares, Found)> {
    let (model, file) = args.model_and_text("--ppl-increase")?;
    let checkpoint = Checkpoint::open(model)?;
    let config = checkpoint.config();
    let ctx = context(args.ctx, config)?;
    // Fails for statistics of another model before anything is run.
    let thresholds = |shares: &Shares| -> Result<ActivationThresholds> {
        let modules = chooser.modules(shares)?;
        Ok(ActivationThresholds::new(config, &modules)?)
    };
    let nothing = thresholds(&chooser.uniform(0.0))?;
    let judged = Judged::read(file, &checkpoint, ctx)?;
    let heldout = { args.heldout.as_ref() }
        .map(|file| Judged::read(file, &checkpoint, ctx))
        .transpose()?;
    let curves = curves(args, &judged, &checkpoint, ctx, chooser, device)?;
    let shares = |cett: f64| -> Shares {
        let share = |(&gate, curve): (_, &TailCurve)| (gate, curve.share(cett));
        curves.iter().map(share).collect()
    };

    let recipe = Recipe::default();
    let run = args.run_args();
    let mut sequence = Sequence::open(&run, &checkpoint, &recipe, Some(&nothing), ctx, device)?;
    let mut perplexity = |text: &Judged, shares: Option<&Shares>| -> Result<f64> {
        let thresholds = shares.map(&thresholds).transpose()?;
        sequence.set_thresholds(thresholds.as_ref().unwrap_or(&nothing))?;
        text.perplexity(&mut sequence)
    };
    let dense = perplexity(&judged, None)?;
    crate::note!("dense: perplexity {dense:.4}");
    let (mut low, mut high) = ((0.0, 0.0), (1.0, f64::INFINITY));
    let mut cett = 0.1;
    for round in 0..TRIES {
        let found = shares(cett);
        let sparse = perplexity(&judged, Some(&found))?;
        let increase = sparse / dense - 1.0;
        crate::note!(
            "CETT {cett:.5}: perplexity {sparse:.4}, {:+.3} %",
            100.0 * increase
        );
        if (increase - wanted).abs() <= TOLERANCE * wanted {
            let heldout = match &heldout {
                None => None,
                Some(text) => Some([perplexity(text, None)?, perplexity(text, Some(&found))?]),
            };
            let found_out = Found {
                cett,
                wanted,
                increase,
                perplexity: [dense, sparse],
                heldout,
            };
            return Ok((found, found_out));
        }
        // NaN counts as too high.
        if increase < wanted {
            low = (cett, increase);
        } else {
            high = (cett, increase);
        }
        cett = next(low, high, wanted, round);
    }
    Err(Error::Check(format!(
        "no CETT was found that raises the perplexity by {:.3} %: {:.6} raises it by {:.3} %, \
         {:.6} by {:.3} %",
        100.0 * wanted,
        low.0,
        100.0 * low.1,
        high.0,
        100.0 * high.1
    )))
}

/// The next CETT to try between `low`, which raises perplexity too little, and `high`, which raises it
/// too much. Steps assume that the rise is a power of CETT, at first its square; every third step
/// takes the middle, so that the search ends for any curve.
fn next(low: (f64, f64), high: (f64, f64), wanted: f64, round: usize) -> f64 {
    let ((a, rise), (b, most)) = (low, high);
    let middle = if a > 0.0 {
        (a * b).sqrt()
    } else {
        f64::midpoint(a, b)
    };
    let power = if round < 2 { 0.5 } else { 1.0 };
    let scaled = |cett: f64, found: f64| cett * (wanted / found).powf(power);
    let guess = match (rise > 0.0, most.is_finite()) {
        (true, true) if round % 3 == 2 => middle,
        (true, true) => a * (wanted / rise).powf((b / a).ln() / (most / rise).ln()),
        (true, false) => scaled(a, rise).clamp(1.05 * a, 4.0 * a),
        (false, true) => scaled(b, most),
        (false, false) => 2.0 * a,
    };
    if guess > a && guess < b {
        guess
    } else {
        middle
    }
}

/// A tokenised text whose perplexity is measured.
struct Judged {
    ids: Vec<u32>,
    bos: Option<u32>,
    ctx: usize,
}

impl Judged {
    fn read(file: &Path, checkpoint: &Checkpoint, ctx: usize) -> Result<Self> {
        let (ids, bos) = text(file, &checkpoint.tokenizer()?)?;
        if Windows::new(&ids, ctx, None, bos)?.scored() == 0 {
            let (file, tokens) = (printable(&file.to_string_lossy()), ids.len());
            let reason =
                format!("{file}: {tokens} tokens leave none to predict, at least 2 are needed");
            return Err(Error::Input(reason));
        }
        Ok(Self { ids, bos, ctx })
    }

    fn windows(&self) -> Result<Windows<'_>> {
        Ok(Windows::new(&self.ids, self.ctx, None, self.bos)?)
    }

    fn perplexity(&self, sequence: &mut Sequence) -> Result<f64> {
        let mut sum = Perplexity::default();
        for window in self.windows()? {
            interrupt::check()?;
            sequence.reset()?;
            let scores = sequence.score(window.inputs(), &window.ids[1..])?;
            for &score in &scores[window.scored.start - 1..] {
                sum.add(score);
            }
        }
        Ok(sum.perplexity())
    }
}

/// For every gate, how the error of its products grows with the share that it drops, measured on part
/// of the text.
fn curves(
    args: &Args,
    judged: &Judged,
    checkpoint: &Checkpoint,
    ctx: usize,
    chooser: &Chooser,
    device: &device::Args,
) -> Result<BTreeMap<(usize, Gate), TailCurve>> {
    let (config, recipe) = (checkpoint.config(), Recipe::default());
    let all = judged.windows()?.map(|window| window.ids).collect();
    let windows = spread(all, args.tokens.max(ctx), ctx);
    let gpu = device::open_at(args.device, device)?;
    let mut blocks = Blocks::new(gpu.as_ref(), config, ctx)?;
    let mut streams = embed(checkpoint, &recipe, &windows)?;
    let mut curves = BTreeMap::new();
    for layer in 0..config.layers.len() {
        interrupt::check()?;
        let tails = |(&(of, gate), known): (&(usize, Gate), _)| {
            (of == layer).then(|| GateTails::new(checkpoint, layer, gate, known))
        };
        let mut gates: Vec<GateTails> = { chooser.gates() }
            .iter()
            .filter_map(tails)
            .collect::<Result<_>>()?;
        let mut block = blocks.load(checkpoint, &recipe, layer)?;
        for stream in &mut streams {
            let mut refused = None;
            let seen = block.watch(stream, &mut |seen| {
                let added = gates.iter_mut().try_for_each(|gate| gate.add(seen));
                added.map_err(|e| {
                    refused = Some(e);
                    lacuna_llm::Error::Cancelled
                })
            });
            match refused {
                Some(e) => return Err(e),
                None => seen?,
            }
        }
        for gate in gates {
            curves.insert((layer, gate.gate), gate.tails.finish()?);
        }
    }
    Ok(curves)
}

/// Collects the errors of one gate's products.
struct GateTails {
    gate: Gate,
    tails: Tails,
    /// The factor by which a feed-forward channel's |g| is multiplied to give its importance.
    scales: Vec<f32>,
    /// Importances of the channels whose values are seen next.
    importances: Vec<f32>,
}

impl GateTails {
    fn new(checkpoint: &Checkpoint, layer: usize, gate: Gate, known: &Known) -> Result<Self> {
        let (linear, scales) = match (gate, known) {
            (Gate::Input(linear), _) => (linear, vec![]),
            (_, Known::FeedForward(gate, by)) => (Linear::Down, gate.channels().scales(*by)),
            (_, Known::Input(_)) => (Linear::Down, vec![]),
        };
        let weight = checkpoint.matrix(&linear.module(layer))?.to_dense();
        let values = weight.values().to_f32();
        let tails = Tails::new(&values, weight.cols(), |share| known.limit(share))?;
        Ok(Self {
            gate,
            tails,
            scales,
            importances: vec![],
        })
    }

    fn add(&mut self, seen: Seen<'_>) -> Result<()> {
        match (self.gate, seen) {
            (Gate::FeedForward, Seen::FeedForward { gate, .. }) => {
                let scales = self.scales.iter().cycle();
                self.importances = gate.iter().zip(scales).map(|(g, u)| g.abs() * u).collect();
            }
            (Gate::FeedForward, Seen::Input(Site::Down, x)) => {
                self.tails.add(x, &self.importances)?;
            }
            (Gate::Input(linear), Seen::Input(site, x)) if site.linears().contains(&linear) => {
                let magnitudes: Vec<f32> = x.iter().map(|x| x.abs()).collect();
                self.tails.add(x, &magnitudes)?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_ends_whatever_the_curve() {
        for exponent in [0.5, 1.0, 2.0, 7.0] {
            for wanted in [0.001, 0.01, 0.5] {
                let rise = |c: f64| 3.0 * c.powf(exponent);
                let (mut low, mut high, mut cett) = ((0.0, 0.0), (1.0, f64::INFINITY), 0.1);
                let tries = (0..TRIES).find(|&round| {
                    let found = rise(cett);
                    if found < wanted {
                        low = (cett, found);
                    } else {
                        high = (cett, found);
                    }
                    let near = (found - wanted).abs() <= TOLERANCE * wanted;
                    cett = next(low, high, wanted, round);
                    near
                });
                assert!(tries.is_some(), "{exponent} {wanted}: {low:?} {high:?}");
            }
        }
    }
}
