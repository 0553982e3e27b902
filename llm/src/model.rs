//! A model's weights on the device.

use crate::{
    config::{Config, EMBEDDING, HEAD, Linear, Site},
    error::{Error, Result},
    recipe::Recipe,
    source::Source,
    thresholds::{ActivationThresholds, GatesOnDevice},
    weights::{LayerWeights, expect},
};
use lacuna::{Gpu, Tensor, Weight, format::Matrix, kernel::RowReader};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Rows of the embedding or the head in one slice. Scoring a text holds the logits of one slice at a
/// time.
pub(crate) const SLICE_ROWS: usize = 32_768;

/// A slice of rows of the embedding or the head, as a weight of its own.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// The token id of its first row.
    pub base: usize,
    pub weight: Weight,
}

impl Slice {
    /// How shaders read its rows, or `None` if its format does not allow that.
    pub fn reader(&self) -> Option<RowReader> {
        RowReader::new(self.weight.format(), self.weight.cols())
    }
}

/// Products of one input whose rows lie below each other: one weight, and so one launch.
#[derive(Debug)]
pub(crate) struct Stack {
    /// The products and their rows, from the top.
    products: Vec<(Linear, usize)>,
    pub weight: Weight,
    pub bias: Option<Tensor>,
}

impl Stack {
    fn of(&self, linear: Linear) -> bool {
        self.products.iter().any(|&(l, _)| l == linear)
    }

    /// The product, if there is only one.
    pub fn single(&self) -> Option<Linear> {
        match self.products[..] {
            [(linear, _)] => Some(linear),
            _ => None,
        }
    }
}

/// Where the output of a product lies in the tensor of its site: that of the first token at `first`, that of
/// each further one `stride` elements behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub first: usize,
    pub stride: usize,
}

