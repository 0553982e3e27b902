//! The configuration of a decoder-only transformer, as plain data, whatever file it comes from.

use crate::{error::Result, hf};
use std::{ops::Range, path::Path};

/// The shapes and the options of a model.
///
/// One layer computes, for vectors `x` of [`hidden`](Self::hidden) elements,
///
/// ```text
/// x += post(o · attention(norm(x)))      q, k, v = rows of W · norm(x); RoPE on q and k
/// x += post(down · (act(gate · h) ⊙ (up · h)))      h = norm(x)
/// ```
///
/// where `post` is a norm in models with [`post_norms`](Self::post_norms), else nothing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
// Each bool is one of the ways in which published architectures differ.
#[expect(clippy::struct_excessive_bools)]
pub struct Config {
    /// `model_type` of the checkpoint, for reports.
    pub architecture: String,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Elements of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides [`heads`](Self::heads).
    pub kv_heads: usize,
    /// Elements of one head, even.
    pub head_dim: usize,
    /// Elements between `up` and `down`.
    pub ffn: usize,
    /// One entry for each layer.
    pub layers: Vec<Layer>,
    /// The rotary embeddings that [`Layer::rope`] chooses from.
    pub ropes: Vec<Rope>,
    /// Longest context that the model was made for.
    pub max_positions: usize,
    /// ε of every norm.
    pub norm_eps: f32,
    /// Whether norms store w and multiply by 1 + w (Gemma's safetensors).
    pub norm_plus_one: bool,
    /// Whether layers have two more norms, after attention and after the feed-forward (Gemma 3).
    pub post_norms: bool,
    /// Whether each head of q and k passes a norm before `RoPE` (Qwen 3, Gemma 3).
    pub qk_norms: bool,
    /// The function that is applied to the output of gate.
    pub activation: Activation,
    /// Scores are `query_scale · q · k`.
    pub query_scale: f32,
    /// The factor of embeddings (Gemma: √hidden; else 1).
    pub embedding_scale: f32,
    /// Whether the head is the embedding. `false` for a checkpoint that stores a head that differs from it, whatever its
    /// `config.json` says.
    pub tied_head: bool,
    /// Token that is put before a text if the tokenizer asks for one.
    pub bos: Option<u32>,
    /// Tokens that end a generation.
    pub eos: Vec<u32>,
}

/// What differs between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Index into [`Config::ropes`].
    pub rope: usize,
    /// A query at position p sees keys p − window + 1 … p; with `None`, all up to p.
    pub window: Option<usize>,
}

/// A rotary embedding: the pair of elements `(i, i + head_dim / 2)` at position p rotates by
/// `p · frequency(i)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies `theta^(−2i / head_dim)`.
    pub theta: f64,
    /// How the frequencies are changed for a longer context.
    pub scaling: RopeScaling,
}

/// How frequencies are changed to lengthen the context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by the factor.
    Linear(f64),
    /// Llama 3: frequencies of long wavelengths are divided by `factor`, those of short ones kept, with a
    /// ramp between.
    Llama3 {
        /// Divisor of the frequencies of long wavelengths.
        factor: f64,
        /// Frequencies of wavelengths over `original / low` are divided.
        low: f64,
        /// Frequencies of wavelengths under `original / high` are kept.
        high: f64,
        /// Context the model was first trained for.
        original: f64,
    },
    /// `YaRN` (<https://arxiv.org/abs/2309.00071>): frequencies of pairs that turn often over the
    /// original context are kept, those of pairs that turn seldom divided by `factor`, with a ramp over
    /// the pairs between. Queries and keys are multiplied by `attention`.
    Yarn {
        /// Divisor of the frequencies of slow pairs.
        factor: f64,
        /// Turns over the original context from which on a pair's frequency is kept.
        fast: f64,
        /// Turns over the original context up to which it is divided.
        slow: f64,
        /// Context the model was first trained for.
        original: f64,
        /// Factor of queries and keys.
        attention: f64,
    },
}

impl RopeScaling {
    /// `YaRN`'s factor of queries and keys where a model does not state it:
    /// `1 + 0.1 · weight · ln(factor)`, or 1 for factors up to 1. `weight` is the model's `mscale`, by
    /// default 1.
    pub(crate) fn yarn_attention(factor: f64, weight: f64) -> f64 {
        if factor <= 1.0 {
            return 1.0;
        }
        1.0 + 0.1 * weight * factor.ln()
    }

    /// Positions of the lengthened context, if the rule says how many.
    pub(crate) fn positions(self) -> Option<f64> {
        match self {
            Self::Yarn {
                factor, original, ..
            } => Some(factor * original),
            Self::None | Self::Linear(_) | Self::Llama3 { .. } => None,
        }
    }
}

/// The function that is applied to the output of gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^−x)`.
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    GeluTanh,
}

impl From<Activation> for lacuna::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Silu => Self::Silu,
            Activation::GeluTanh => Self::GeluTanh,
        }
    }
}

impl Activation {
    /// The activation of one number.
    pub(crate) fn of(self, x: f64) -> f64 {
        match self {
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
        }
    }

    /// Applies it to every number of a vector, in place.
    pub(crate) fn apply(self, x: &mut [f32]) {
        for x in x {
            *x = self.of(f64::from(*x)) as f32;
        }
    }
}

/// The linear products of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Linear {
    /// Queries, `[heads · head_dim, hidden]`.
    Q,
    /// Keys, `[kv_heads · head_dim, hidden]`.
    K,
    /// Values, `[kv_heads · head_dim, hidden]`.
    V,
    /// Attention's output, `[hidden, heads · head_dim]`.
    O,
    /// `[ffn, hidden]`.
    Gate,
    /// `[ffn, hidden]`.
    Up,
    /// `[hidden, ffn]`.
    Down,
}

