//! `config.json` of Hugging Face's checkpoints → [`Config`].

pub(crate) mod fields;
mod layers;
mod rope;
pub(crate) mod write;

use crate::{
    config::{Activation, Config, Linear},
    error::{Error, Result},
    limits::{self, MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, MAX_WIDTH},
};
use fields::{Fields, read_json};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

/// The values of `model_type` that are supported, for messages.
const MODEL_TYPES: &str = "llama, mistral, qwen2, qwen3, gemma3 and gemma3_text";

/// What an architecture's own code assumes where `config.json` is silent.
struct Defaults {
    heads: Option<usize>,
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab: Option<usize>,
    positions: usize,
    theta: f64,
    /// `theta` of windowed layers, if they have one of their own.
    local_theta: Option<f64>,
    window: Option<usize>,
    activation: &'static str,
    tied: bool,
    bos: Option<u32>,
    eos: Option<u32>,
}

const LLAMA: Defaults = Defaults {
    heads: None,
    kv_heads: None,
    head_dim: None,
    vocab: None,
    positions: 2048,
    theta: 10_000.0,
    local_theta: None,
    window: None,
    activation: "silu",
    tied: false,
    bos: Some(1),
    eos: Some(2),
};

const MISTRAL: Defaults = Defaults {
    kv_heads: Some(8),
    positions: 131_072,
    window: Some(4096),
    ..LLAMA
};

const QWEN: Defaults = Defaults {
    kv_heads: Some(32),
    positions: 32_768,
    window: Some(4096),
    bos: None,
    eos: None,
    ..LLAMA
};

const QWEN3: Defaults = Defaults {
    head_dim: Some(128),
    ..QWEN
};

const GEMMA3: Defaults = Defaults {
    heads: Some(8),
    kv_heads: Some(4),
    head_dim: Some(256),
    vocab: Some(262_208),
    positions: 131_072,
    theta: 1_000_000.0,
    local_theta: Some(10_000.0),
    window: Some(4096),
    activation: "gelu_pytorch_tanh",
    tied: true,
    bos: Some(2),
    eos: Some(1),
};

/// Reads a `config.json`.
pub(crate) fn read_config(file: &Path) -> Result<Config> {
    parse(file, &demanded(file)?)
}

fn demanded(file: &Path) -> Result<Value> {
    read_json(file)?.ok_or_else(|| Error::Malformed {
        file: file.into(),
        reason: "a model needs this file beside its weights, and it is not there".into(),
    })
}

/// Reads `config.json` of `folder`, and adds the end tokens of `generation_config.json`. Also gives the
/// [products with a bias](biased).
pub(crate) fn read(folder: &Path) -> Result<(Config, Vec<Linear>)> {
    let file = folder.join("config.json");
    let json = demanded(&file)?;
    let mut config = parse(&file, &json)?;
    let biased = biased(&file, &json)?;
    let file = folder.join("generation_config.json");
    if let Some(json) = read_json(&file)? {
        let ids = Fields::of(&file, &json)?.tokens("eos_token_id")?;
        let mut known: BTreeSet<u32> = config.eos.iter().copied().collect();
        let new = ids.into_iter().flatten().filter(|&id| known.insert(id));
        config.eos.extend(new);
    }
    Ok((config, biased))
}

/// The products of each layer that add a bias, by the configuration in `json` and its architecture.
pub(crate) fn biased(file: &Path, json: &Value) -> Result<Vec<Linear>> {
    let top = Fields::of(file, json)?;
    let text = top.object("text_config")?;
    let model_type = top.text("model_type")?.unwrap_or_default();
    let text = text.filter(|_| model_type == "gemma3").unwrap_or(top);
    let on = |key| Ok::<_, Error>(text.bool(key)?.unwrap_or(false));
    let (attention, mlp) = (on("attention_bias")?, on("mlp_bias")?);
    let has = |linear: &Linear| match (model_type, linear) {
        ("llama", Linear::Gate | Linear::Up | Linear::Down) => mlp,
        ("mistral", _) | (_, Linear::Gate | Linear::Up | Linear::Down) => false,
        ("qwen2", linear) => *linear != Linear::O,
        _ => attention,
    };
    Ok(Linear::ALL.into_iter().filter(has).collect())
}

/// Reads the configuration in `json`; `file` is for messages.
pub(crate) fn parse(file: &Path, json: &Value) -> Result<Config> {
    let top = Fields::of(file, json)?;
    let model_type = top
        .text("model_type")?
        .ok_or_else(|| top.missing("model_type"))?;
    let (text, defaults) = match model_type {
        "llama" => (top.clone(), LLAMA),
        "mistral" => (top.clone(), MISTRAL),
        "qwen2" => (top.clone(), QWEN),
        "qwen3" => (top.clone(), QWEN3),
        "gemma3_text" => (top.clone(), GEMMA3),
        "gemma3" => (
            top.object("text_config")?
                .ok_or_else(|| top.missing("text_config"))?,
            GEMMA3,
        ),
        other => return Err(top.unsupported("model_type", &other.into(), MODEL_TYPES)),
    };
    refuse_options(&top)?;
    refuse_options(&text)?;
    refuse_transforms(&top)?;
    let config = shape(&top, &text, model_type, &defaults)?;
    let keys = limits::Keys {
        heads: "num_attention_heads",
        kv_heads: "num_key_value_heads",
        head_dim: "head_dim",
    };
    limits::check(file, &config, &keys)?;
    Ok(config)
}

