//! The weights of a model on the host, whatever file they came from.

use crate::{
    config::{Config, Linear},
    error::{Error, Result},
};
use lacuna::{
    compress,
    format::{Dense, Dtype, Format, Matrix},
    verify::Random,
};
use rayon::prelude::*;

/// The weights of a model.
///
/// Norms are effective multipliers: for a model with [`norm_plus_one`](Config::norm_plus_one), the 1 is
/// already added.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The configuration, which decides all shapes.
    pub config: Config,
    /// `[vocab, hidden]`.
    pub embedding: Matrix,
    /// `[vocab, hidden]`; `None` if the embedding is the head.
    pub head: Option<Matrix>,
    /// The norm before the head, `[hidden]`.
    pub final_norm: Vec<f32>,
    /// One entry for each layer.
    pub layers: Vec<LayerWeights>,
}

/// The weights of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights {
    /// The products in the order of [`Linear::ALL`], in the shapes that [`Config::shape`] gives.
    pub linears: [Matrix; 7],
    /// Their biases in the same order, `[rows]` each.
    pub biases: [Option<Vec<f32>>; 7],
    /// Before attention, `[hidden]`: `input_layernorm`.
    pub attention_norm: Vec<f32>,
    /// Before the feed-forward, `[hidden]`: `post_attention_layernorm`, or
    /// `pre_feedforward_layernorm` in models with [`post_norms`](Config::post_norms).
    pub ffn_norm: Vec<f32>,
    /// After attention, `[hidden]`, in models with [`post_norms`](Config::post_norms).
    pub post_attention: Option<Vec<f32>>,
    /// After the feed-forward, `[hidden]`, in models with [`post_norms`](Config::post_norms).
    pub post_ffn: Option<Vec<f32>>,
    /// Of each query head, `[head_dim]`, in models with [`qk_norms`](Config::qk_norms).
    pub q_norm: Option<Vec<f32>>,
    /// Of each key head, `[head_dim]`, in models with [`qk_norms`](Config::qk_norms).
    pub k_norm: Option<Vec<f32>>,
}

impl LayerWeights {
    /// The matrix of a product.
    pub const fn linear(&self, linear: Linear) -> &Matrix {
        &self.linears[linear as usize]
    }

    /// The bias of a product.
    pub fn bias(&self, linear: Linear) -> Option<&[f32]> {
        self.biases[linear as usize].as_deref()
    }
}

pub(crate) fn expect(what: impl FnOnce() -> String, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape {
        what: what(),
        got,
        expected,
    })
}

pub(crate) fn expect_matrix(name: &str, matrix: &Matrix, [rows, cols]: [usize; 2]) -> Result<()> {
    expect(|| format!("{name} rows"), matrix.rows(), rows)?;
    expect(|| format!("{name} columns"), matrix.cols(), cols)
}

impl Weights {
    /// The matrix of the head, tied or not.
    pub fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Checks that all shapes agree with the configuration, and the configuration with itself.
    ///
    /// # Errors
    /// [`Error::Shape`] for the first that does not; what is missing counts as 0 elements.
    pub fn check(&self) -> Result<()> {
        let c = &self.config;
        check_config(c)?;
        expect_matrix("embedding", &self.embedding, [c.vocab, c.hidden])?;
        expect(
            || "untied heads".into(),
            usize::from(self.head.is_some()),
            usize::from(!c.tied_head),
        )?;
        expect_matrix("head", self.head(), [c.vocab, c.hidden])?;
        expect(
            || "final norm elements".into(),
            self.final_norm.len(),
            c.hidden,
        )?;
        expect(|| "layers".into(), self.layers.len(), c.layers.len())?;
        self.layers
            .iter()
            .enumerate()
            .try_for_each(|(n, layer)| layer.check(n, c))
    }

    /// Reproducible random weights. Every product keeps the mean square of its input, what is added to
    /// the residual stream shrinks with the number of layers, norms are near 1, and there are no biases.
    /// The products are compressed to `format`, pruned by magnitude; embedding and head are dense in its
    /// value type, or f32 if it names none.
    ///
    /// # Errors
    /// [`Error::Shape`] for a configuration that contradicts itself, and what
    /// [`compress`](compress::compress) refuses.
    pub fn random(config: Config, seed: u64, format: Format) -> Result<Self> {
        check_config(&config)?;
        let format = format.or_dtype(Dtype::F32);
        let dense = Format::Dense(format.dtype().unwrap_or(Dtype::F32));
        let c = &config;
        let unit = 1.0 / (c.hidden as f32).sqrt();
        let embedded = if c.tied_head {
            unit
        } else {
            1.0 / c.embedding_scale
        };
        let shape = [c.vocab, c.hidden];
        let embedding = matrix(&mut stream(seed, 0), shape, embedded, dense)?;
        let head = if c.tied_head {
            None
        } else {
            Some(matrix(&mut stream(seed, 1), shape, unit, dense)?)
        };
        let final_norm = norm(&mut stream(seed, 2), c.hidden);
        let layers = (0..c.layers.len())
            .into_par_iter()
            .map(|n| LayerWeights::random(c, &mut stream(seed, 3 + n as u64), format))
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            embedding,
            head,
            final_norm,
            layers,
        })
    }
}

