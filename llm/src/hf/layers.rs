//! Which layers see only a window, by the rules of each architecture.

use super::fields::Fields;
use crate::{config::Layer, error::Result, limits::MAX_POSITIONS};

/// One entry for each layer. `local` says whether windowed layers have a rotary embedding of their own.
pub(super) fn layers(
    config: &Fields<'_>,
    model_type: &str,
    count: usize,
    default_window: Option<usize>,
    local: bool,
) -> Result<Vec<Layer>> {
    let key = "sliding_window";
    let window = match (config.has(key), model_type) {
        (_, "llama") => None,
        (false, _) => default_window,
        (true, _) => config.size(key, MAX_POSITIONS)?,
    };
    let window = match model_type {
        "qwen2" | "qwen3" if !config.bool("use_sliding_window")?.unwrap_or(false) => None,
        _ => window,
    };
    let layer = |sliding: bool| Layer {
        rope: usize::from(sliding && local),
        window: window.filter(|_| sliding),
    };
    if let Some(types) = config.list("layer_types")? {
        if types.len() != count {
            let expected = format!("{count} entries, num_hidden_layers");
            return Err(config.wrong("layer_types", &types.len().into(), expected));
        }
        return types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(layer(false)),
                Some("sliding_attention") if window.is_none() => Err(config.wrong(
                    "layer_types",
                    kind,
                    "full_attention where no sliding_window is in use",
                )),
                Some("sliding_attention") => Ok(layer(true)),
                _ => {
                    let supported = "full_attention and sliding_attention";
                    Err(config.unsupported("layer_types", kind, supported))
                }
            })
            .collect();
    }
    // Either the last of every `every` layers sees everything, or windows begin at layer `first`.
    let (every, first) = match model_type {
        "gemma3" | "gemma3_text" => {
            // Not `_sliding_window_pattern`, which transformers writes beside `layer_types` and does not read.
            let every = config.size("sliding_window_pattern", MAX_POSITIONS)?;
            (Some(every.unwrap_or(6)), 0)
        }
        "qwen2" | "qwen3" => (None, first_window(config)?),
        _ => (None, 0),
    };
    let sliding = |i: usize| i >= first && every.is_none_or(|every| (i + 1) % every != 0);
    Ok((0..count)
        .map(|i| layer(window.is_some() && sliding(i)))
        .collect())
}

/// `max_window_layers`, the first layer that is windowed. Unlike a size, it may be 0.
fn first_window(config: &Fields<'_>) -> Result<usize> {
    let key = "max_window_layers";
    match config.get(key) {
        None => Ok(28),
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(first) => Ok(first),
            None => Err(config.wrong(key, value, "a whole number")),
        },
    }
}
