//! Rotary embeddings as GGUF metadata describe them.

use super::Keys;
use crate::{
    config::{Rope, RopeScaling},
    error::{Error, Result},
    limits::MAX_POSITIONS,
};

/// Divisors of the frequencies, which Llama 3's files hold in place of the rule that gave them.
const FACTORS: &str = "rope_freqs.weight";

/// The constants of every Llama 3 that scales: low factor, high factor and original context.
const LLAMA3: (f64, f64, f64) = (1.0, 4.0, 8192.0);

/// The rotary embedding of full attention and, for Gemma 3, that of windowed layers.
pub(super) fn ropes(keys: &Keys<'_>, head_dim: usize) -> Result<Vec<Rope>> {
    let gemma = keys.architecture == "gemma3";
    let default = if gemma { 1_000_000.0 } else { 10_000.0 };
    let theta = keys.positive("rope.freq_base")?.unwrap_or(default);
    let plain = Rope {
        theta,
        scaling: RopeScaling::None,
    };
    let (factors, scaling) = (factors(keys, plain, head_dim)?, scaling(keys)?);
    if factors.is_some() && scaling != RopeScaling::None {
        // llama.cpp applies both.
        return Err(Error::unsupported(
            keys.path(),
            FACTORS,
            "stored beside another scaling",
            "one of it and rope.scaling",
        ));
    }
    let full = Rope {
        theta,
        scaling: factors.unwrap_or(scaling),
    };
    let mut ropes = vec![full];
    if gemma {
        ropes.push(Rope {
            theta: keys.positive("rope.freq_base_swa")?.unwrap_or(10_000.0),
            scaling: RopeScaling::None,
        });
    }
    Ok(ropes)
}

fn scaling(keys: &Keys<'_>) -> Result<RopeScaling> {
    let factor = match keys.positive("rope.scaling.factor")? {
        // The key of older files.
        None => keys.positive("rope.scale_linear")?,
        factor => factor,
    };
    match (keys.find("rope.scaling.type")?, factor) {
        (Some("linear" | "yarn"), None) => Err(keys.missing("rope.scaling.factor")),
        (Some("none"), _) | (None, None) | (Some("linear") | None, Some(1.0)) => {
            Ok(RopeScaling::None)
        }
        (Some("linear") | None, Some(factor)) => Ok(RopeScaling::Linear(factor)),
        (Some("yarn"), Some(factor)) => {
            let original = keys.required("rope.scaling.original_context_length", MAX_POSITIONS)?;
            let times = keys.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
            Ok(RopeScaling::Yarn {
                factor,
                fast: keys
                    .positive("rope.scaling.yarn_beta_fast")?
                    .unwrap_or(32.0),
                slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                original: original as f64,
                attention: times * RopeScaling::yarn_attention(factor, 1.0),
            })
        }
        (Some(other), _) => {
            let supported = "none, linear, yarn, and Llama 3's factors";
            Err(keys.unsupported("rope.scaling.type", other, supported))
        }
    }
}

/// Recovers Llama 3's rule from the divisors that it gave, and refuses divisors of another rule.
fn factors(keys: &Keys<'_>, plain: Rope, head_dim: usize) -> Result<Option<RopeScaling>> {
    let Some(tensor) = keys.file.tensor(FACTORS) else {
        return Ok(None);
    };
    if tensor.shape != [head_dim / 2] {
        return Err(Error::TensorShape {
            file: keys.path().into(),
            tensor: FACTORS.into(),
            got: tensor.shape.to_vec(),
            expected: vec![head_dim / 2],
        });
    }
    let factors = keys.file.read_f32(FACTORS)?;
    if factors.iter().all(|f| f.to_bits() == 1f32.to_bits()) {
        return Ok(None);
    }
    let largest = factors.iter().fold(1.0f32, |a, &b| a.max(b));
    let (low, high, original) = LLAMA3;
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(largest),
        low,
        high,
        original,
    };
    let scaled = Rope { scaling, ..plain };
    let (plain, scaled) = (plain.frequencies(head_dim), scaled.frequencies(head_dim));
    let agrees = plain
        .iter()
        .zip(scaled)
        .zip(&factors)
        .all(|((plain, scaled), &f)| ((plain / scaled) / f64::from(f) - 1.0).abs() < 1e-3);
    if agrees {
        return Ok(Some(scaling));
    }
    Err(Error::unsupported(
        keys.path(),
        FACTORS,
        "a list of divisors by another rule",
        "the divisors of Llama 3 (1, 4, 8192)",
    ))
}