/// Elements of the outputs of some rows for a chunk of tokens, such that what follows can be bound: no device
/// asks for an alignment of more than 256 bytes.
pub(crate) const fn region(chunk: usize, rows: usize) -> usize {
    (chunk * rows).next_multiple_of(64)
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct LayerOnDevice {
    /// In the order of [`Linear::ALL`].
    stacks: Vec<Stack>,
    pub attention_norm: Tensor,
    pub ffn_norm: Tensor,
    pub post_attention: Option<Tensor>,
    pub post_ffn: Option<Tensor>,
    /// `[2, head_dim]`: that of queries, then that of keys.
    pub head_norms: Option<Tensor>,
    pub gates: GatesOnDevice,
    /// Whether a step skips the rows of `up` that the feed-forward's gate drops.
    pub masks: bool,
}

impl LayerOnDevice {
    /// Layer `layer` of `source`, each product in the format that `recipe` gives it, and laid out for what
    /// `thresholds` let a step skip. Products of one input are stacked where they can be, unless they are to be
    /// `apart`.
    pub fn load(
        gpu: &Gpu,
        source: &dyn Source,
        recipe: &Recipe,
        layer: usize,
        thresholds: Option<&ActivationThresholds>,
        apart: bool,
    ) -> Result<Self> {
        let config = source.config();
        let mut weights = LayerWeights::load(source, recipe, layer)?;
        weights.check(layer, config)?;
        let up = weights.linear(Linear::Up);
        let masks = thresholds.is_some_and(|t| t.masks(gpu, layer, up));
        let alone = |linear| apart || thresholds.is_some_and(|t| t.acts_on(layer, linear));
        let stack = |piled: Piled| {
            let skips = |t: &ActivationThresholds| match piled.products[..] {
                [(linear, _)] => t.skips_columns(gpu, layer, linear, &piled.matrix, masks),
                _ => false,
            };
            Ok(Stack {
                weight: upload(gpu, &piled.matrix, thresholds.is_some_and(skips))?,
                bias: piled
                    .bias
                    .map(|bias| gpu.tensor_from(1, bias.len(), &bias))
                    .transpose()?,
                products: piled.products,
            })
        };
        let stacks: Vec<_> = pile(weights.linears, &mut weights.biases, alone)?
            .into_par_iter()
            .map(stack)
            .collect();
        let row = |values: &Vec<f32>| gpu.tensor_from(1, values.len(), values);
        let optional = |values: &Option<Vec<f32>>| values.as_ref().map(row).transpose();
        let head_norms = weights.q_norm.as_ref().zip(weights.k_norm.as_ref());
        let both =
            |(q, k): (&Vec<f32>, &Vec<f32>)| gpu.tensor_from(2, q.len(), &[&q[..], k].concat());
        Ok(Self {
            // Of several errors the first product's.
            stacks: stacks.into_iter().collect::<Result<_>>()?,
            attention_norm: row(&weights.attention_norm)?,
            ffn_norm: row(&weights.ffn_norm)?,
            post_attention: optional(&weights.post_attention)?,
            post_ffn: optional(&weights.post_ffn)?,
            head_norms: head_norms.map(both).transpose()?,
            gates: match thresholds {
                None => GatesOnDevice::default(),
                Some(thresholds) => GatesOnDevice::load(gpu, config, thresholds, layer)?,
            },
            masks,
        })
    }

    /// The stack that a product is in.
    pub fn stack(&self, linear: Linear) -> &Stack {
        let found = self.stacks.iter().find(|stack| stack.of(linear));
        found.expect("every product is in a stack")
    }

    /// The stacks of a site, each with the element at which its outputs `[chunk, rows]` begin in the tensor of
    /// the site's outputs.
    pub fn stacks(&self, site: Site, chunk: usize) -> impl Iterator<Item = (usize, &Stack)> {
        let of_site = move |stack: &&Stack| site.linears().iter().any(|&l| stack.of(l));
        self.stacks
            .iter()
            .filter(of_site)
            .scan(0, move |next, stack| {
                let first = *next;
                *next += region(chunk, stack.weight.rows());
                Some((first, stack))
            })
    }

    /// Where the output of a product lies in the tensor of its site's outputs.
    pub fn place(&self, linear: Linear, chunk: usize) -> Place {
        let (first, stack) = self
            .stacks(linear.site(), chunk)
            .find(|(_, stack)| stack.of(linear))
            .expect("every product is in a stack of its site");
        let above = stack.products.iter().take_while(|&&(l, _)| l != linear);
        Place {
            first: first + above.map(|(_, rows)| rows).sum::<usize>(),
            stride: stack.weight.rows(),
        }
    }
}

/// What becomes a [`Stack`].
struct Piled {
    products: Vec<(Linear, usize)>,
    matrix: Matrix,
    bias: Option<Vec<f32>>,
}

/// The products of a layer, those of one input in one pile as far as their formats allow and none is to be
/// `alone`.
fn pile(
    linears: [Matrix; 7],
    biases: &mut [Option<Vec<f32>>; 7],
    alone: impl Fn(Linear) -> bool,
) -> Result<Vec<Piled>> {
    let mut piles: Vec<Piled> = vec![];
    for (linear, matrix) in Linear::ALL.into_iter().zip(linears) {
        let (rows, bias) = (matrix.rows(), biases[linear as usize].take());
        let joins = |pile: &&mut Piled| {
            let (above, _) = pile.products[0];
            let free = !alone(above) && !alone(linear);
            above.site() == linear.site() && free && pile.matrix.takes(&matrix)
        };
        match piles.last_mut().filter(joins) {
            None => piles.push(Piled {
                products: vec![(linear, rows)],
                matrix,
                bias,
            }),
            Some(pile) => {
                // A product without a bias has one of zeros in a pile that has any.
                let above = pile.matrix.rows();
                if let (None, Some(_)) = (&pile.bias, &bias) {
                    pile.bias = Some(vec![0.0; above]);
                }
                if let Some(all) = &mut pile.bias {
                    all.extend(bias.unwrap_or_else(|| vec![0.0; rows]));
                }
                pile.matrix.append(&matrix)?;
                pile.products.push((linear, rows));
            }
        }
    }
    Ok(piles)
}

/// A model on the device, ready for any number of [`Decoder`](crate::Decoder)s.
#[derive(Debug)]
pub struct Model {
    gpu: Gpu,
    config: Config,
    pub(crate) embedding: Vec<Slice>,
    pub(crate) head: Vec<Slice>,
    pub(crate) layers: Vec<LayerOnDevice>,
    pub(crate) final_norm: Tensor,
    bytes: Bytes,
}

/// Bytes of a model's weights on the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The layers' products.
    pub layers: u64,
    /// The embedding.
    pub embedding: u64,
    /// The head; 0 where it is the embedding.
    pub head: u64,
}

