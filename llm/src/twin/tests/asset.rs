//! The trained model in `assets/shakespeare`.

use crate::{
    config::{Activation, Config, EMBEDDING, Layer, Linear, Rope, RopeScaling},
    perplexity::{Perplexity, Windows, nll},
    twin::Twin,
    weights::{LayerWeights, Weights},
};
use lacuna::compress::compress;
use lacuna_io::WeightFile;
use std::{path::PathBuf, sync::Arc};

/// Bits per byte of the whole held-out text in `training.log`, dense and pruned 2:4, by float32
/// arithmetic of `PyTorch`, printed to four places.
const RECORDED: [f64; 2] = [2.1112, 2.2457];
/// Bits per byte of its first six windows by `oracle.py --windows 6`, dense and `--prune 2:4`.
const SIX_WINDOWS: [f64; 2] = [2.442_088, 2.601_676];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets/shakespeare")
}

fn config() -> Config {
    Config {
        architecture: "llama".into(),
        vocab: 256,
        hidden: 256,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ffn: 768,
        layers: vec![
            Layer {
                rope: 0,
                window: None
            };
            4
        ],
        ropes: vec![Rope {
            theta: 1e4,
            scaling: RopeScaling::None,
        }],
        max_positions: 256,
        norm_eps: 1e-5,
        norm_plus_one: false,
        post_norms: false,
        qk_norms: false,
        activation: Activation::Silu,
        query_scale: 0.125,
        embedding_scale: 1.0,
        tied_head: true,
        bos: None,
        eos: vec![],
    }
}

/// The model with its products in `format`.
fn weights(format: &str) -> Weights {
    let format = format.parse().unwrap();
    let file = WeightFile::open(folder().join("model.safetensors")).unwrap();
    let config = config();
    let norm = |name: String| file.f32_tensor(&name).unwrap().values;
    let layer = |n: usize| LayerWeights {
        linears: Linear::ALL.map(|linear| {
            let matrix = file.weight(&linear.module(n)).unwrap();
            compress(&matrix.to_dense(), format).unwrap()
        }),
        biases: [const { None }; 7],
        attention_norm: norm(format!("model.layers.{n}.input_layernorm.weight")),
        ffn_norm: norm(format!("model.layers.{n}.post_attention_layernorm.weight")),
        post_attention: None,
        post_ffn: None,
        q_norm: None,
        k_norm: None,
    };
    Weights {
        embedding: file.weight(EMBEDDING).unwrap(),
        head: None,
        final_norm: norm("model.norm.weight".into()),
        layers: (0..config.layers.len()).map(layer).collect(),
        config,
    }
}

fn text() -> Vec<u32> {
    let bytes = std::fs::read(folder().join("heldout.txt")).unwrap();
    bytes.into_iter().map(u32::from).collect()
}

/// Bits per byte as `train.py` counts them: each window predicts 256 bytes from the 256 that start one
/// byte earlier, so that every byte of the text but the first is predicted once.
fn bits_per_byte(format: &str, windows: usize) -> f64 {
    let mut twin = Twin::new(Arc::new(weights(format))).unwrap();
    let mut sum = Perplexity::default();
    for window in Windows::new(&text(), 257, Some(256), None)
        .unwrap()
        .take(windows)
    {
        twin.reset();
        let logits = twin.forward(window.inputs()).unwrap();
        for position in window.scored {
            let logits = &logits[(position - 1) * 256..][..256];
            sum.add(nll(logits, window.ids[position]).unwrap());
        }
    }
    sum.bits_per_byte(sum.tokens())
}

/// Tokens are bytes, and the mean is good to about 10⁻⁷, so it must agree with the oracle's six printed
/// places to one unit of the last.
#[test]
fn six_windows_agree_with_the_oracle() {
    for (format, expected) in ["bf16", "2:4@bf16"].into_iter().zip(SIX_WINDOWS) {
        let bits = bits_per_byte(format, 6);
        assert!((bits - expected).abs() < 1e-6, "{format}: {bits:.7}");
    }
}

/// Four printed places leave 5 · 10⁻⁵ open; as much again is allowed for the float32 sums of `PyTorch`.
#[test]
#[ignore = "98 kB of text take a minute or more"]
fn the_whole_text_agrees_with_the_training_log() {
    for (format, expected) in ["bf16", "2:4@bf16"].into_iter().zip(RECORDED) {
        let bits = bits_per_byte(format, usize::MAX);
        println!("{format}: {bits:.6} bits per byte, recorded {expected}");
        assert!((bits - expected).abs() < 1e-4, "{format}: {bits:.6}");
    }
}

/// `LACUNA_ORACLE` names the file that `assets/oracle.py --dump` wrote.
#[test]
#[ignore = "needs a dump of assets/oracle.py"]
fn oracle_logits_agree() {
    let path = std::env::var_os("LACUNA_ORACLE").expect("LACUNA_ORACLE names a dump");
    let bytes = std::fs::read(path).unwrap();
    let expected: Vec<f64> = bytes
        .chunks_exact(8)
        .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let tokens = expected.len() / 256;
    let mut weights = weights("bf16");
    weights.config.max_positions = tokens;
    let mut twin = Twin::new(Arc::new(weights)).unwrap();
    let start = std::time::Instant::now();
    let logits = twin.forward(&text()[..tokens]).unwrap();
    let took = start.elapsed();
    let error = |(&a, &b): (&f32, &f64)| (f64::from(a) - b).abs();
    let worst = logits.iter().zip(&expected).map(error).fold(0.0, f64::max);
    let largest = expected.iter().fold(0f64, |m, l| m.max(l.abs()));
    println!("{tokens} tokens in {took:?}: at most {worst:e} apart, logits up to {largest}");
    assert!(worst < 1e-4);
}
