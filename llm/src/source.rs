//! Where weights come from.

use crate::{
    checkpoint::Checkpoint,
    config::{Config, EMBEDDING, HEAD, Linear},
    error::{Error, Result},
    recipe::Recipe,
    weights::{LayerWeights, Weights, expect_matrix},
};
use lacuna::format::Matrix;
use rayon::prelude::*;
use std::ops::Range;

/// Where weights come from: a checkpoint, or random numbers of a given shape.
///
/// Modules and tensors go by Hugging Face's names. Loading reads the products of a layer in parallel, and those of
/// the next layer when these are on the device.
pub trait Source: Sync {
    /// The model's shape.
    fn config(&self) -> &Config;

    /// The weight of a linear module, `[rows, cols]`.
    ///
    /// # Errors
    /// Where it is missing or of another shape.
    fn matrix(&self, module: &str) -> Result<Matrix>;

    /// Whether [`Source::rows`] can read some rows without the others.
    ///
    /// # Errors
    /// Where the weight is missing.
    fn reads_rows(&self, module: &str) -> Result<bool>;

    /// Some rows of a weight: embeddings are read in slices.
    ///
    /// # Errors
    /// Those of [`Source::matrix`], and where the weight is read whole only.
    fn rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix>;

    /// The bias of a linear module, `[rows]`, if the model has one.
    ///
    /// # Errors
    /// Where its shape does not fit its module.
    fn bias(&self, module: &str) -> Result<Option<Vec<f32>>>;

    /// The multipliers of a norm; where files store w and mean 1 + w, the 1 is added.
    ///
    /// # Errors
    /// Where it is missing or of another shape.
    fn norm(&self, module: &str) -> Result<Vec<f32>>;
}

impl Source for Checkpoint {
    fn config(&self) -> &Config {
        self.config()
    }

    fn matrix(&self, module: &str) -> Result<Matrix> {
        self.matrix(module)
    }

    fn reads_rows(&self, module: &str) -> Result<bool> {
        self.reads_rows(module)
    }

    fn rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix> {
        self.matrix_rows(module, rows)
    }

    fn bias(&self, module: &str) -> Result<Option<Vec<f32>>> {
        self.vector(&format!("{module}.bias"))
    }

    fn norm(&self, module: &str) -> Result<Vec<f32>> {
        self.norm(module)
    }
}

impl LayerWeights {
    /// Layer `layer` of `source`, on the host, each product in the format that `recipe` gives it.
    ///
    /// # Errors
    /// Those of the source and of [`Recipe::compress`].
    pub fn load(source: &dyn Source, recipe: &Recipe, layer: usize) -> Result<Self> {
        let config = source.config();
        let product = |module: &str| recipe.compress(module, source.matrix(module)?);
        let norm = |name: &str| source.norm(&format!("model.layers.{layer}.{name}"));
        let optional = |name, there: bool| there.then(|| norm(name)).transpose();
        let before_ffn = if config.post_norms {
            "pre_feedforward_layernorm"
        } else {
            "post_attention_layernorm"
        };
        Ok(Self {
            linears: each(|linear| product(&linear.module(layer)))?,
            biases: each(|linear| source.bias(&linear.module(layer)))?,
            attention_norm: norm("input_layernorm")?,
            ffn_norm: norm(before_ffn)?,
            post_attention: optional("post_attention_layernorm", config.post_norms)?,
            post_ffn: optional("post_feedforward_layernorm", config.post_norms)?,
            q_norm: optional("self_attn.q_norm", config.qk_norms)?,
            k_norm: optional("self_attn.k_norm", config.qk_norms)?,
        })
    }
}

