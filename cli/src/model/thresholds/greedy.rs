//! TEAL's allocation: a layer's sparsity rises in steps of an equal number of weights. Each step goes
//! to the product where it changes the layer's output least.
//! (<https://arxiv.org/abs/2408.14690>, algorithm 1.)

use super::{
    Args,
    choose::{Chooser, Shares},
};
use crate::{
    calibrate::{spread, windows_of},
    device,
    error::{Error, Result},
    interrupt,
    model::context,
    progress,
};
use lacuna_llm::{
    ActivationThresholds, Checkpoint, Gate, Linear, Recipe,
    blocks::{Block, Blocks, embed},
};

/// Size of a step, as a share of a layer's weights.
const STEP: f64 = 0.02;
/// Its largest size as a share of the product whose inputs it drops: by shares of a layer alone, keys and values of few
/// heads would be dropped half or not at all.
const MOST_STEP: f64 = 0.05;

pub fn run(args: &Args, target: f64, chooser: &Chooser, device: &device::Args) -> Result<Shares> {
    let (model, file) = args.model_and_text("--allocate greedy")?;
    let checkpoint = Checkpoint::open(model)?;
    let (config, recipe) = (checkpoint.config(), Recipe::default());
    let ctx = context(args.ctx, config)?.min(args.tokens.max(2));
    let all = windows_of(file, &checkpoint, ctx)?;
    if all.is_empty() {
        let file = lacuna_io::printable(&file.to_string_lossy());
        return Err(Error::Input(format!("{file}: fewer than 2 tokens")));
    }
    let windows = spread(all, args.tokens.max(ctx), ctx);
    let thresholds = |shares: &Shares| -> Result<ActivationThresholds> {
        let modules = chooser.modules(shares)?;
        Ok(ActivationThresholds::new(config, &modules)?)
    };
    let mut shares = chooser.uniform(0.0);
    let nothing = thresholds(&shares)?;
    let sizes = Linear::ALL.map(|linear| {
        let [rows, cols] = config.shape(linear);
        rows as f64 * cols as f64
    });
    let weights = sizes.map(|size| size / sizes.iter().sum::<f64>());

    let gpu = device::open_at(args.device, device)?;
    let mut blocks = Blocks::new(gpu.as_ref(), config, ctx)?;
    let mut streams = embed(&checkpoint, &recipe, &windows)?;
    for layer in 0..config.layers.len() {
        let mut block = blocks.load_thresholded(&checkpoint, &recipe, layer, &nothing)?;
        let mut outputs = streams.clone();
        for output in &mut outputs {
            block.run(output)?;
        }
        let bar = progress::bar(100);
        bar.set_message(format!("layer {layer}"));
        let mut error = 0.0;
        loop {
            let dropped =
                |(linear, weight): (Linear, &f64)| weight * shares[&(layer, Gate::Input(linear))];
            let so_far: f64 = Linear::ALL.into_iter().zip(&weights).map(dropped).sum();
            bar.set_position((100.0 * so_far / target) as u64);
            let step = STEP.min(target - so_far);
            if step < 1e-6 {
                break;
            }
            let mut best: Option<(f64, f64, (usize, Gate), f64)> = None;
            for (linear, weight) in Linear::ALL.into_iter().zip(&weights) {
                interrupt::check()?;
                let gate = (layer, Gate::Input(linear));
                let before = shares[&gate];
                let share = (before + (step / weight).min(MOST_STEP)).min(1.0);
                // Steps of small products and last steps are shorter, so they are compared by error per weight
                // dropped.
                let gain = weight * (share - before);
                if gain < 1e-9 {
                    continue;
                }
                shares.insert(gate, share);
                block.set_thresholds(&thresholds(&shares)?)?;
                shares.insert(gate, before);
                let growth = apart(&mut block, &streams, &outputs)? - error;
                let price = growth / gain;
                if best.is_none_or(|(least, ..)| price < least) {
                    best = Some((price, error + growth, gate, share));
                }
            }
            let Some((_, total, gate, share)) = best else {
                break;
            };
            error = total;
            shares.insert(gate, share);
        }
        bar.finish_and_clear();
        streams = outputs;
    }
    Ok(shares)
}

/// Sum of the squared differences between the layer's outputs and `outputs`.
fn apart(block: &mut Block, streams: &[Vec<f32>], outputs: &[Vec<f32>]) -> Result<f64> {
    let mut sum = 0.0;
    for (stream, output) in streams.iter().zip(outputs) {
        let mut stream = stream.clone();
        block.run(&mut stream)?;
        let squares = stream
            .iter()
            .zip(output)
            .map(|(a, b)| f64::from(a - b).powi(2));
        sum += squares.sum::<f64>();
    }
    Ok(sum)
}
