//! Rotary embeddings as `config.json` describes them, in the old style and the new one.

use super::fields::Fields;
use crate::{
    config::{Rope, RopeScaling},
    error::Result,
};

const SCALINGS: &str = "default, linear, llama3 and yarn";

/// The rotary embedding of full attention, and that of windowed layers if it differs.
pub(super) struct Ropes {
    pub full: Rope,
    pub sliding: Option<Rope>,
}

/// Reads `rope_parameters` (newer files), else `rope_theta` and `rope_scaling`; both if they agree.
///
/// `theta` is the default base. `local` is that of windowed layers, if the architecture has one for them.
pub(super) fn ropes(config: &Fields<'_>, theta: f64, local: Option<f64>) -> Result<Ropes> {
    let theta = config.positive("rope_theta")?.unwrap_or(theta);
    let local = match local {
        Some(base) => Some(config.positive("rope_local_base_freq")?.unwrap_or(base)),
        None => None,
    };
    let plain = |theta| Rope {
        theta,
        scaling: RopeScaling::None,
    };
    let Some(parameters) = config.object("rope_parameters")? else {
        let full = match config.object("rope_scaling")? {
            None => plain(theta),
            Some(scaling) => rope(&scaling, theta, config)?,
        };
        return Ok(Ropes {
            full,
            sliding: local.map(plain),
        });
    };
    // Either an object for each kind of layer, or one for all layers.
    let (full, sliding) = (
        parameters.object("full_attention")?,
        parameters.object("sliding_attention")?,
    );
    let ropes = if full.is_none() && sliding.is_none() {
        Ropes {
            full: rope(&parameters, theta, config)?,
            sliding: local.map(plain),
        }
    } else {
        Ropes {
            full: match full {
                Some(full) => rope(&full, theta, config)?,
                None => plain(theta),
            },
            sliding: match sliding {
                Some(sliding) => Some(rope(&sliding, local.unwrap_or(theta), config)?),
                None => local.map(plain),
            },
        }
    };
    // Model cards tell users to add `rope_scaling`. Which of two that differ counts depends on the architecture, and
    // on what else the file says.
    if let Some(scaling) = config.object("rope_scaling")?
        && let Some(value) = config.get("rope_scaling").filter(|_| !scaling.is_empty())
        && rope(&scaling, theta, config)?.scaling != ropes.full.scaling
    {
        let supported = "the scaling of rope_parameters, which is the place for it in this file";
        return Err(config.unsupported("rope_scaling", value, supported));
    }
    Ok(ropes)
}

fn rope(scaling: &Fields<'_>, theta: f64, config: &Fields<'_>) -> Result<Rope> {
    let theta = scaling.positive("rope_theta")?.unwrap_or(theta);
    if let Some(part) = scaling.positive("partial_rotary_factor")?
        && part.to_bits() != 1f64.to_bits()
    {
        return Err(scaling.unsupported("partial_rotary_factor", &part.into(), "1"));
    }
    let key = if scaling.get("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    let required = |key: &str| scaling.or(key, scaling.positive(key)?, None);
    let scaling = match scaling.text(key)? {
        None | Some("default" | "none") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear(required("factor")?),
        Some("llama3") => {
            let original = "original_max_position_embeddings";
            let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if low >= high {
                let expected = format!("more than {low}, which is low_freq_factor");
                return Err(scaling.wrong("high_freq_factor", &high.into(), expected));
            }
            let original = match scaling.positive(original)? {
                Some(original) => original,
                None => scaling.or(original, config.positive(original)?, None)?,
            };
            RopeScaling::Llama3 {
                factor: required("factor")?,
                low,
                high,
                original,
            }
        }
        Some("yarn") => yarn(scaling, config)?,
        Some(other) => return Err(scaling.unsupported(key, &other.into(), SCALINGS)),
    };
    Ok(Rope { theta, scaling })
}

fn yarn(scaling: &Fields<'_>, config: &Fields<'_>) -> Result<RopeScaling> {
    // `Rope` rounds the ends of the ramp to whole pairs, which is what truncation means.
    if let Some(false) = scaling.bool("truncate")? {
        return Err(scaling.unsupported("truncate", &false.into(), "true"));
    }
    let factor = scaling.or("factor", scaling.positive("factor")?, None)?;
    let attention = match (
        scaling.positive("attention_factor")?,
        scaling.positive("mscale")?,
        scaling.positive("mscale_all_dim")?,
    ) {
        (Some(attention), ..) => attention,
        (None, Some(rotated), Some(all)) => {
            RopeScaling::yarn_attention(factor, rotated) / RopeScaling::yarn_attention(factor, all)
        }
        _ => RopeScaling::yarn_attention(factor, 1.0),
    };
    let key = "original_max_position_embeddings";
    let stated = match scaling.positive(key)? {
        None => config.positive(key)?,
        stated => stated,
    };
    let original = scaling.or(key, stated, config.positive("max_position_embeddings")?)?;
    Ok(RopeScaling::Yarn {
        factor,
        fast: scaling.positive("beta_fast")?.unwrap_or(32.0),
        slow: scaling.positive("beta_slow")?.unwrap_or(1.0),
        original,
        attention,
    })
}
