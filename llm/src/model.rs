//! A model's weights on the device.

use crate::{
    config::{Config, EMBEDDING, HEAD, Linear},
    error::{Error, Result},
    recipe::Recipe,
    source::Source,
    thresholds::{ActivationThresholds, GatesOnDevice},
    weights::expect,
};
use lacuna::{
    Gpu, Tensor, Weight,
    format::{Format, Matrix},
    kernel::RowReader,
};
use std::ops::ControlFlow;

/// Rows of the embedding and the head that one weight holds: their logits are what exists
/// at once when a text is scored.
pub(crate) const SLICE_ROWS: usize = 32_768;

/// Some rows of the embedding or the head.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// Its first id.
    pub base: usize,
    pub weight: Weight,
}

impl Slice {
    /// How shaders read its rows, where its format lets them.
    pub fn reader(&self) -> Option<RowReader> {
        RowReader::new(self.weight.format(), self.weight.cols())
    }
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct LayerOnDevice {
    /// In the order of [`Linear::ALL`].
    linears: Vec<Weight>,
    biases: Vec<Option<Tensor>>,
    pub attention_norm: Tensor,
    pub ffn_norm: Tensor,
    pub post_attention: Option<Tensor>,
    pub post_ffn: Option<Tensor>,
    /// `[2, head_dim]`, of queries and keys.
    pub head_norms: Option<Tensor>,
    pub gates: GatesOnDevice,
    /// Whether a step skips the rows of up that the feed-forward's gate drops.
    pub masks: bool,
}

impl LayerOnDevice {
    /// Layer `layer` of `source`, each product in the format that `recipe` gives it.
    pub fn load(gpu: &Gpu, source: &dyn Source, recipe: &Recipe, layer: usize) -> Result<Self> {
        let mut loader = Loader {
            gpu,
            source,
            recipe,
            thresholds: None,
            progress: &mut |_| ControlFlow::Continue(()),
            done: 0,
            of: Linear::ALL.len(),
        };
        loader.layer(layer)
    }

    pub fn linear(&self, which: Linear) -> (&Weight, Option<&Tensor>) {
        let i = which as usize;
        (&self.linears[i], self.biases[i].as_ref())
    }
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
    /// Products of the layers.
    pub layers: u64,
    /// The embedding.
    pub embedding: u64,
    /// The head; 0 where it is the embedding.
    pub head: u64,
}

impl Bytes {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.layers + self.embedding + self.head
    }
}

/// How far loading is: products done, of how many, and the one that comes next.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Products on the device.
    pub done: usize,
    /// Products of the model.
    pub of: usize,
    /// The next one's module.
    pub module: &'a str,
}

