//! `config.json` with every value replaced.

use crate::files::{Folder, QWEN2, add_biases, config, shapes};
use lacuna_llm::Checkpoint;
use serde_json::{Value, json};

/// Every value of a configuration is replaced by values of every kind, which must give errors or models.
#[test]
fn no_mutation_panics() {
    let full = json!({
        "bos_token_id": 1, "eos_token_id": [2], "hidden_act": "silu", "sliding_window": 8,
        "layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": true,
        "max_window_layers": 1, "sliding_window_pattern": 2, "query_pre_attn_scalar": 4,
        "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 1e4,
        "rope_scaling": { "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192 },
        "rope_parameters": null, "text_config": null, "quantization_config": null,
    });
    let values = [
        Value::Null,
        json!(0),
        json!(1),
        json!(-1),
        json!(3),
        json!(2.5),
        json!(1e300),
        json!(u64::MAX),
        json!("linear"),
        json!("\u{1b}"),
        json!([]),
        json!([0]),
        json!({}),
        json!({ "rope_type": "linear", "factor": 1e-300 }),
        json!({ "full_attention": {} }),
        json!(true),
    ];
    for model_type in [
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma3_text",
        "gemma3",
    ] {
        let mut base = config(model_type);
        base.as_object_mut()
            .unwrap()
            .extend(full.as_object().unwrap().clone());
        let mut shapes = shapes(true);
        if model_type == "qwen2" {
            add_biases(&mut shapes, &QWEN2);
        }
        let folder = Folder::new(&base).tensors(&shapes);
        let keys: Vec<String> = base.as_object().unwrap().keys().cloned().collect();
        for key in keys {
            for value in &values {
                let mut json = base.clone();
                json[&key] = value.clone();
                folder.put("config.json", json.to_string().as_bytes());
                if let Err(e) = Checkpoint::open(folder.path()) {
                    let message = e.to_string();
                    assert!(!message.contains(char::is_control), "{message:?}");
                }
            }
        }
    }
}
