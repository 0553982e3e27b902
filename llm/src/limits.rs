//! What numbers of a configuration may be, whatever file they come from.

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

/// `value`, where it is at least 1 and at most `max`.
pub(crate) fn size(file: &Path, key: &str, value: usize, max: usize) -> Result<usize> {
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    Err(Error::value(file, key, value, format!("1 to {max}")))
}

/// `value`, where it is a positive number that f32 arithmetic can use.
pub(crate) fn positive(file: &Path, key: &str, value: f64) -> Result<f64> {
    if (1e-30..=1e30).contains(&value) {
        return Ok(value);
    }
    let expected = "a positive number from 1e-30 to 1e30";
    Err(Error::value(file, key, value, expected))
}

/// Names of the keys that a file's kind gives to the quantities checked together.
pub(crate) struct Keys<'a> {
    pub heads: &'a str,
    pub kv_heads: &'a str,
    pub head_dim: &'a str,
}

/// Checks what concerns several numbers at once.
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

/// The elements of a head where no key states them.
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