impl Bytes {
    /// The sum of all three.
    pub const fn total(&self) -> u64 {
        self.layers + self.embedding + self.head
    }
}

/// How far loading is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Products loaded so far.
    pub done: usize,
    /// Products of the model.
    pub of: usize,
    /// What comes next: the embedding, the head, or a layer, `model.layers.N`.
    pub module: &'a str,
}

impl Model {
    /// Loads `source` onto `gpu`, each product in the format that `recipe` gives it; those of one input and format
    /// become one weight. The products of a layer are compressed and packed in parallel, on rayon's threads. `progress` is called before each layer, the
    /// embedding and the head, and may cancel the loading.
    ///
    /// # Errors
    /// Those of the source, [`Error::Cancelled`], [`Error::Choice`] for sizes that the shaders do not
    /// support or an embedding that leaves columns out, and the engine's.
    pub fn load(
        gpu: &Gpu,
        source: &dyn Source,
        recipe: &Recipe,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self> {
        Self::load_thresholded(gpu, source, recipe, None, progress)
    }

    /// [`Model::load`] with thresholded activations. Weights whose inputs are thresholded lie in bands
    /// where that is expected to pay and their format allows it, so that a step reads active columns
    /// only.
    ///
    /// # Errors
    /// Those of [`Model::load`], and [`Error::Shape`] or [`Error::Module`] for thresholds of another model.
    pub fn load_thresholded(
        gpu: &Gpu,
        source: &dyn Source,
        recipe: &Recipe,
        thresholds: Option<&ActivationThresholds>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let config = source.config().clone();
        check_device(&config)?;
        if let Some(thresholds) = thresholds {
            thresholds.check(&config)?;
        }
        let per_layer = Linear::ALL.len();
        let of = config.layers.len() * per_layer + if config.tied_head { 1 } else { 2 };
        let mut done = 0;
        let mut next = |module: &str, products| {
            let told = progress(Progress { done, of, module });
            done += products;
            match told {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Cancelled),
            }
        };
        let slices = |module| {
            map_slices(source, module, |base, matrix| {
                let weight = gpu.upload(&recipe.compress(module, matrix)?)?;
                Ok(Slice { base, weight })
            })
        };
        next(EMBEDDING, 1)?;
        let embedding = slices(EMBEDDING)?;
        if let Some(slice) = embedding.iter().find(|s| s.reader().is_none()) {
            return Err(Error::sparse_embedding(slice.weight.format()));
        }
        let (head, head_bytes) = if config.tied_head {
            (embedding.clone(), 0)
        } else {
            next(HEAD, 1)?;
            let head = slices(HEAD)?;
            let bytes = head.iter().map(|s| s.weight.bytes()).sum();
            (head, bytes)
        };
        let mut layers = Vec::with_capacity(config.layers.len());
        for layer in 0..config.layers.len() {
            next(&format!("model.layers.{layer}"), per_layer)?;
            let loaded = LayerOnDevice::load(gpu, source, recipe, layer, thresholds, false)?;
            layers.push(loaded);
        }
        let final_norm = source.norm("model.norm")?;
        expect(
            || "final norm elements".into(),
            final_norm.len(),
            config.hidden,
        )?;
        let final_norm = gpu.tensor_from(1, config.hidden, &final_norm)?;
        let bytes = Bytes {
            layers: layers
                .iter()
                .flat_map(|layer| &layer.stacks)
                .map(|stack| stack.weight.bytes())
                .sum(),
            embedding: embedding.iter().map(|s| s.weight.bytes()).sum(),
            head: head_bytes,
        };
        Ok(Self {
            gpu: gpu.clone(),
            config,
            embedding,
            head,
            layers,
            final_norm,
            bytes,
        })
    }

