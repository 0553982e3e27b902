//! The tensors that a configuration demands, and their shapes.

use crate::{
    config::{Config, EMBEDDING, HEAD, Linear},
    error::{Error, Result},
};

/// The norms of one layer, by their names in it.
fn layer_norms(config: &Config) -> Vec<&'static str> {
    let mut norms = vec!["input_layernorm", "post_attention_layernorm"];
    if config.post_norms {
        norms.extend(["pre_feedforward_layernorm", "post_feedforward_layernorm"]);
    }
    if config.qk_norms {
        norms.extend(["self_attn.q_norm", "self_attn.k_norm"]);
    }
    norms
}

/// The modules of all norms.
pub(super) fn norms(config: &Config) -> Vec<String> {
    let mut norms = vec!["model.norm".to_owned()];
    for layer in 0..config.layers.len() {
        let names = layer_norms(config).into_iter();
        norms.extend(names.map(|name| format!("model.layers.{layer}.{name}")));
    }
    norms
}

/// Which product of its layer `module` is, if it is one.
pub(super) fn linear(config: &Config, module: &str) -> Option<Linear> {
    let (_, part) = layer_part(config, module)?;
    Linear::ALL.into_iter().find(|linear| linear.name() == part)
}

/// The layer of `module`, and its name in that layer.
fn layer_part<'a>(config: &Config, module: &'a str) -> Option<(usize, &'a str)> {
    let (layer, part) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let number: usize = layer.parse().ok()?;
    // "+1" and "01" parse too, but are not names of layers.
    (number < config.layers.len() && number.to_string() == layer).then_some((number, part))
}

fn unknown(what: &'static str, name: &str) -> Error {
    Error::UnknownModule {
        what,
        name: name.into(),
    }
}

/// `[rows, cols]` of a weight.
pub(super) fn weight_shape(config: &Config, module: &str) -> Result<[usize; 2]> {
    match module {
        EMBEDDING | HEAD => Ok([config.vocab, config.hidden]),
        _ => linear(config, module)
            .map(|linear| config.shape(linear))
            .ok_or_else(|| unknown("weight", module)),
    }
}

/// Elements of a norm.
pub(super) fn norm_len(config: &Config, name: &str) -> Result<usize> {
    if name == "model.norm" {
        return Ok(config.hidden);
    }
    match layer_part(config, name) {
        Some((_, part)) if !layer_norms(config).contains(&part) => None,
        Some((_, part)) if part.starts_with("self_attn.") => Some(config.head_dim),
        Some(_) => Some(config.hidden),
        None => None,
    }
    .ok_or_else(|| unknown("norm", name))
}

/// Elements of a bias, `P.bias`.
pub(super) fn bias_len(config: &Config, name: &str) -> Result<usize> {
    let module = name.strip_suffix(".bias");
    let shape = module.map(|module| weight_shape(config, module));
    match shape {
        Some(Ok([rows, _])) => Ok(rows),
        _ => Err(unknown("bias", name)),
    }
}