impl Model {
    /// Loads `source` onto `gpu`, each product in the format that `recipe` gives it. `progress`
    /// is told of each and may end the loading.
    ///
    /// # Errors
    /// Those of the source, [`Error::Cancelled`], [`Error::Choice`] for an embedding that
    /// leaves columns out, and the engine's.
    pub fn load(
        gpu: &Gpu,
        source: &dyn Source,
        recipe: &Recipe,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self> {
        Self::load_thresholded(gpu, source, recipe, None, progress)
    }

    /// [`Model::load`] with activations thresholded: products whose inputs are thresholded lie in
    /// bands where their format can, so that a step reads what is active alone.
    ///
    /// # Errors
    /// Those of [`Model::load`], and [`Error::Shape`] for thresholds of another model.
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
        let mut loader = Loader {
            gpu,
            source,
            recipe,
            thresholds,
            progress,
            done: 0,
            of: config.layers.len() * Linear::ALL.len() + if config.tied_head { 1 } else { 2 },
        };
        let embedding = loader.slices(EMBEDDING)?;
        if let Some(slice) = embedding.iter().find(|s| s.reader().is_none()) {
            return Err(Error::sparse_embedding(slice.weight.format()));
        }
        let (head, head_bytes) = if config.tied_head {
            (embedding.clone(), 0)
        } else {
            let head = loader.slices(HEAD)?;
            let bytes = head.iter().map(|s| s.weight.bytes()).sum();
            (head, bytes)
        };
        let layers: Vec<_> = (0..config.layers.len())
            .map(|i| loader.layer(i))
            .collect::<Result<_>>()?;
        let final_norm = loader.norm("model.norm", config.hidden)?;
        let bytes = Bytes {
            layers: layers
                .iter()
                .flat_map(|l| &l.linears)
                .map(Weight::bytes)
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

    /// Gives the gates that have thresholds others, also in the decoders that there are.
    ///
    /// # Errors
    /// [`Error::Choice`] where they are for other gates, [`Error::Shape`], and the engine's.
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

    /// What its weights take on the device.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// Bytes of weights that decoding one token reads.
    pub fn bytes_per_token(&self) -> u64 {
        let head: u64 = self.head.iter().map(|s| s.weight.bytes()).sum();
        self.bytes.layers + head
    }
}

/// The shaders take rows four elements at a time, and heads in two halves.
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

/// Hands [`SLICE_ROWS`] rows of the embedding or the head at a time to `see`, with the number of the
/// first. Dense weights are read so, codes are read whole and cut; what leaves columns out comes whole:
/// index sets may cross any row that is not the first.
pub(crate) fn each_slice(
    source: &dyn Source,
    module: &str,
    see: &mut dyn FnMut(usize, Matrix) -> Result<()>,
) -> Result<()> {
    let format = source.format(module)?;
    if format.stores_less() {
        return see(0, source.matrix(module)?);
    }
    let whole = match format {
        Format::Dense(_) => None,
        _ => Some(source.matrix(module)?),
    };
    let vocab = source.config().vocab;
    (0..vocab).step_by(SLICE_ROWS).try_for_each(|base| {
        let rows = base..(base + SLICE_ROWS).min(vocab);
        let slice = match &whole {
            Some(Matrix::Quantized(whole)) => whole.rows_of(rows)?.into(),
            _ => source.rows(module, rows)?,
        };
        see(base, slice)
    })
}

struct Loader<'a> {
    gpu: &'a Gpu,
    source: &'a dyn Source,
    recipe: &'a Recipe,
    thresholds: Option<&'a ActivationThresholds>,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    done: usize,
    of: usize,
}

impl Loader<'_> {
    fn report(&mut self, module: &str) -> Result<()> {
        let progress = Progress {
            done: self.done,
            of: self.of,
            module,
        };
        self.done += 1;
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    fn upload(&self, module: &str, matrix: Matrix) -> Result<Weight> {
        Ok(self.gpu.upload(&self.recipe.compress(module, matrix)?)?)
    }

    /// The weight of a product, in bands where a step is to skip columns and its format has them.
    fn upload_linear(&self, matrix: &Matrix, skips_columns: bool) -> Result<Weight> {
        if skips_columns {
            match self.gpu.upload_bands(matrix) {
                // It multiplies the zeros that thresholds leave.
                Err(lacuna::Error::Unfit { .. }) => {}
                uploaded => return Ok(uploaded?),
            }
        }
        Ok(self.gpu.upload(matrix)?)
    }

    fn slices(&mut self, module: &str) -> Result<Vec<Slice>> {
        self.report(module)?;
        let mut slices = vec![];
        each_slice(self.source, module, &mut |base, matrix| {
            let weight = self.upload(module, matrix)?;
            slices.push(Slice { base, weight });
            Ok(())
        })?;
        Ok(slices)
    }

    fn norm(&self, module: &str, len: usize) -> Result<Tensor> {
        let weight = self.source.norm(module)?;
        Ok(self.gpu.tensor_from(1, len, &weight)?)
    }

    fn layer(&mut self, layer: usize) -> Result<LayerOnDevice> {
        let config = self.source.config();
        let prefix = format!("model.layers.{layer}");
        let (mut linears, mut biases) = (vec![], vec![]);
        let mut masks = false;
        for linear in Linear::ALL {
            let module = linear.module(layer);
            self.report(&module)?;
            let matrix = self.source.matrix(&module)?;
            let matrix = self.recipe.compress(&module, matrix)?;
            let skips_columns = self.thresholds.is_some_and(|thresholds| {
                if linear == Linear::Up {
                    masks = thresholds.masks(self.gpu, layer, &matrix);
                }
                thresholds.skips_columns(self.gpu, layer, linear, &matrix, masks)
            });
            linears.push(self.upload_linear(&matrix, skips_columns)?);
            let bias = self.source.bias(&module)?;
            biases.push(match bias {
                None => None,
                Some(bias) => Some(self.gpu.tensor_from(1, bias.len(), &bias)?),
            });
        }
        let norm = |name: &str| self.norm(&format!("{prefix}.{name}"), config.hidden);
        let optional = |name: &str, there: bool| there.then(|| norm(name)).transpose();
        let head_norms = if config.qk_norms {
            let head = |name: &str| {
                let module = format!("{prefix}.self_attn.{name}");
                let weight = self.source.norm(&module)?;
                expect(|| module, weight.len(), config.head_dim)?;
                Ok::<_, Error>(weight)
            };
            let both = [head("q_norm")?, head("k_norm")?].concat();
            Some(self.gpu.tensor_from(2, config.head_dim, &both)?)
        } else {
            None
        };
        // In models with four norms the second stands after attention, not before the rest.
        let before_ffn = if config.post_norms {
            "pre_feedforward_layernorm"
        } else {
            "post_attention_layernorm"
        };
        Ok(LayerOnDevice {
            linears,
            biases,
            attention_norm: norm("input_layernorm")?,
            ffn_norm: norm(before_ffn)?,
            post_attention: optional("post_attention_layernorm", config.post_norms)?,
            post_ffn: optional("post_feedforward_layernorm", config.post_norms)?,
            head_norms,
            masks,
            gates: match self.thresholds {
                None => GatesOnDevice::default(),
                Some(thresholds) => GatesOnDevice::load(self.gpu, config, thresholds, layer)?,
            },
        })
    }
}
