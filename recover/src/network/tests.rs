use super::*;
use crate::trainable::{Trainable, Trained};
use lacuna::verify::Random;
use lacuna_llm::{Recipe, Weights, blocks::Blocks};

/// Configurations as checkpoints write them, which together have everything that a layer can have.
pub(crate) fn config(kind: &str) -> Config {
    let own = match kind {
        "llama" => {
            r#""model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 4.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}"#
        }
        "mistral" => r#""model_type": "mistral", "sliding_window": 7"#,
        "qwen2" => {
            r#""model_type": "qwen2", "rope_scaling": {"rope_type": "linear", "factor": 2.0}"#
        }
        "qwen3" => r#""model_type": "qwen3""#,
        _ => {
            r#""model_type": "gemma3_text", "sliding_window": 5, "sliding_window_pattern": 2,
            "rope_local_base_freq": 100.0, "query_pre_attn_scalar": 12,
            "hidden_activation": "gelu_pytorch_tanh", "vocab_size": 31"#
        }
    };
    let act = if kind == "gemma" {
        ""
    } else {
        r#""hidden_act": "silu", "vocab_size": 31,"#
    };
    let text = format!(
        r#"{{ {act} {own}, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1000.0,
        "tie_word_embeddings": true }}"#
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::from_json_file(file.path()).unwrap()
}

pub(crate) const KINDS: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "gemma"];

/// A random model, with biases where the architecture has them.
pub(crate) fn weights(kind: &str) -> Weights {
    let config = config(kind);
    let mut weights = Weights::random(config.clone(), 11, "f32".parse().unwrap()).unwrap();
    if kind == "qwen2" {
        for layer in &mut weights.layers {
            for linear in [Linear::Q, Linear::K, Linear::V] {
                let [rows, _] = config.shape(linear);
                layer.biases[linear as usize] = Some(Random(5).vector(rows));
            }
        }
    }
    weights
}

fn products(weights: &LayerWeights, device: &Device) -> Products {
    Linear::ALL.map(|linear| {
        let matrix = weights.linear(linear);
        let trainable = Trainable::from_matrix(matrix, Trained::Values).unwrap();
        tensor([matrix.rows(), matrix.cols()], trainable.weight(), device)
    })
}

const TOKENS: usize = 20;

/// A layer's output for a stream, by the CPU twin.
fn twin(weights: &Weights, layer: usize, stream: &[f32]) -> Vec<f32> {
    let mut blocks = Blocks::new(None, &weights.config, TOKENS).unwrap();
    let mut block = blocks.load(weights, &Recipe::default(), layer).unwrap();
    let mut y = stream.to_vec();
    y.chunks_mut(TOKENS * weights.config.hidden)
        .for_each(|window| block.run(window).unwrap());
    y
}

#[test]
fn a_layer_gives_what_the_twin_gives() {
    let device = Device::flex();
    for kind in KINDS {
        let weights = weights(kind);
        let hidden = weights.config.hidden;
        for layer in 0..2 {
            let x = Random(7).vector(3 * TOKENS * hidden);
            let expected = twin(&weights, layer, &x);
            let of_layer = &weights.layers[layer];
            let frame = Frame::new(&weights.config, layer, of_layer, TOKENS, &device);
            let products = products(of_layer, &device);
            let y = frame.forward(&products, tensor([3, TOKENS, hidden], x, &device));
            for (i, (got, expected)) in values(y).unwrap().iter().zip(&expected).enumerate() {
                let error = (got - expected).abs();
                assert!(error <= 2e-5, "{kind} {layer} {i}: {got} {expected}");
            }
        }
    }
}

/// Against finite differences of the twin, whose sums are in f64, along random directions.
#[test]
fn gradients_are_those_of_differences() {
    let device = Device::flex().autodiff();
    for kind in KINDS {
        let weights = weights(kind);
        let hidden = weights.config.hidden;
        let of_layer = &weights.layers[0];
        let frame = Frame::new(&weights.config, 0, of_layer, TOKENS, &device);
        let x = Random(7).vector(TOKENS * hidden);
        let towards = Random(9).vector(TOKENS * hidden);
        let products = products(of_layer, &device).map(Tensor::require_grad);
        let stream = tensor([1, TOKENS, hidden], x.clone(), &device).require_grad();
        let y = frame.forward(&products, stream.clone());
        let loss = (y * tensor([1, TOKENS, hidden], towards.clone(), &device)).sum();
        let gradients = loss.backward();
        let loss = |weights: &Weights, x: &[f32]| -> f64 {
            let y = twin(weights, 0, x);
            let products = y.iter().zip(&towards);
            products.map(|(y, t)| f64::from(*y) * f64::from(*t)).sum()
        };
        let check = |name: &str, gradient: Vec<f32>, direction: &[f32], ends: [f64; 2], h: f32| {
            let along = gradient.iter().zip(direction);
            let got: f64 = along.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let expected = (ends[1] - ends[0]) / f64::from(2.0 * h);
            let error = (got - expected).abs();
            assert!(
                error <= 3e-3 * expected.abs().max(1.0),
                "{kind} {name}: {got} {expected}"
            );
        };
        let h = 2e-3;
        for linear in Linear::ALL {
            let [rows, cols] = weights.config.shape(linear);
            let direction = Random(linear as u64).vector(rows * cols);
            let ends = [-h, h].map(|h| {
                let mut moved = weights.clone();
                let values = of_layer.linear(linear).to_dense().values().to_f32();
                let values = values
                    .iter()
                    .zip(&direction)
                    .map(|(w, d)| w + h * d)
                    .collect();
                moved.layers[0].linears[linear as usize] =
                    lacuna::format::Dense::from_f32(rows, cols, values)
                        .unwrap()
                        .into();
                loss(&moved, &x)
            });
            let gradient = products[linear as usize].grad(&gradients).unwrap();
            check(
                linear.name(),
                values(gradient).unwrap(),
                &direction,
                ends,
                h,
            );
        }
        let direction = Random(77).vector(x.len());
        let ends = [-h, h].map(|h| {
            let moved: Vec<f32> = x.iter().zip(&direction).map(|(x, d)| x + h * d).collect();
            loss(&weights, &moved)
        });
        let gradient = values(stream.grad(&gradients).unwrap()).unwrap();
        check("stream", gradient, &direction, ends, h);
    }
}
