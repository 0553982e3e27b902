//! Limits of the numbers in a configuration, whatever file it comes from.

use crate::{
    config::Config,
    error::{Error, Result},
};
use std::path::Path;

pub(crate) const MAX_LAYERS: usize = 4096;
pub(crate) const MAX_HEADS: usize = 4096;
pub(crate) const MAX_HEAD_DIM: usize = 4096;
pub(crate) const MAX_WIDTH: usize = 1 << 20;
pub(crate) const MAX_VOCAB: usize = 1 << 24;
pub(crate) const MAX_POSITIONS: usize = 1 << 30;

/// `value`, if it is from 1 to `max`.
pub(crate) fn size(file: &Path, key: &str, value: usize, max: usize) -> Result<usize> {
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    Err(Error::value(file, key, value, format!("1 to {max}")))
}

/// `value`, if it is a positive number that f32 arithmetic can use.
pub(crate) fn positive(file: &Path, key: &str, value: f64) -> Result<f64> {
    if (1e-30..=1e30).contains(&value) {
        return Ok(value);
    }
    let expected = "a positive number from 1e-30 to 1e30";
    // Without an exponent some have hundreds of digits.
    let shown = match value.abs() {
        0.0 | 1e-6..1e16 => value.to_string(),
        _ => format!("{value:e}"),
    };
    Err(Error::value(file, key, shown, expected))
}

/// The keys of the quantities that are checked together, as this kind of file names them.
pub(crate) struct Keys<'a> {
    pub heads: &'a str,
    pub kv_heads: &'a str,
    pub head_dim: &'a str,
}

/// Checks that numbers fit each other.
pub(crate) fn check(file: &Path, config: &Config, keys: &Keys<'_>) -> Result<()> {
    let Config {
        heads,
        kv_heads,
        head_dim,
        ..
    } = *config;
    if heads % kv_heads != 0 {
        let expected = format!("a divisor of {heads}, which is {}", keys.heads);
        return Err(Error::value(file, keys.kv_heads, kv_heads, expected));
    }
    if head_dim % 2 != 0 {
        return Err(Error::value(
            file,
            keys.head_dim,
            head_dim,
            "an even number: rotary embeddings turn pairs",
        ));
    }
    Ok(())
}

/// The size of a head if no key states it: `hidden / heads`.
pub(crate) fn derived_head_dim(
    file: &Path,
    (hidden_key, hidden): (&str, usize),
    (heads_key, heads): (&str, usize),
) -> Result<usize> {
    if hidden % heads != 0 {
        let expected = format!(
            "a multiple of {heads}, which is {heads_key}, where no key states the size of a head"
        );
        return Err(Error::value(file, hidden_key, hidden, expected));
    }
    Ok(hidden / heads)
}
