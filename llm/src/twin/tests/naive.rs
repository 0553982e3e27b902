//! The forward pass once more, as its formulas are written: for each token everything before it is
//! recomputed, in f64 throughout.

use super::{close, gemma, ids, lengthened, llama, random};
use crate::{
    config::{Activation, Linear},
    twin::Twin,
    weights::{LayerWeights, Weights},
};
use lacuna::{format::Matrix, verify::Random};
use std::sync::Arc;

type Vector = Vec<f64>;

fn times(w: &Matrix, x: &Vector) -> Vector {
    (0..w.rows())
        .map(|row| w.entries(row).map(|e| f64::from(e.value) * x[e.col]).sum())
        .collect()
}

fn norm(x: &[f64], weight: &[f32], eps: f32) -> Vector {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let rms = (mean + f64::from(eps)).sqrt();
    x.iter()
        .zip(weight)
        .map(|(x, &w)| x / rms * f64::from(w))
        .collect()
}

fn optional(x: &Vector, weight: Option<&Vec<f32>>, eps: f32) -> Vector {
    weight.map_or(x.clone(), |w| norm(x, w, eps))
}

fn plus(x: &Vector, y: &Vector) -> Vector {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

fn linear(layer: &LayerWeights, which: Linear, x: &Vector) -> Vector {
    let y = times(layer.linear(which), x);
    match layer.bias(which) {
        None => y,
        Some(bias) => y.iter().zip(bias).map(|(y, &b)| y + f64::from(b)).collect(),
    }
}

struct Naive<'a>(&'a Weights);

impl Naive<'_> {
    /// Head `head` of q or k at `position`, normed and rotated.
    fn head(&self, n: usize, which: Linear, x: &Vector, head: usize, position: usize) -> Vector {
        let (c, layer) = (&self.0.config, &self.0.layers[n]);
        let all = linear(layer, which, x);
        let x = all[head * c.head_dim..][..c.head_dim].to_vec();
        let weight = if which == Linear::Q {
            &layer.q_norm
        } else {
            &layer.k_norm
        };
        let x = optional(&x, weight.as_ref(), c.norm_eps);
        let half = c.head_dim / 2;
        let rope = c.ropes[c.layers[n].rope];
        let frequencies = rope.frequencies(c.head_dim);
        (0..c.head_dim)
            .map(|i| {
                let angle = position as f64 * frequencies[i % half];
                let other = if i < half { -x[i + half] } else { x[i - half] };
                rope.attention() * (x[i] * angle.cos() + other * angle.sin())
            })
            .collect()
    }

    /// The residual streams of all tokens after layer `n`.
    fn layer(&self, n: usize, xs: &[Vector]) -> Vec<Vector> {
        let (c, layer) = (&self.0.config, &self.0.layers[n]);
        let eps = c.norm_eps;
        let hs: Vec<Vector> = xs
            .iter()
            .map(|x| norm(x, &layer.attention_norm, eps))
            .collect();
        let step = |p: usize| {
            let mut mixed = vec![];
            for head in 0..c.heads {
                let kv = head * c.kv_heads / c.heads;
                let q = self.head(n, Linear::Q, &hs[p], head, p);
                let sees = |s: &usize| c.layers[n].window.is_none_or(|w| p - s < w);
                let seen: Vec<usize> = (0..=p).filter(sees).collect();
                let weights: Vec<f64> = seen
                    .iter()
                    .map(|&s| {
                        let k = self.head(n, Linear::K, &hs[s], kv, s);
                        let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                        (dot * f64::from(c.query_scale)).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for i in 0..c.head_dim {
                    let value = |s| linear(layer, Linear::V, &hs[s])[kv * c.head_dim + i];
                    let sum: f64 = seen.iter().zip(&weights).map(|(&s, w)| w * value(s)).sum();
                    mixed.push(sum / total);
                }
            }
            let y = linear(layer, Linear::O, &mixed);
            let x = plus(&xs[p], &optional(&y, layer.post_attention.as_ref(), eps));
            let h = norm(&x, &layer.ffn_norm, eps);
            let act = |x: f64| match c.activation {
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::GeluTanh => {
                    let u = 0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x);
                    0.5 * x * (1.0 + u.tanh())
                }
            };
            let gate = linear(layer, Linear::Gate, &h);
            let up = linear(layer, Linear::Up, &h);
            let product = gate.iter().zip(up).map(|(&g, u)| act(g) * u).collect();
            let y = linear(layer, Linear::Down, &product);
            plus(&x, &optional(&y, layer.post_ffn.as_ref(), eps))
        };
        (0..xs.len()).map(step).collect()
    }

    fn logits(&self, ids: &[u32]) -> Vector {
        let c = &self.0.config;
        let embed = |&id: &u32| -> Vector {
            let row = self.0.embedding.entries(id as usize);
            row.map(|e| f64::from(e.value) * f64::from(c.embedding_scale))
                .collect()
        };
        let mut xs: Vec<Vector> = ids.iter().map(embed).collect();
        for n in 0..c.layers.len() {
            xs = self.layer(n, &xs);
        }
        let last = |x: &Vector| times(self.0.head(), &norm(x, &self.0.final_norm, c.norm_eps));
        xs.iter().flat_map(last).collect()
    }
}

fn compare(weights: Weights) {
    let ids = ids(13);
    let expected = Naive(&weights).logits(&ids);
    let got = Twin::new(Arc::new(weights)).unwrap().forward(&ids).unwrap();
    let largest = expected.iter().fold(0f64, |m, l| m.max(l.abs()));
    assert!(largest > 0.5, "logits of {largest} show nothing");
    // Tens of roundings of 2⁻²⁴ each, on values of this size.
    close(&got, &expected, 3e-6 * largest);
}

#[test]
fn llama_agrees_with_the_formulas() {
    compare(random(llama(), "f32"));
    compare(random(llama(), "2:4@f16"));
}

#[test]
fn biases_are_added_to_every_product() {
    let mut weights = random(llama(), "1:2x2@bf16");
    let mut random = Random(21);
    for layer in &mut weights.layers {
        for (bias, matrix) in layer.biases.iter_mut().zip(&layer.linears) {
            *bias = Some(random.vector(matrix.rows()));
        }
    }
    compare(weights);
}

#[test]
fn a_lengthened_context_agrees_with_the_formulas() {
    compare(random(lengthened(), "f32"));
}

#[test]
fn gemma_agrees_with_the_formulas() {
    compare(random(gemma(), "bf16"));
    let mut wide = gemma();
    wide.heads = 3;
    wide.kv_heads = 1;
    compare(random(wide, "3:5"));
}