/// Refuses options that change what is computed and are not implemented. How weights are quantised is not
/// checked here: their tensors tell that.
fn refuse_options(config: &Fields<'_>) -> Result<()> {
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(cap) = config.get(key) {
            return Err(config.unsupported(key, cap, "null"));
        }
    }
    for key in ["num_local_experts", "num_experts", "n_routed_experts"] {
        if let Some(experts) = config.get(key).filter(|e| e.as_u64().is_none_or(|e| e > 1)) {
            return Err(config.unsupported(key, experts, "models without experts"));
        }
    }
    if let Some(value) = config
        .get("use_bidirectional_attention")
        .filter(|v| **v != Value::Bool(false))
    {
        return Err(config.unsupported("use_bidirectional_attention", value, "false"));
    }
    // Models of embeddings attend in both directions.
    if let Some(value) = config.get("is_causal").filter(|v| **v != Value::Bool(true)) {
        return Err(config.unsupported("is_causal", value, "true"));
    }
    if let Some(part) = config
        .get("partial_rotary_factor")
        .filter(|v| v.as_f64() != Some(1.0))
    {
        return Err(config.unsupported("partial_rotary_factor", part, "1"));
    }
    Ok(())
}

/// Refuses transforms that compressed-tensors applies while the model runs, such as Hadamard rotations of the
/// activations: the weights alone do not show them.
fn refuse_transforms(config: &Fields<'_>) -> Result<()> {
    for key in ["quantization_config", "compression_config"] {
        let Some(quantization) = config.object(key)? else {
            continue;
        };
        let groups = quantization.get("transform_config");
        let groups = groups.and_then(|c| c.get("config_groups")?.as_object());
        let applied = groups.into_iter().flat_map(serde_json::Map::values);
        let applied = applied.filter_map(|group| group.get("apply")?.as_array());
        for location in applied.flatten().filter_map(|apply| apply.get("location")) {
            if !matches!(location.as_str(), Some("weight_input" | "weight_output")) {
                let supported = "transforms of weights alone, weight_input and weight_output";
                return Err(quantization.unsupported("transform_config", location, supported));
            }
        }
    }
    Ok(())
}

fn shape(
    top: &Fields<'_>,
    text: &Fields<'_>,
    model_type: &str,
    defaults: &Defaults,
) -> Result<Config> {
    let gemma = model_type.starts_with("gemma3");
    let size = |key: &str, max, default| text.or(key, text.size(key, max)?, default);
    let hidden = size("hidden_size", MAX_WIDTH, None)?;
    let heads = size("num_attention_heads", MAX_HEADS, defaults.heads)?;
    let kv_heads = size(
        "num_key_value_heads",
        MAX_HEADS,
        // Null means one for each head, whatever the default.
        defaults
            .kv_heads
            .filter(|_| !text.has("num_key_value_heads"))
            .or(Some(heads)),
    )?;
    let stated = text.size("head_dim", MAX_HEAD_DIM)?;
    let head_dim = if let Some(head_dim) = stated.or(defaults.head_dim) {
        head_dim
    } else {
        let (hidden_key, heads_key) = ("hidden_size", "num_attention_heads");
        let (width, count) = ((hidden_key, hidden), (heads_key, heads));
        let derived = limits::derived_head_dim(text.file, width, count)?;
        limits::size(text.file, "head_dim", derived, MAX_HEAD_DIM)?
    };
    let max_positions = size(
        "max_position_embeddings",
        MAX_POSITIONS,
        Some(defaults.positions),
    )?;
    let count = size("num_hidden_layers", MAX_LAYERS, None)?;
    let ropes = rope::ropes(text, defaults)?;
    // Some files state the context before it is lengthened.
    let lengthened = ropes.full.scaling.positions().unwrap_or(0.0) as usize;
    let max_positions = max_positions.max(lengthened.min(MAX_POSITIONS));
    let layers = layers::layers(
        text,
        model_type,
        count,
        defaults.window,
        ropes.sliding.is_some(),
    )?;
    let query = if gemma {
        let key = "query_pre_attn_scalar";
        text.positive(key)?.unwrap_or(256.0)
    } else {
        head_dim as f64
    };
    // Transformers 5 heeds the outer object only.
    let tied = top.bool("tie_word_embeddings")?.unwrap_or(defaults.tied);
    Ok(Config {
        architecture: model_type.to_owned(),
        vocab: size("vocab_size", MAX_VOCAB, defaults.vocab)?,
        hidden,
        heads,
        kv_heads,
        head_dim,
        ffn: size("intermediate_size", MAX_WIDTH, None)?,
        layers,
        ropes: [Some(ropes.full), ropes.sliding]
            .into_iter()
            .flatten()
            .collect(),
        max_positions,
        norm_eps: text.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        norm_plus_one: gemma,
        post_norms: gemma,
        qk_norms: gemma || model_type == "qwen3",
        activation: activation(text, gemma, defaults.activation)?,
        query_scale: query.sqrt().recip() as f32,
        embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
        tied_head: tied,
        bos: token(top, text, "bos_token_id")?
            .unwrap_or_else(|| defaults.bos.into_iter().collect())
            .first()
            .copied(),
        eos: token(top, text, "eos_token_id")?
            .unwrap_or_else(|| defaults.eos.into_iter().collect()),
    })
}

/// Token ids under `key`, of the outer object if it has the key; `None` if neither has it.
fn token(top: &Fields<'_>, text: &Fields<'_>, key: &str) -> Result<Option<Vec<u32>>> {
    for fields in [top, text] {
        if fields.has(key) {
            return Ok(Some(fields.tokens(key)?.unwrap_or_default()));
        }
    }
    Ok(None)
}

fn activation(text: &Fields<'_>, gemma: bool, default: &str) -> Result<Activation> {
    // Gemma's code reads only hidden_activation and ignores hidden_act.
    let key = if gemma {
        "hidden_activation"
    } else {
        "hidden_act"
    };
    match text.text(key)?.unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        other => Err(text.unsupported(key, &other.into(), "silu and gelu_pytorch_tanh")),
    }
}