impl Weights {
    /// Everything that `source` has, on the host, each product in the format that `recipe`
    /// gives it.
    ///
    /// # Errors
    /// Those of the source and of [`Recipe::compress`].
    pub fn load(source: &dyn Source, recipe: &Recipe) -> Result<Self> {
        let config = source.config().clone();
        let product = |module: &str| recipe.compress(module, source.matrix(module)?);
        let layer = |i| LayerWeights::load(source, recipe, i);
        Ok(Self {
            embedding: product(EMBEDDING)?,
            head: (!config.tied_head).then(|| product(HEAD)).transpose()?,
            final_norm: source.norm("model.norm")?,
            layers: (0..config.layers.len()).map(layer).collect::<Result<_>>()?,
            config,
        })
    }

    fn layer<'a>(&self, module: &'a str) -> Option<(&LayerWeights, &'a str)> {
        let (layer, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
        Some((self.layers.get(layer.parse::<usize>().ok()?)?, rest))
    }

    fn linear(&self, module: &str) -> Option<(&LayerWeights, Linear)> {
        let (layer, name) = self.layer(module)?;
        Some((layer, Linear::ALL.into_iter().find(|l| l.name() == name)?))
    }

    fn find(&self, module: &str) -> Result<&Matrix> {
        let config = &self.config;
        let (matrix, shape) = match module {
            EMBEDDING => (&self.embedding, [config.vocab, config.hidden]),
            HEAD => (self.head(), [config.vocab, config.hidden]),
            _ => match self.linear(module) {
                Some((layer, linear)) => (layer.linear(linear), config.shape(linear)),
                None => return Err(unknown("weight", module)),
            },
        };
        expect_matrix(module, matrix, shape)?;
        Ok(matrix)
    }
}

/// One value for each of [`Linear::ALL`], worked out side by side. Of several errors the first product's.
pub(crate) fn each<T: Send>(of: impl Fn(Linear) -> Result<T> + Sync) -> Result<[T; 7]> {
    let mut found = Linear::ALL.map(|_| None);
    Linear::ALL
        .par_iter()
        .zip(&mut found)
        .for_each(|(&linear, found)| *found = Some(of(linear)));
    let [q, k, v, o, gate, up, down] = found.map(|found| found.expect("one for each"));
    Ok([q?, k?, v?, o?, gate?, up?, down?])
}

fn unknown(what: &'static str, module: &str) -> Error {
    Error::UnknownModule {
        what,
        name: module.to_owned(),
    }
}

impl Source for Weights {
    fn config(&self) -> &Config {
        &self.config
    }

    fn matrix(&self, module: &str) -> Result<Matrix> {
        self.find(module).cloned()
    }

    fn reads_rows(&self, module: &str) -> Result<bool> {
        Ok(matches!(self.find(module)?, Matrix::Dense(_)))
    }

    fn rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix> {
        match self.find(module)? {
            Matrix::Dense(dense) => Ok(Matrix::Dense(dense.slice_rows(rows)?)),
            other => Err(Error::Choice {
                what: "format of a weight taken in slices",
                value: other.format().to_string(),
                supported: "f32, f16, bf16".into(),
            }),
        }
    }

    fn bias(&self, module: &str) -> Result<Option<Vec<f32>>> {
        let found = self.linear(module);
        let (layer, linear) = found.ok_or_else(|| unknown("bias", module))?;
        Ok(layer.bias(linear).map(<[f32]>::to_vec))
    }

    fn norm(&self, module: &str) -> Result<Vec<f32>> {
        if module == "model.norm" {
            return Ok(self.final_norm.clone());
        }
        let found = self.layer(module).and_then(|(layer, name)| match name {
            "input_layernorm" => Some(&layer.attention_norm),
            "post_attention_layernorm" if self.config.post_norms => layer.post_attention.as_ref(),
            "post_attention_layernorm" | "pre_feedforward_layernorm" => Some(&layer.ffn_norm),
            "post_feedforward_layernorm" => layer.post_ffn.as_ref(),
            "self_attn.q_norm" => layer.q_norm.as_ref(),
            "self_attn.k_norm" => layer.k_norm.as_ref(),
            _ => None,
        });
        found.cloned().ok_or_else(|| unknown("norm", module))
    }
}
