//! Rotary embeddings as `config.json` describes them, in the old style and the new one.

use super::{Defaults, fields::Fields};
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
/// `defaults` has the base, and that of windowed layers, if the architecture has one for them.
pub(super) fn ropes(config: &Fields<'_>, defaults: &Defaults) -> Result<Ropes> {
    let theta = config.positive("rope_theta")?.unwrap_or(defaults.theta);
    let local = match defaults.local_theta {
        Some(base) => Some(config.positive("rope_local_base_freq")?.unwrap_or(base)),
        None => None,
    };
    let plain = |theta| Rope {
        theta,
        scaling: RopeScaling::None,
    };
    let rope = |scaling: &Fields<'_>, theta, by_kind| {
        rope(scaling, theta, &Original::of(config, defaults, by_kind)?)
    };
    // Where layers of two kinds rotate differently, transformers keeps an object for each kind.
    let two = local.is_some();
    let Some(parameters) = config.object("rope_parameters")? else {
        let full = match config.object("rope_scaling")? {
            None => plain(theta),
            Some(scaling) => rope(&scaling, theta, two)?,
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
        let full = rope(&parameters, theta, two)?;
        // One object does not say which of the two kinds it is for; transformers ignores it.
        if let Some(value) = config
            .get("rope_parameters")
            .filter(|_| two && full != plain(theta))
        {
            let supported = "an object for each of full_attention and sliding_attention";
            return Err(config.unsupported("rope_parameters", value, supported));
        }
        Ropes {
            full,
            sliding: local.map(plain),
        }
    } else {
        Ropes {
            full: match full {
                Some(full) => rope(&full, theta, true)?,
                None => plain(theta),
            },
            sliding: match sliding {
                Some(sliding) => Some(rope(&sliding, local.unwrap_or(theta), true)?),
                None => local.map(plain),
            },
        }
    };
    // Model cards tell users to add `rope_scaling`. Which of two that differ counts depends on the architecture, and
    // on what else the file says.
    if let Some(scaling) = config.object("rope_scaling")?
        && let Some(value) = config.get("rope_scaling").filter(|_| !scaling.is_empty())
        && rope(&scaling, theta, two)?.scaling != ropes.full.scaling
    {
        let supported = "the scaling of rope_parameters, which is the place for it in this file";
        return Err(config.unsupported("rope_scaling", value, supported));
    }
    Ok(ropes)
}

/// Where the context before it was lengthened may be stated, besides the object that says how it was lengthened.
struct Original {
    /// Beside that object: this wins.
    stated: Option<f64>,
    /// The context of the model, if nothing else is known.
    positions: f64,
}

impl Original {
    const KEY: &str = "original_max_position_embeddings";

    /// `by_kind` says that each kind of layers has an object of its own, for which what is beside them does not count.
    fn of(config: &Fields<'_>, defaults: &Defaults, by_kind: bool) -> Result<Self> {
        let positions = config.positive("max_position_embeddings")?;
        Ok(Self {
            stated: config.positive(Self::KEY)?.filter(|_| !by_kind),
            positions: positions.unwrap_or(defaults.positions as f64),
        })
    }

    fn or(&self, scaling: &Fields<'_>) -> Result<f64> {
        let inner = scaling.positive(Self::KEY)?;
        Ok(self.stated.or(inner).unwrap_or(self.positions))
    }
}

fn rope(scaling: &Fields<'_>, theta: f64, original: &Original) -> Result<Rope> {
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
            let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if low >= high {
                let expected = format!("more than {low}, which is low_freq_factor");
                return Err(scaling.wrong("high_freq_factor", &high.into(), expected));
            }
            RopeScaling::Llama3 {
                factor: required("factor")?,
                low,
                high,
                original: original.or(scaling)?,
            }
        }
        Some("yarn") => yarn(scaling, original)?,
        Some(other) => return Err(scaling.unsupported(key, &other.into(), SCALINGS)),
    };
    Ok(Rope { theta, scaling })
}

fn yarn(scaling: &Fields<'_>, original: &Original) -> Result<RopeScaling> {
    // Zero means not given.
    let given = |key: &str| match scaling.get(key).and_then(serde_json::Value::as_f64) {
        Some(0.0) => Ok(None),
        _ => scaling.positive(key),
    };
    // `Rope` rounds the ends of the ramp to whole pairs, which is what truncation means. A null, unlike no key at all,
    // turns it off in transformers.
    if scaling.has("truncate") && scaling.bool("truncate")? != Some(true) {
        let off = scaling.get("truncate").unwrap_or(&serde_json::Value::Null);
        return Err(scaling.unsupported("truncate", off, "true"));
    }
    let factor = scaling.or("factor", scaling.positive("factor")?, None)?;
    let attention = match (
        scaling.positive("attention_factor")?,
        given("mscale")?,
        given("mscale_all_dim")?,
    ) {
        (Some(attention), ..) => attention,
        (None, Some(rotated), Some(all)) => {
            RopeScaling::yarn_attention(factor, rotated) / RopeScaling::yarn_attention(factor, all)
        }
        _ => RopeScaling::yarn_attention(factor, 1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        fast: given("beta_fast")?.unwrap_or(32.0),
        slow: given("beta_slow")?.unwrap_or(1.0),
        original: original.or(scaling)?,
        attention,
    })
}
