//! The first stage, block by block: GQSA's block-wise optimisation (BQPO).

use crate::{
    error::Result,
    job::{Job, Listener, load},
    journal::Journal,
    layer::Layer,
    network::{Frame, Products, tensor, values},
    streams::{Split, Streams},
    trainable::{Rates, Trained},
    training::{Run, Trainee},
};
use burn_tensor::Tensor;
use lacuna::format::Matrix;
use lacuna_llm::LayerWeights;

/// Trains values, scales and zeros of each block in turn, so that its output, for the input that
/// the blocks before it now give, is near the dense block's for the dense input. Masks stay.
///
/// The error of a token counts in proportion to its stream's length, because the norm that
/// follows divides by it, and that of a channel by what the norms behind the block multiply it with:
/// a few may be very large and mean little (<https://arxiv.org/abs/2402.17762>). A block is never worse
/// than it was on the windows that are held out. With a journal each block is stored when it is done,
/// and a run that was cut off goes on behind the last; the result is the same.
///
/// Memory: two residual streams `[tokens, hidden]` a window, and what one block needs for a step.
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
    let mut dense = Streams::embed(job.dense, job.windows)?;
    let mut packed = Streams::embed(job.packed, job.windows)?;
    let mut recovered = vec![];
    for n in 0..job.layers() {
        let layer = |weights: &LayerWeights, matrices, dense| {
            let frame = Frame::new(job.packed.config(), n, weights, job.tokens(), job.device);
            Layer::new(frame, matrices, dense, Trained::Values, job.device)
        };
        let (teacher, weights) = (load(job.dense, n)?, load(job.packed, n)?);
        dense.run(&layer(&teacher, &teacher.linears, None)?, job.device)?;

        let stored = journal.map(|j| j.block(n, &weights.linears)).transpose()?;
        let matrices = if let Some(matrices) = stored.flatten() {
            matrices
        } else {
            let mut block = Block {
                job,
                split: &split,
                input: &packed,
                target: &dense,
                layer: layer(&weights, &weights.linears, Some(&teacher))?,
                shares: shares(job, n)?,
            };
            let matrices = block.train(n, listener)?;
            if let Some(journal) = journal {
                journal.keep_block(n, &matrices)?;
            }
            matrices
        };
        packed.run(&layer(&weights, &matrices, None)?, job.device)?;
        recovered.push(matrices);
    }
    Ok(recovered)
}

/// A block, and what it is trained on.
struct Block<'a> {
    job: &'a Job<'a>,
    split: &'a Split,
    input: &'a Streams,
    target: &'a Streams,
    layer: Layer,
    /// How much the error of a channel counts, `[hidden]`.
    shares: Tensor<1>,
}

/// The mean square of what the norms behind block `n` multiply a channel with, each norm as if its
/// own mean square were 1.
fn shares(job: &Job, n: usize) -> Result<Tensor<1>> {
    let config = job.packed.config();
    let ffn = if config.post_norms {
        "pre_feedforward_layernorm"
    } else {
        "post_attention_layernorm"
    };
    let behind = (n + 1..job.layers()).flat_map(|layer| {
        ["input_layernorm", ffn].map(|norm| format!("model.layers.{layer}.{norm}"))
    });
    let mut shares = vec![0.0; config.hidden];
    for module in behind.chain(["model.norm".into()]) {
        let squares = job.packed.norm(&module)?;
        let squares: Vec<f32> = squares.iter().map(|g| g * g).collect();
        let mean = squares.iter().sum::<f32>() / config.hidden as f32;
        for (share, square) in shares.iter_mut().zip(&squares) {
            *share += square / mean;
        }
    }
    Ok(tensor([config.hidden], shares, job.device))
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

    /// Mean over tokens of `|y − t|² / |t|²`, squares of channels weighed by their shares.
    fn loss(&self, products: &Products, of: &[usize]) -> Tensor<1> {
        let x = self.input.batch(of, self.job.device);
        let t = self.target.batch(of, self.job.device);
        let y = self.layer.frame.forward(products, x);
        let length = |x: Tensor<3>| (x.square() * self.shares.clone().unsqueeze::<3>()).sum_dim(2);
        (length(y - t.clone()) / (length(t) + 1e-12)).mean()
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
