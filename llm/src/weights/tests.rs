use super::*;
use crate::config::{Activation, Layer, Rope, RopeScaling};

fn config() -> Config {
    Config {
        architecture: "test".into(),
        vocab: 50,
        hidden: 32,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        ffn: 64,
        layers: vec![
            Layer {
                rope: 0,
                window: None
            };
            2
        ],
        ropes: vec![Rope {
            theta: 1e4,
            scaling: RopeScaling::None,
        }],
        max_positions: 64,
        norm_eps: 1e-6,
        norm_plus_one: false,
        post_norms: true,
        qk_norms: true,
        activation: Activation::Silu,
        query_scale: 8f32.powf(-0.5),
        embedding_scale: 1.0,
        tied_head: false,
        bos: None,
        eos: vec![],
    }
}

fn random(format: &str) -> Weights {
    Weights::random(config(), 1, format.parse().unwrap()).unwrap()
}

#[test]
fn random_weights_repeat_and_are_valid() {
    for format in ["f32", "bf16", "2:4@f16", "1:4x8"] {
        let weights = random(format);
        weights.check().unwrap();
        assert_eq!(weights, random(format));
        let other = Weights::random(config(), 2, format.parse().unwrap()).unwrap();
        assert_ne!(weights, other);
        assert_ne!(weights.layers[0], weights.layers[1]);
        let q = weights.layers[0].linear(Linear::Q).format().to_string();
        assert_eq!(q.replace("@f32", ""), format);
    }
}

#[test]
fn products_keep_the_mean_square() {
    let q = random("f32").layers[0].linear(Linear::Q).to_dense();
    let squares: f64 = (0..q.rows() * q.cols())
        .map(|i| f64::from(q.values().get(i)).powi(2))
        .sum();
    // Each output sums 32 products of variance 1/32.
    assert!((squares / q.rows() as f64 - 1.0).abs() < 0.1);
}

/// The error of each change names what it breaks.
#[test]
fn every_shape_is_checked() {
    type Change = fn(&mut Weights);
    let changes: [(&str, Change); 22] = [
        ("vocabulary", |w| w.config.vocab = 0),
        ("key-value heads", |w| w.config.kv_heads = 0),
        ("query heads left over by the key-value heads", |w| {
            w.config.kv_heads = 3;
        }),
        ("odd elements of a head", |w| w.config.head_dim = 7),
        ("layer 1 rotary embedding", |w| w.config.layers[1].rope = 1),
        ("layer 0 window", |w| w.config.layers[0].window = Some(0)),
        ("rotary embeddings", |w| w.config.ropes.clear()),
        ("embedding rows", |w| w.config.vocab = 51),
        ("untied heads", |w| w.head = None),
        ("untied heads", |w| w.config.tied_head = true),
        ("head columns", |w| {
            w.head = Some(w.layers[0].linears[6].clone());
            w.config.vocab = 32;
            w.embedding = w.layers[0].linears[0].clone();
        }),
        ("final norm elements", |w| w.final_norm.push(1.0)),
        ("layers", |w| w.layers.truncate(1)),
        ("layer 0 self_attn.k_proj rows", |w| {
            w.layers[0].linears[1] = w.layers[0].linears[0].clone();
        }),
        ("layer 1 mlp.up_proj bias elements", |w| {
            w.layers[1].biases[Linear::Up as usize] = Some(vec![0.0; 63]);
        }),
        ("layer 0 attention norm elements", |w| {
            w.layers[0].attention_norm.clear();
        }),
        ("layer 0 feed-forward norm elements", |w| {
            w.layers[0].ffn_norm.clear();
        }),
        ("layer 1 norm after attention elements", |w| {
            w.layers[1].post_attention = None;
        }),
        ("layer 1 norm after the feed-forward elements", |w| {
            w.layers[1].post_ffn = Some(vec![]);
        }),
        ("layer 0 norm after attention elements", |w| {
            w.config.post_norms = false;
        }),
        ("layer 0 query norm elements", |w| w.layers[0].q_norm = None),
        ("layer 0 key norm elements", |w| {
            w.layers[0].k_norm = Some(vec![1.0; 9]);
        }),
    ];
    for (expected, change) in changes {
        let mut weights = random("f32");
        change(&mut weights);
        match weights.check() {
            Err(Error::Shape { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn an_order_of_linears_is_the_order_of_all() {
    for (n, linear) in Linear::ALL.into_iter().enumerate() {
        assert_eq!(linear as usize, n);
    }
}
