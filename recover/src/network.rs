//! One layer of a transformer in Burn's tensors, for every architecture of `lacuna-llm`.

use crate::error::{Error, Result};
use burn_tensor::{Device, Tensor, TensorData, activation};
use lacuna_llm::{Activation, Config, LayerWeights, Linear};

/// What a layer has besides its products: norms, biases, rotations and the attention mask.
///
/// All of it is constant in training; the weights of the products are passed to
/// [`forward`](Self::forward).
#[derive(Debug, Clone)]
pub struct Frame {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f64,
    query_scale: f64,
    activation: Activation,
    attention_norm: Tensor<1>,
    ffn_norm: Tensor<1>,
    post_attention: Option<Tensor<1>>,
    post_ffn: Option<Tensor<1>>,
    q_norm: Option<Tensor<1>>,
    k_norm: Option<Tensor<1>>,
    biases: [Option<Tensor<1>>; 7],
    /// `[tokens, head_dim / 2]`.
    cos: Tensor<2>,
    sin: Tensor<2>,
    /// `[tokens, tokens]`: 0 where a query sees a key, −∞ where it does not.
    mask: Tensor<2>,
}

/// The weights of a layer's products, `[rows, cols]` in the order of [`Linear::ALL`].
pub type Products = [Tensor<2>; 7];

impl Frame {
    /// The frame of layer `layer`, for windows of `tokens` tokens that start at position 0.
    pub fn new(
        config: &Config,
        layer: usize,
        weights: &LayerWeights,
        tokens: usize,
        device: &Device,
    ) -> Self {
        let kind = config.layers[layer];
        let half = config.head_dim / 2;
        let vector = |values: &[f32]| tensor([values.len()], values.to_vec(), device);
        let optional = |values: &Option<Vec<f32>>| values.as_deref().map(vector);
        let table = config.ropes[kind.rope].table(config.head_dim, tokens);
        let turns = |part: usize| {
            let values = table.iter().skip(part).step_by(2).copied().collect();
            tensor([tokens, half], values, device)
        };
        let window = kind.window.unwrap_or(tokens);
        let sees = |query: usize, key: usize| key <= query && query - key < window;
        let mask = |i: usize| {
            if sees(i / tokens, i % tokens) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        };
        Self {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            eps: config.norm_eps.into(),
            query_scale: config.query_scale.into(),
            activation: config.activation,
            attention_norm: vector(&weights.attention_norm),
            ffn_norm: vector(&weights.ffn_norm),
            post_attention: optional(&weights.post_attention),
            post_ffn: optional(&weights.post_ffn),
            q_norm: optional(&weights.q_norm),
            k_norm: optional(&weights.k_norm),
            biases: Linear::ALL.map(|linear| weights.bias(linear).map(vector)),
            cos: turns(0),
            sin: turns(1),
            mask: tensor(
                [tokens, tokens],
                (0..tokens * tokens).map(mask).collect(),
                device,
            ),
        }
    }

    /// The layer's output for its input, the residual streams `[windows, tokens, hidden]`.
    pub fn forward(&self, products: &Products, x: Tensor<3>) -> Tensor<3> {
        let h = rms_norm(x.clone(), &self.attention_norm, self.eps);
        let mut y = self.attention(products, h);
        if let Some(norm) = &self.post_attention {
            y = rms_norm(y, norm, self.eps);
        }
        let x = x + y;
        let h = rms_norm(x.clone(), &self.ffn_norm, self.eps);
        let gate = self.linear(products, Linear::Gate, h.clone());
        let up = self.linear(products, Linear::Up, h);
        let gate = match self.activation {
            Activation::Silu => activation::silu(gate),
            Activation::GeluTanh => gelu_tanh(gate),
        };
        let mut y = self.linear(products, Linear::Down, gate * up);
        if let Some(norm) = &self.post_ffn {
            y = rms_norm(y, norm, self.eps);
        }
        x + y
    }

    fn linear(&self, products: &Products, of: Linear, x: Tensor<3>) -> Tensor<3> {
        let [windows, tokens, cols] = x.dims();
        let weight = products[of as usize].clone();
        let [rows, _] = weight.dims();
        let y = x
            .reshape([windows * tokens, cols])
            .matmul(weight.transpose());
        let y = match &self.biases[of as usize] {
            Some(bias) => y + bias.clone().unsqueeze::<2>(),
            None => y,
        };
        y.reshape([windows, tokens, rows])
    }

    fn attention(&self, products: &Products, x: Tensor<3>) -> Tensor<3> {
        let [windows, tokens, _] = x.dims();
        let Self {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *self;
        let split = |x: Tensor<3>, heads: usize| -> Tensor<4> {
            x.reshape([windows, tokens, heads, head_dim])
                .swap_dims(1, 2)
        };
        let mut q = split(self.linear(products, Linear::Q, x.clone()), heads);
        let mut k = split(self.linear(products, Linear::K, x.clone()), kv_heads);
        let v = split(self.linear(products, Linear::V, x), kv_heads);
        for (x, norm) in [(&mut q, &self.q_norm), (&mut k, &self.k_norm)] {
            x.inplace(|mut x| {
                if let Some(norm) = norm {
                    x = rms_norm(x, norm, self.eps);
                }
                self.turn(x)
            });
        }
        // Consecutive query heads share a key head: one after the other, they are a longer query of that head.
        let long = [windows, kv_heads, heads / kv_heads * tokens, head_dim];
        let scores = q.reshape(long).matmul(k.transpose()) * self.query_scale;
        let scores =
            scores.reshape([windows, heads, tokens, tokens]) + self.mask.clone().unsqueeze();
        let shares = activation::softmax(scores, 3).reshape([long[0], long[1], long[2], tokens]);
        let mixed = shares
            .matmul(v)
            .reshape([windows, heads, tokens, head_dim])
            .swap_dims(1, 2)
            .reshape([windows, tokens, heads * head_dim]);
        self.linear(products, Linear::O, mixed)
    }

    /// Rotates the pairs `(i, i + head_dim / 2)` of every head.
    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let half = self.head_dim / 2;
        let a = x.clone().narrow(3, 0, half);
        let b = x.narrow(3, half, half);
        let cos: Tensor<4> = self.cos.clone().unsqueeze();
        let sin: Tensor<4> = self.sin.clone().unsqueeze();
        Tensor::cat(
            vec![
                a.clone() * cos.clone() - b.clone() * sin.clone(),
                b * cos + a * sin,
            ],
            3,
        )
    }
}

/// Divides each vector by its root mean square and multiplies by `weight`.
pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: &Tensor<1>, eps: f64) -> Tensor<D> {
    x.clone() / root_mean_square(x, eps) * weight.clone().unsqueeze()
}

/// The root mean square of each vector, with `eps` added to the mean square.
pub(crate) fn root_mean_square<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    (x.square().mean_dim(D - 1) + eps).sqrt()
}

/// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, with the cube multiplied out, because a power is slow.
fn gelu_tanh(x: Tensor<3>) -> Tensor<3> {
    let cubed = x.clone().square() * x.clone();
    let inner = (x.clone() + cubed * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
    x * 0.5 * (inner.tanh() + 1.0)
}

/// A tensor of values on a device.
pub(crate) fn tensor<const D: usize>(
    shape: [usize; D],
    values: Vec<f32>,
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The values of a tensor.
///
/// # Errors
/// [`Error::Device`].
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let read = tensor.try_into_vec_as::<f32>();
    read.map_err(|reason| Error::Device(format!("{reason:?}")))
}

#[cfg(test)]
pub(crate) mod tests;