/// Checks the configuration by itself, before any weight is looked at.
fn check_config(c: &Config) -> Result<()> {
    let sides = [
        ("vocabulary", c.vocab),
        ("hidden size", c.hidden),
        ("query heads", c.heads),
        ("key-value heads", c.kv_heads),
        ("head size", c.head_dim),
        ("feed-forward size", c.ffn),
        ("positions", c.max_positions),
    ];
    for (what, got) in sides {
        // Nothing may be 0: then the error says that 1 is expected.
        expect(|| what.into(), got, got.max(1))?;
    }
    expect(
        || "query heads left over by the key-value heads".into(),
        c.heads % c.kv_heads,
        0,
    )?;
    expect(|| "odd elements of a head".into(), c.head_dim % 2, 0)?;
    for (n, layer) in c.layers.iter().enumerate() {
        let last = c.ropes.len().saturating_sub(1);
        let what = || format!("layer {n} rotary embedding");
        expect(what, layer.rope, layer.rope.min(last))?;
        expect(
            || format!("layer {n} window"),
            usize::from(layer.window == Some(0)),
            0,
        )?;
    }
    expect(
        || "rotary embeddings".into(),
        c.ropes.len(),
        c.ropes.len().max(usize::from(!c.layers.is_empty())),
    )
}

impl LayerWeights {
    pub(crate) fn check(&self, n: usize, c: &Config) -> Result<()> {
        for linear in Linear::ALL {
            let name = format!("layer {n} {}", linear.name());
            let shape = c.shape(linear);
            expect_matrix(&name, self.linear(linear), shape)?;
            if let Some(bias) = self.bias(linear) {
                expect(|| format!("{name} bias elements"), bias.len(), shape[0])?;
            }
        }
        let len = |norm: &Option<Vec<f32>>| norm.as_ref().map_or(0, Vec::len);
        let post = if c.post_norms { c.hidden } else { 0 };
        let head = if c.qk_norms { c.head_dim } else { 0 };
        let norms = [
            ("attention norm", self.attention_norm.len(), c.hidden),
            ("feed-forward norm", self.ffn_norm.len(), c.hidden),
            ("norm after attention", len(&self.post_attention), post),
            ("norm after the feed-forward", len(&self.post_ffn), post),
            ("query norm", len(&self.q_norm), head),
            ("key norm", len(&self.k_norm), head),
        ];
        norms.into_iter().try_for_each(|(name, got, expected)| {
            expect(|| format!("layer {n} {name} elements"), got, expected)
        })
    }

    fn random(c: &Config, random: &mut Random, format: Format) -> Result<Self> {
        let residual = 1.0 / (2.0 * c.layers.len() as f32).sqrt();
        let mut linears = Vec::with_capacity(Linear::ALL.len());
        for linear in Linear::ALL {
            let shape = c.shape(linear);
            let keep = 1.0 / (shape[1] as f32).sqrt();
            let scale = match linear {
                Linear::O | Linear::Down => keep * residual,
                _ => keep,
            };
            linears.push(matrix(random, shape, scale, format)?);
        }
        let linears = linears
            .try_into()
            .map_err(|made: Vec<Matrix>| Error::Shape {
                what: "products of a layer".into(),
                got: made.len(),
                expected: Linear::ALL.len(),
            })?;
        let mut some = |wanted: bool, len| wanted.then(|| norm(random, len));
        Ok(Self {
            linears,
            biases: [const { None }; 7],
            post_attention: some(c.post_norms, c.hidden),
            post_ffn: some(c.post_norms, c.hidden),
            q_norm: some(c.qk_norms, c.head_dim),
            k_norm: some(c.qk_norms, c.head_dim),
            attention_norm: norm(random, c.hidden),
            ffn_norm: norm(random, c.hidden),
        })
    }
}

/// A random stream for each part of a model, so that parts can be made in any order.
fn stream(seed: u64, part: u64) -> Random {
    let first = Random(seed).bits();
    Random(first ^ Random(part.wrapping_mul(0xd134_2543_de82_ef95)).bits())
}

/// Uniform values of standard deviation `scale`.
fn matrix(
    random: &mut Random,
    [rows, cols]: [usize; 2],
    scale: f32,
    format: Format,
) -> Result<Matrix> {
    let Some(len) = rows.checked_mul(cols) else {
        return Err(lacuna::Error::TooLarge {
            what: "weight",
            rows,
            cols,
        }
        .into());
    };
    // Uniform numbers in [-1, 1) have variance 1/3.
    let scale = scale * 3f32.sqrt();
    let values = (0..len).map(|_| scale * random.signed()).collect();
    let dense = Dense::from_f32(rows, cols, values)?;
    Ok(compress::compress(&dense, format)?)
}

/// Multipliers between 0.9 and 1.1.
fn norm(random: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| 1.0 + 0.1 * random.signed()).collect()
}

#[cfg(test)]
mod tests;
