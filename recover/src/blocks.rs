//! The first stage, block by block: GQSA's block-wise optimisation (BQPO).

use crate::{
    error::{Error, Result},
    job::{Job, Listener, Progress, load},
    journal::Journal,
    layer::Layer,
    network::{Frame, values},
    streams::{Split, Streams},
    trainable::Trained,
};
use burn_tensor::Tensor;
use lacuna::format::Matrix;

/// Trains values, scales and zeros of each block in turn, so that its output, for the input that
/// the blocks before it now give, is near the dense block's for the dense input. Masks stay.
///
/// The error of a token counts in proportion to its stream's length, because the norm that
/// follows divides by it. A block is never worse than it was on the windows that are held out.
/// With a journal each block is stored when it is done, and a run that was cut off goes on
/// behind the last; the result is the same.
///
/// Memory: two residual streams `[tokens, hidden]` a window, and what one block needs for a step.
///
/// # Errors
/// [`Error::Choice`] and [`Error::Shape`] for a job that contradicts itself,
/// [`Error::Cancelled`], and those of sources, journal and device.
pub fn recover_blocks(
    job: &Job,
    journal: Option<&Journal>,
    listener: &mut Listener,
) -> Result<Vec<[Matrix; 7]>> {
    let split = job.check()?;
    let config = job.packed.config();
    let mut dense = Streams::embed(job.dense, job.windows)?;
    let mut packed = Streams::embed(job.packed, job.windows)?;
    let mut recovered = vec![];
    for n in 0..job.layers() {
        let teacher = load(job.dense, n)?;
        let weights = load(job.packed, n)?;
        let layer = |weights, matrices, dense| {
            let frame = Frame::new(config, n, weights, job.tokens(), job.device);
            Layer::new(frame, matrices, dense, Trained::Values, job.device)
        };
        let of_dense = layer(&teacher, &teacher.linears, None)?;
        dense.run(&of_dense.frame, &of_dense.products(), job.device)?;
        drop(of_dense);

        let stored = journal
            .map(|j| j.block(n, &weights.linears))
            .transpose()?
            .flatten();
        let matrices = match stored {
            Some(matrices) => matrices,
            None => {
                let mut block = layer(&weights, &weights.linears, Some(&teacher))?;
                let mut heard = |progress: Progress| {
                    let block = Some((n, job.layers()));
                    listener(&Progress { block, ..progress })
                };
                if !block.is_frozen() {
                    Block {
                        job,
                        split: &split,
                        input: &packed,
                        target: &dense,
                    }
                    .train(
                        &mut block,
                        &mut |progress| match heard(progress).is_break() {
                            true => Err(Error::Cancelled),
                            false => Ok(()),
                        },
                    )?;
                }
                let matrices = block.matrices()?;
                if let Some(journal) = journal {
                    journal.keep_block(n, &matrices)?;
                }
                matrices
            }
        };
        let done = layer(&weights, &matrices, None)?;
        packed.run(&done.frame, &done.products(), job.device)?;
        recovered.push(matrices);
    }
    Ok(recovered)
}

/// What a block is trained on.
struct Block<'a> {
    job: &'a Job<'a>,
    split: &'a Split,
    input: &'a Streams,
    target: &'a Streams,
}

impl Block<'_> {
    /// Leaves the layer with the best parameters that were seen.
    fn train(
        &self,
        layer: &mut Layer,
        heard: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        let options = self.job.options;
        let training = &options.blocks;
        let start = self.judge(layer)?;
        let (mut best, mut parameters) = (start, layer.parameters());
        for done in 0..training.steps {
            let of = self.split.batch(done, training.windows);
            let products = layer.tracked();
            let loss = self.loss(layer, &products, &of);
            let gradients = loss.backward();
            let loss = f64::from(values(loss.inner())?[0]);
            let share = crate::adam::schedule(done, training.steps);
            layer.step(&products, &gradients, &training.rates.times(share), done)?;
            let steps = done + 1;
            if steps % options.check == 0 || steps == training.steps {
                let judged = self.judge(layer)?;
                if judged < best {
                    (best, parameters) = (judged, layer.parameters());
                }
            }
            heard(Progress {
                block: None,
                steps: (steps, training.steps),
                loss,
                start,
                best,
            })?;
        }
        layer.set_parameters(parameters)
    }

    /// Mean over tokens of `|y − t|² / |t|²`.
    fn loss(&self, layer: &Layer, products: &crate::network::Products, of: &[usize]) -> Tensor<1> {
        let x = self.input.batch(of, self.job.device);
        let t = self.target.batch(of, self.job.device);
        let y = layer.frame.forward(products, x);
        let lengths = t.clone().square().sum_dim(2) + 1e-12;
        ((y - t).square().sum_dim(2) / lengths).mean()
    }

    fn judge(&self, layer: &Layer) -> Result<f64> {
        let products = layer.products();
        let mut sum = 0.0;
        for of in self.split.judges() {
            let mean = values(self.loss(layer, &products, of))?[0];
            sum += f64::from(mean) * of.len() as f64;
        }
        Ok(sum / self.split.held_out.len() as f64)
    }
}
