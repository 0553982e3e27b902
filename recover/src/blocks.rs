//! The first stage, block by block: GQSA's block-wise optimisation (BQPO).

use crate::{
    error::Result,
    job::{Job, Listener, load},
    journal::Journal,
    layer::Layer,
    network::{Frame, Products, values},
    sensitivity::{Sensitivity, unit},
    streams::{Split, Streams},
    trainable::{Rates, Trained},
    training::{Run, Trainee},
};
use burn_tensor::Tensor;
use lacuna::format::Matrix;

/// Trains the values, scales and zeros of each block in turn. A block's input is what the recovered
/// blocks before it give; its target is what the dense block makes of that same input. Masks stay.
///
/// The dense model's own stream is not the target: a block would then also learn to make up for the
/// errors of the blocks before it, and the best guess from an input with errors is a smaller output. The
/// later the block, the more that lost.
///
/// An error counts by how much it changes the dense model's predictions, to second order. Its plain
/// square misleads: a few channels are very large and mean little (<https://arxiv.org/abs/2402.17762>),
/// and the head reads other channels than those that fill the streams. On the held-out windows a block is
/// never worse than it was. With a journal, each block is stored when it is done, and an interrupted run
/// resumes after the last stored block, with the same result.
///
/// Memory: two residual streams `[tokens, hidden]` for each window, gradients of 1024 tokens by each
/// block's output, and what one block needs for a step; once, before the first block, the head and 2²⁴
/// logits.
///
/// # Errors
/// [`Error::Choice`](crate::Error::Choice) and [`Error::Shape`](crate::Error::Shape) for a job
/// that contradicts itself, [`Error::Cancelled`](crate::Error::Cancelled), and those of sources,
/// journal and device.
pub fn recover_blocks(
    job: &Job,
    journal: Option<&Journal>,
    listener: &mut Listener,
) -> Result<Vec<[Matrix; 7]>> {
    let split = job.check()?;
    let mut streams = Streams::embed(job.packed, job.windows)?;
    // Computed for the first block that the journal lacks: never, where it has them all.
    let mut sensitivity = None;
    let mut recovered = vec![];
    for n in 0..job.layers() {
        let weights = load(job.packed, n)?;
        let layer = |matrices| {
            let frame = Frame::new(job.packed.config(), n, &weights, job.tokens(), job.device);
            Layer::new(frame, matrices, Trained::Values, job.device)
        };
        let stored = journal.map(|j| j.block(n, &weights.linears)).transpose()?;
        let matrices = if let Some(matrices) = stored.flatten() {
            matrices
        } else {
            let mut target = streams.clone();
            target.run(&Layer::dense(job, n)?, job.device)?;
            let felt = match &mut sensitivity {
                Some(felt) => felt,
                none => none.insert(Sensitivity::new(job, &split)?),
            };
            let mut block = Block {
                job,
                split: &split,
                input: &streams,
                target: &target,
                layer: layer(&weights.linears)?,
                metric: felt.metric(n, job.device),
            };
            let matrices = block.train(n, listener)?;
            if let Some(journal) = journal {
                journal.keep_block(n, &matrices)?;
            }
            matrices
        };
        streams.run(&layer(&matrices)?, job.device)?;
        recovered.push(matrices);
    }
    Ok(recovered)
}

/// A block in training.
struct Block<'a> {
    job: &'a Job<'a>,
    split: &'a Split,
    input: &'a Streams,
    target: &'a Streams,
    layer: Layer,
    /// How much an error changes the predictions, `[hidden, hidden]`: F of [`Sensitivity`].
    metric: Tensor<2>,
}

impl Block<'_> {
    fn train(&mut self, n: usize, listener: &mut Listener) -> Result<[Matrix; 7]> {
        if !self.layer.is_frozen() {
            let (options, of) = (self.job.options, (n, self.job.layers()));
            let run = Run::new(self)?;
            let best = run.finish(self, &options.blocks, options, Some(of), listener)?;
            self.layer.set_parameters(best)?;
        }
        self.layer.matrices()
    }

    /// Mean over tokens of `½ · dᵀFd` with `d = (y − t) / rms(t)`: nats, to second order.
    fn loss(&self, products: &Products, of: &[usize]) -> Tensor<1> {
        let x = self.input.batch(of, self.job.device);
        let t = self.target.batch(of, self.job.device);
        let y = self.layer.frame.forward(products, x);
        let d = ((y - t.clone()) / unit(t)).flatten::<2>(0, 1);
        (d.clone().matmul(self.metric.clone()) * d)
            .sum_dim(1)
            .mean()
            * 0.5
    }
}

impl Trainee for Block<'_> {
    type Parameters = Vec<Vec<f32>>;

    fn step(&mut self, done: usize, rates: &Rates) -> Result<f64> {
        let of = self.split.batch(done, self.job.options.blocks.windows);
        let products = self.layer.tracked();
        let loss = self.loss(&products, &of);
        let gradients = loss.backward();
        self.layer.step(&products, &gradients, rates, done)?;
        Ok(f64::from(values(loss.inner())?[0]))
    }

    fn judge(&self) -> Result<f64> {
        let products = self.layer.products();
        let mut sum = 0.0;
        for of in self.split.judges() {
            let mean = values(self.loss(&products, of))?[0];
            sum += f64::from(mean) * of.len() as f64;
        }
        Ok(sum / self.split.held_out.len() as f64)
    }

    fn parameters(&self) -> Self::Parameters {
        self.layer.parameters()
    }
}
