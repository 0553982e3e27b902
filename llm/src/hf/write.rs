//! [`Config`] → `config.json`, for models that come from files of another kind.

use super::{biased, parse};
use crate::{
    config::{Activation, Config, Linear, RopeScaling},
    error::{Error, Result},
};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The `config.json` of a model whose products `with_bias` have biases. `file` is where the model comes from, for error
/// messages.
///
/// # Errors
/// [`Error::Unsupported`] if reading the result would give another model.
pub(crate) fn to_json(file: &Path, config: &Config, with_bias: &[Linear]) -> Result<Value> {
    let mut fields = fields(config);
    for linear in with_bias {
        let mlp = matches!(linear, Linear::Gate | Linear::Up | Linear::Down);
        let key = if mlp { "mlp_bias" } else { "attention_bias" };
        fields.insert(key.into(), true.into());
    }
    let json = Value::Object(fields);
    let granted = biased(file, &json)?;
    if let Some(denied) = with_bias.iter().find(|linear| !granted.contains(linear)) {
        let (model_type, _) = model_type(config);
        let key = format!("{}.bias", denied.name());
        let supported =
            format!("no bias there for {model_type}, whose config.json cannot state it");
        return Err(Error::unsupported(file, key, "in the model", supported));
    }
    let read = parse(file, &json)?;
    // The architecture decides how norms are stored, and whoever writes them follows it, so neither is
    // compared.
    let expected = Config {
        architecture: read.architecture.clone(),
        norm_plus_one: read.norm_plus_one,
        ..config.clone()
    };
    if read == expected {
        return Ok(json);
    }
    Err(Error::unsupported(
        file,
        "config.json",
        format_args!("{read:?}"),
        format!("{expected:?}"),
    ))
}

/// The `model_type` of this configuration, and whether its norms are stored as w, meaning 1 + w.
pub(crate) fn model_type(config: &Config) -> (&str, bool) {
    let windows = config.layers.iter().any(|layer| layer.window.is_some());
    match config.architecture.as_str() {
        "gemma3" | "gemma3_text" => ("gemma3_text", true),
        "llama" if windows => ("mistral", false),
        other => (other, false),
    }
}

fn fields(config: &Config) -> Map<String, Value> {
    let (model_type, gemma) = model_type(config);
    let mut json = json!({
        "model_type": model_type,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers.len(),
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": shortest(config.norm_eps),
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": config.bos,
        // An empty list would be an end that generation looks for in vain.
        "eos_token_id": Some(&config.eos).filter(|eos| !eos.is_empty()),
    });
    let activation = match config.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    let key = if gemma {
        "hidden_activation"
    } else {
        "hidden_act"
    };
    json[key] = activation.into();
    if gemma {
        let scalar = f64::from(config.query_scale).powi(-2);
        let whole = scalar.round();
        // Undoes the rounding of the square root: the number under it is whole in every model.
        let near = (scalar - whole).abs() < 1e-5 * whole;
        json["query_pre_attn_scalar"] = if near {
            (whole as u64).into()
        } else {
            scalar.into()
        };
    }

    let window = config.layers.iter().find_map(|layer| layer.window);
    if window.is_some() || model_type == "mistral" {
        json["sliding_window"] = window.into();
    }
    if window.is_some() {
        let kind = |window: Option<usize>| match window {
            Some(_) => "sliding_attention",
            None => "full_attention",
        };
        json["layer_types"] = config.layers.iter().map(|l| kind(l.window)).collect();
    }

    if let Some(rope) = config.ropes.first() {
        json["rope_theta"] = rope.theta.into();
        json["rope_scaling"] = match rope.scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear(factor) => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }),
            RopeScaling::Yarn {
                factor,
                fast,
                slow,
                original,
                attention,
            } => json!({
                "rope_type": "yarn",
                "factor": factor,
                "beta_fast": fast,
                "beta_slow": slow,
                "original_max_position_embeddings": original,
                "attention_factor": attention,
            }),
        };
    }
    if let Some(local) = config.ropes.get(1) {
        json["rope_local_base_freq"] = local.theta.into();
    }
    match json {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The shortest decimal number that rounds to `value` in f32.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that what is written is read as the same model. `json` may leave out what has a default.
    fn survives(json: &Value) -> Value {
        let file = Path::new("config.json");
        let config = parse(file, json).expect("a configuration");
        let written = to_json(file, &config, &[]).expect("it can be written");
        assert_eq!(parse(file, &written).expect("it is read again"), config);
        written
    }

    fn with(fields: &Value) -> Value {
        let mut json = json!({
            "model_type": "llama", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 2,
        });
        for (key, value) in fields.as_object().expect("fields") {
            json[key] = value.clone();
        }
        json
    }

    #[test]
    fn every_architecture_survives_writing() {
        let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        for fields in [
            json!({"rope_scaling": llama3, "eos_token_id": [3, 4], "rms_norm_eps": 1e-5}),
            json!({"bos_token_id": null, "tie_word_embeddings": true}),
            json!({"model_type": "mistral"}),
            json!({"model_type": "mistral", "sliding_window": null}),
            json!({"model_type": "qwen2", "rope_scaling": {"type": "linear", "factor": 2.0}}),
            json!({"model_type": "qwen3", "rope_theta": 1e6}),
            json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}}),
            json!({"model_type": "gemma3_text", "query_pre_attn_scalar": 168, "sliding_window": 512}),
        ] {
            survives(&with(&fields));
        }
    }

    #[test]
    fn numbers_stay_as_people_wrote_them() {
        let fields = json!({"model_type": "gemma3_text", "rms_norm_eps": 1e-6});
        let written = survives(&with(&fields));
        assert_eq!(written["rms_norm_eps"], 1e-6);
        assert_eq!(
            written["query_pre_attn_scalar"], 256,
            "Gemma's class takes integers alone"
        );
    }
}