    /// Replaces the thresholds, in existing decoders too. They must be for the gates that the model was
    /// loaded with.
    ///
    /// # Errors
    /// [`Error::Choice`] for thresholds of other gates, [`Error::Shape`] or [`Error::Module`] for those
    /// of another model, and the engine's.
    pub fn set_thresholds(&self, thresholds: &ActivationThresholds) -> Result<()> {
        thresholds.check(&self.config)?;
        let mut layers = self.layers.iter();
        layers.try_for_each(|layer| layer.gates.write(&self.gpu, thresholds))
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The bytes of its weights on the device.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// Bytes of weights that decoding one token reads.
    pub fn bytes_per_token(&self) -> u64 {
        let head: u64 = self.head.iter().map(|s| s.weight.bytes()).sum();
        self.bytes.layers + head
    }
}

/// Refuses sizes that the shaders cannot take: they read rows four elements at a time, and heads in two halves.
pub(crate) fn check_device(config: &Config) -> Result<()> {
    for (what, value, multiple) in [
        ("hidden size", config.hidden, 4),
        ("feed-forward size", config.ffn, 4),
        ("head size", config.head_dim, 8),
    ] {
        if value % multiple != 0 {
            return Err(Error::Choice {
                what,
                value: value.to_string(),
                supported: format!("multiples of {multiple}"),
            });
        }
    }
    Ok(())
}

/// Calls `of` with each slice of [`SLICE_ROWS`] rows of the embedding or the head and the number of its first
/// row, in parallel, and returns the results in order. A weight that cannot be read by rows is read whole. Codes
/// are then cut; a weight that leaves columns out is not, because its rows may share index sets across any cut.
pub(crate) fn map_slices<T: Send>(
    source: &dyn Source,
    module: &str,
    of: impl Fn(usize, Matrix) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let codes = if source.reads_rows(module)? {
        None
    } else {
        match source.matrix(module)? {
            Matrix::Quantized(whole) if whole.columns().is_none() => Some(whole),
            whole => return Ok(vec![of(0, whole)?]),
        }
    };
    let vocab = source.config().vocab;
    let slice = |slice: usize| {
        let base = slice * SLICE_ROWS;
        let rows = base..(base + SLICE_ROWS).min(vocab);
        let matrix = match &codes {
            None => source.rows(module, rows)?,
            Some(whole) => whole.rows_of(rows)?.into(),
        };
        of(base, matrix)
    };
    let slices = 0..vocab.div_ceil(SLICE_ROWS);
    let made: Vec<_> = slices.into_par_iter().map(slice).collect();
    // Of several errors the first slice's.
    made.into_iter().collect()
}

/// The weight of a product, in bands if a step is to skip columns and its format allows them.
fn upload(gpu: &Gpu, matrix: &Matrix, skips_columns: bool) -> Result<Weight> {
    if skips_columns {
        match gpu.upload_bands(matrix) {
            // Without bands, the product multiplies the zeros that thresholds leave.
            Err(lacuna::Error::Unfit { .. }) => {}
            uploaded => return Ok(uploaded?),
        }
    }
    Ok(gpu.upload(matrix)?)
}

#[cfg(test)]
mod tests;
