//! Sparse and quantised weights in safetensors: the entry in the header that ties their
//! sections together. `docs/container.md` is the specification.
//!
//! ```text
//! __metadata__:  lacuna.version = "1"
//!                lacuna.P = {"format":"2:4x8@bf16","rows":64,"cols":96}
//! tensors:       P.values  BF16 [64, 48]     P.indices  U32 [8, 3]
//! ```

use crate::{
    error::{Error, Result, parser_words, quoted},
    tensor::byte_len,
};
use lacuna::format::{Codes, Format, Zeros};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// The container version this crate writes, and the newest it reads.
pub const CONTAINER_VERSION: u64 = 1;

pub(crate) const VERSION_KEY: &str = "lacuna.version";
pub(crate) const THRESHOLDS_KEY: &str = "lacuna.thresholds";
pub(crate) const KEY_PREFIX: &str = "lacuna.";
pub(crate) const DENSE_SUFFIX: &str = ".weight";

/// Rows and columns are numbered with u32 on the device.
const MAX_DIMENSION: usize = u32::MAX as usize;

/// What the header says of one container module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared {
    pub format: Format,
    pub rows: usize,
    pub cols: usize,
    /// [`Codes::factor`]; 1 where there are no codes.
    pub factor: f32,
}

/// No number is longer in JSON.
const WIDEST_FACTOR: f64 = -f64::MIN_POSITIVE;

#[derive(Serialize, Deserialize)]
struct Json {
    format: String,
    rows: usize,
    cols: usize,
    /// A power of two, as f64 so that its digits are exact even for readers without f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
}

impl Declared {
    /// Checks the limits that every weight in a file must obey.
    pub fn new(format: Format, rows: usize, cols: usize) -> Result<Self, String> {
        for (what, value) in [("rows", rows), ("cols", cols)] {
            if !(1..=MAX_DIMENSION).contains(&value) {
                return Err(format!(
                    "{what} is {value}, the limits are 1 and {MAX_DIMENSION}"
                ));
            }
        }
        // A format built by hand may have no name that parses.
        if format.quant().is_some() {
            let named: Format = format.to_string().parse().map_err(|e| parser_words(&e))?;
            debug_assert_eq!(named, format);
        }
        let declared = Self {
            format,
            rows,
            cols,
            factor: 1.0,
        };
        for section in declared.sections()? {
            if byte_len(section.dtype, &section.shape).is_none() {
                return Err(format!(
                    "{rows} x {cols} values do not fit in memory addresses"
                ));
            }
        }
        Ok(declared)
    }

    /// Bytes of all sections together.
    pub fn bytes(&self) -> Result<u64, String> {
        let sections = self.sections()?;
        Ok(sections
            .iter()
            .filter_map(|s| byte_len(s.dtype, &s.shape))
            .map(|n| n as u64)
            .sum())
    }

    /// The key and text of the entry in the header.
    pub fn entry(&self, module: &str) -> (String, String) {
        self.entry_with(module, self.factor.into())
    }

    /// The longest possible entry, for a weight whose factor is not known yet.
    pub fn widest_entry(&self, module: &str) -> (String, String) {
        let factor = self.format.quant().map_or(1.0, |_| WIDEST_FACTOR);
        self.entry_with(module, factor)
    }

    #[allow(clippy::float_cmp, reason = "powers of two are exact")]
    fn entry_with(&self, module: &str, factor: f64) -> (String, String) {
        let json = Json {
            format: self.format.to_string(),
            rows: self.rows,
            cols: self.cols,
            factor: (factor != 1.0).then_some(factor),
        };
        let text = serde_json::to_string(&json).expect("text and numbers are always JSON");
        (format!("{KEY_PREFIX}{module}"), text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(text).map_err(|e| parser_words(&e))?;
        let format = match json.format.parse() {
            Ok(Format::Dense(_)) => {
                return Err(format!(
                    "format {} is dense; dense weights have no entry",
                    json.format
                ));
            }
            Ok(format) => format,
            // The parser's error repeats the text, which may be of any length.
            Err(e) => return Err(parser_words(&e)),
        };
        let factor = factor(format, json.factor)?;
        Ok(Self {
            factor,
            ..Self::new(format, json.rows, json.cols)?
        })
    }
}

/// The factor of an entry, by the rules of [`Codes::new`].
fn factor(format: Format, given: Option<f64>) -> Result<f32, String> {
    let Some(given) = given else {
        return Ok(1.0);
    };
    let Some(quant) = format.quant() else {
        return Err(format!(
            "format {format} has no factor, the entry has {given}"
        ));
    };
    // The JSON parser may miss the nearest f64 by one bit, but not the nearest f32.
    match Codes::new(quant, vec![], vec![], Zeros::none(quant), given as f32) {
        Ok(codes) => Ok(codes.factor()),
        Err(_) => Err(format!(
            "factor is {given}, expected a power of two from 2^-80 to 2^80"
        )),
    }
}

/// Bytes of a weight of `format` in a file, without its header. `None` if the format names no value
/// type or the shape is beyond what files hold.
pub fn stored_bytes(format: Format, rows: usize, cols: usize) -> Option<u64> {
    Declared::new(format, rows, cols)
        .and_then(|d| d.bytes())
        .ok()
}

/// The container modules that the header's text entries declare.
pub(crate) fn declared(
    file: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Declared>> {
    let keys = || {
        metadata
            .range(KEY_PREFIX.to_owned()..)
            .take_while(|(k, _)| k.starts_with(KEY_PREFIX))
    };
    let Some(version) = metadata.get(VERSION_KEY) else {
        return match keys().next() {
            None => Ok(BTreeMap::new()),
            Some((key, _)) => Err(Error::Malformed {
                file: file.into(),
                reason: format!(
                    "the header has an entry {} but no {VERSION_KEY}",
                    quoted(key)
                ),
            }),
        };
    };
    // A number too long for u64 is a newer version too.
    let plain = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
    match version.parse::<u64>() {
        Ok(1..=CONTAINER_VERSION) => {}
        _ if plain && version.bytes().any(|b| b != b'0') => {
            return Err(Error::Version {
                file: file.into(),
                version: version.clone(),
                supported: CONTAINER_VERSION,
            });
        }
        _ => {
            let reason = format!("{VERSION_KEY} is {}, expected 1", quoted(version));
            return Err(Error::Malformed {
                file: file.into(),
                reason,
            });
        }
    }
    let mut modules = BTreeMap::new();
    let of_module = |key: &String| key != VERSION_KEY && key != THRESHOLDS_KEY;
    for (key, text) in keys().filter(|(key, _)| of_module(key)) {
        let module = key[KEY_PREFIX.len()..].to_owned();
        let parsed = if module.is_empty() {
            Err("the name is empty".into())
        } else {
            Declared::parse(text)
        };
        match parsed {
            Ok(declared) => modules.insert(module, declared),
            Err(reason) => {
                return Err(Error::Module {
                    file: file.into(),
                    module,
                    reason,
                });
            }
        };
    }
    Ok(modules)
}