impl Linear {
    /// All products, in the order in which a layer runs them.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The module's name in Hugging Face's files, below `model.layers.N.`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// `model.layers.{layer}.{name}`.
    pub fn module(self, layer: usize) -> String {
        format!("model.layers.{layer}.{}", self.name())
    }

    /// Where it takes its input.
    pub const fn site(self) -> Site {
        match self {
            Self::Q | Self::K | Self::V => Site::Attention,
            Self::O => Site::Output,
            Self::Gate | Self::Up => Site::FeedForward,
            Self::Down => Site::Down,
        }
    }
}

/// A place in a layer from which products take their input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The input of queries, keys and values: the first norm's output.
    Attention,
    /// The input of attention's output product: the heads side by side.
    Output,
    /// The input of gate and up: the output of the norm before the feed-forward.
    FeedForward,
    /// The input of down: `act(gate) ⊙ up`.
    Down,
}

impl Site {
    /// All sites, in the order in which a layer comes to them.
    pub const ALL: [Self; 4] = [Self::Attention, Self::Output, Self::FeedForward, Self::Down];

    /// The products that take their input at this site.
    pub const fn linears(self) -> &'static [Linear] {
        match self {
            Self::Attention => &[Linear::Q, Linear::K, Linear::V],
            Self::Output => &[Linear::O],
            Self::FeedForward => &[Linear::Gate, Linear::Up],
            Self::Down => &[Linear::Down],
        }
    }

    /// The module of the site's first product, which serves as the site's name.
    pub fn module(self, layer: usize) -> String {
        self.linears()[0].module(layer)
    }
}

/// The module of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens";
/// The module of an untied head.
pub const HEAD: &str = "lm_head";

impl Config {
    /// Reads a Hugging Face `config.json`; no weights need lie beside it.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File), [`Error::Malformed`](crate::Error::Malformed), and those of
    /// values and options that are missing, wrong or not supported.
    pub fn from_json_file(file: impl AsRef<Path>) -> Result<Self> {
        hf::read_config(file.as_ref())
    }

    /// The modules of all weights: the embedding, the layers' products, and the head if it is not tied.
    pub fn modules(&self) -> Vec<String> {
        let layers = 0..self.layers.len();
        let products = layers.flat_map(|layer| Linear::ALL.map(|linear| linear.module(layer)));
        let head = (!self.tied_head).then(|| HEAD.to_owned());
        let embedding = std::iter::once(EMBEDDING.to_owned());
        embedding.chain(products).chain(head).collect()
    }

    /// `[rows, cols]` of a layer's product.
    pub const fn shape(&self, linear: Linear) -> [usize; 2] {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        match linear {
            Linear::Q => [q, self.hidden],
            Linear::K | Linear::V => [kv, self.hidden],
            Linear::O => [self.hidden, q],
            Linear::Gate | Linear::Up => [self.ffn, self.hidden],
            Linear::Down => [self.hidden, self.ffn],
        }
    }

    /// Elements of an input at `site`.
    pub const fn width(&self, site: Site) -> usize {
        self.shape(site.linears()[0])[1]
    }
}

impl Rope {
    /// Radians per position of the pairs `0 … head_dim / 2`.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let ramp = self.ramp(head_dim);
        let frequency = |i: usize| {
            let f = self.theta.powf(-2.0 * i as f64 / head_dim as f64);
            match self.scaling {
                RopeScaling::None => f,
                RopeScaling::Linear(factor) => f / factor,
                RopeScaling::Llama3 {
                    factor,
                    low,
                    high,
                    original,
                } => {
                    // Turns made over the original context.
                    let turns = original * f / std::f64::consts::TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    f * (kept + (1.0 - kept) / factor)
                }
                RopeScaling::Yarn { factor, .. } => {
                    let kept =
                        1.0 - ((i as f64 - ramp.start) / (ramp.end - ramp.start)).clamp(0.0, 1.0);
                    f * (kept + (1.0 - kept) / factor)
                }
            }
        };
        (0..head_dim / 2).map(frequency).collect()
    }

    /// The range of pairs over which `YaRN` goes from kept to slowed; it is never empty.
    fn ramp(&self, head_dim: usize) -> Range<f64> {
        let RopeScaling::Yarn {
            fast,
            slow,
            original,
            ..
        } = self.scaling
        else {
            return 0.0..1.0;
        };
        // The pair, as a real number, that makes this many turns over the original context.
        let pair = |turns: f64| {
            let frequency = turns * std::f64::consts::TAU / original;
            -(head_dim as f64) * frequency.ln() / (2.0 * self.theta.ln())
        };
        let last = head_dim as f64 - 1.0;
        let (start, end) = (pair(fast).floor().max(0.0), pair(slow).ceil().min(last));
        start..end.max(start + 0.001)
    }

    /// The factor of queries and keys, besides their rotation.
    pub const fn attention(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention, .. } => attention,
            RopeScaling::None | RopeScaling::Linear(_) | RopeScaling::Llama3 { .. } => 1.0,
        }
    }

    /// Cosines and sines of positions `0 … positions`, times [`attention`](Self::attention):
    /// `[positions, head_dim / 2, 2]`. Made on the host from f64 angles, because WGSL's own functions are
    /// good to 2⁻¹¹ only.
    pub fn table(&self, head_dim: usize, positions: usize) -> Vec<f32> {
        let (frequencies, attention) = (self.frequencies(head_dim), self.attention());
        let turn = |p: usize, f: f64| {
            let (sin, cos) = (p as f64 * f).sin_cos();
            [cos, sin].map(|turn| (attention * turn) as f32)
        };
        (0..positions)
            .flat_map(|p| frequencies.iter().flat_map(move |&f| turn(p, f)))
            .collect()
    }
}
