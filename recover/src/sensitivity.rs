//! How much an error of a residual stream changes the dense model's predictions.

use crate::{
    error::{Error, Result},
    head::Heads,
    job::Job,
    layer::Layer,
    network::{root_mean_square, tensor, values},
    streams::{Split, Streams},
};
use burn_tensor::{Device, Tensor};
use lacuna::verify::Random;

/// Tokens whose gradients are taken, in whole windows, at least one.
const SAMPLES: usize = 1024;

/// The share by which off-diagonal entries of the metric shrink: this few samples say little about pairs
/// of channels.
const DIAGONAL: f32 = 0.2;

/// Gradients of the dense model's predictions by the stream after each of its blocks.
///
/// To second order, an error `d` of a stream moves the predictions by `½ · dᵀFd` nats. F is the Fisher
/// information: the mean of `g gᵀ` over gradients `g` of the log-probability of tokens that the model
/// itself draws. BRECQ weighs blocks by its diagonal (<https://arxiv.org/abs/2102.05426>). Streams are
/// measured in units of their token's root mean square, because the norms after them divide by it.
pub(crate) struct Sensitivity {
    /// For each block, `[samples, hidden]`.
    gradients: Vec<Vec<f32>>,
    hidden: usize,
}

impl Sensitivity {
    /// The gradients of the dense model on some of the training windows.
    pub fn new(job: &Job, split: &Split) -> Result<Self> {
        let device = job.device;
        let count = (SAMPLES / job.tokens()).clamp(1, split.trained.len());
        let windows: Vec<Vec<u32>> = { split.trained[..count].iter() }
            .map(|&i| job.windows[i].clone())
            .collect();
        let all: Vec<usize> = (0..count).collect();
        let mut x = Streams::embed(job.dense, &windows)?.batch(&all, device);
        let mut inputs = vec![];
        for n in 0..job.layers() {
            inputs.push(x.clone());
            let layer = Layer::dense(job, n)?;
            x = layer.frame.forward(&layer.products(), x);
        }
        let heads = Heads::load(job.dense, job.dense, device)?;
        let mut random = Random(job.options.seed);
        let mut gradient = heads.scores(x.clone(), &mut random)?;
        let mut gradients = vec![];
        for (n, input) in inputs.into_iter().enumerate().rev() {
            gradients.push(values(gradient.clone() * unit(x))?);
            let layer = Layer::dense(job, n)?;
            x = input.clone();
            let input = input.autodiff().require_grad();
            let y = layer.frame.forward(&layer.products(), input.clone());
            let lost = || Error::Device("a stream has no gradient".into());
            let back = (y * gradient).sum().backward();
            gradient = input.grad(&back).ok_or_else(lost)?;
        }
        gradients.reverse();
        Ok(Self {
            gradients,
            hidden: job.dense.config().hidden,
        })
    }

    /// F for the streams after block `n`, `[hidden, hidden]`.
    pub fn metric(&self, n: usize, device: &Device) -> Tensor<2> {
        let (gradients, hidden) = (&self.gradients[n], self.hidden);
        let samples = gradients.len() / hidden;
        let mut diagonal = vec![0.0; hidden * hidden];
        for row in gradients.chunks_exact(hidden) {
            for (c, g) in row.iter().enumerate() {
                diagonal[c * (hidden + 1)] += DIAGONAL * g * g / samples as f32;
            }
        }
        let g = tensor([samples, hidden], gradients.clone(), device);
        let pairs = g.clone().transpose().matmul(g) * ((1.0 - DIAGONAL) / samples as f32);
        pairs + tensor([hidden, hidden], diagonal, device)
    }
}

/// The unit that errors of `x` are measured in: its root mean square, `[windows, tokens, 1]`.
pub(crate) fn unit(x: Tensor<3>) -> Tensor<3> {
    root_mean_square(x, 1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu, job::Options, network::tests::weights};

    #[test]
    fn small_errors_cost_what_the_metric_says() {
        let dense = weights("gemma");
        let mut random = Random(17);
        let mut window = || (0..12).map(|_| (random.bits() % 31) as u32).collect();
        let windows: Vec<Vec<u32>> = (0..128).map(|_| window()).collect();
        let (device, options) = (cpu(), Options::default());
        let job = Job {
            dense: &dense,
            packed: &dense,
            windows: &windows,
            device: &device,
            options: &options,
        };
        let felt = Sensitivity::new(&job, &job.check().unwrap()).unwrap();
        let heads = Heads::load(&dense, &dense, &device).unwrap();
        let layers = (0..job.layers()).map(|n| Layer::dense(&job, n).unwrap());
        let layers: Vec<Layer> = layers.collect();
        let through = |x: Tensor<3>, layers: &[Layer]| {
            let forward = |x, layer: &Layer| layer.frame.forward(&layer.products(), x);
            layers.iter().fold(x, forward)
        };
        let all: Vec<usize> = (0..windows.len()).collect();
        let embedded = Streams::embed(&dense, &windows).unwrap();
        for n in 0..layers.len() {
            let (before, behind) = layers.split_at(n + 1);
            let x = through(embedded.batch(&all, &device), before);
            // An error of its own for each token, so that what errors of one window do together cancels.
            let [windows, tokens, hidden] = x.dims();
            let d = Random(n as u64).vector(windows * tokens * hidden);
            let d: Tensor<3> = tensor([windows, tokens, hidden], d, &device) * 0.02;
            let moved = x.clone() + d.clone() * unit(x.clone());
            let cost = heads.divergence(through(moved, behind), through(x, behind));
            let flat = d.flatten::<2>(0, 1);
            let said = (flat.clone().matmul(felt.metric(n, &device)) * flat).sum() * 0.5;
            let ratio = cost.unwrap() / f64::from(values(said).unwrap()[0]);
            assert!((0.8..1.25).contains(&ratio), "block {n}: {ratio}");
        }
    }
}
