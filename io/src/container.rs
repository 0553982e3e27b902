//! Sparse weights in safetensors: which sections a format has, and the entry in
//! the header that ties them together. `docs/container.md` is the specification.
//!
//! ```text
//! __metadata__:  lacuna.version = "1"
//!                lacuna.P = {"format":"2:4x8@bf16","rows":64,"cols":96}
//! tensors:       P.values  BF16 [64, 48]     P.indices  U32 [8, 3]
//! ```

use crate::{
    error::{Error, Result, parser_words, quoted},
    tensor::{TensorDtype, byte_len, file_dtype},
};
use lacuna::format::{Format, Matrix, bits};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// The container version this crate writes, and the newest it reads.
pub const CONTAINER_VERSION: u64 = 1;

pub(crate) const VERSION_KEY: &str = "lacuna.version";
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
}

#[derive(Serialize, Deserialize)]
struct Json {
    format: String,
    rows: usize,
    cols: usize,
}

/// One tensor of a weight.
pub(crate) struct Section {
    /// What follows the module's name, dot included.
    pub suffix: &'static str,
    pub dtype: TensorDtype,
    pub shape: [usize; 2],
}

impl Declared {
    /// Checks what every weight in a file must obey.
    pub fn new(format: Format, rows: usize, cols: usize) -> Result<Self, String> {
        for (what, value) in [("rows", rows), ("cols", cols)] {
            if !(1..=MAX_DIMENSION).contains(&value) {
                return Err(format!(
                    "{what} is {value}, the limits are 1 and {MAX_DIMENSION}"
                ));
            }
        }
        let declared = Self { format, rows, cols };
        for section in declared.sections()? {
            if byte_len(section.dtype, &section.shape).is_none() {
                return Err(format!(
                    "{rows} x {cols} values do not fit in memory addresses"
                ));
            }
        }
        Ok(declared)
    }

    /// The tensors of the weight, in the order of the specification.
    pub fn sections(&self) -> Result<Vec<Section>, String> {
        let Self { format, rows, cols } = *self;
        match format {
            Format::Dense(dtype) => {
                let dtype = file_dtype(dtype);
                Ok(vec![Section {
                    suffix: DENSE_SUFFIX,
                    dtype,
                    shape: [rows, cols],
                }])
            }
            Format::Nm {
                pattern,
                dtype: Some(dtype),
            } => {
                let slots = pattern.slots(cols);
                let words = bits::words_for(slots, pattern.index_bits());
                Ok(vec![
                    Section {
                        suffix: ".values",
                        dtype: file_dtype(dtype),
                        shape: [rows, slots],
                    },
                    Section {
                        suffix: ".indices",
                        dtype: TensorDtype::U32,
                        shape: [pattern.sets(rows), words],
                    },
                ])
            }
            Format::Nm { dtype: None, .. } => Err(format!(
                "format {format} names no value type, as in {format}@f16"
            )),
            _ => Err(format!(
                "format {format} has no sections in container version {CONTAINER_VERSION}"
            )),
        }
    }

    /// Bytes of all sections.
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
        let Self { format, rows, cols } = *self;
        let json = Json {
            format: format.to_string(),
            rows,
            cols,
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
        Self::new(format, json.rows, json.cols)
    }
}

/// Bytes of a weight of `format` in a file, header aside, or `None` where the
/// format names no value type or the shape is beyond what files hold.
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
    // A number too long for u64 is a newer version as well.
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
    for (key, text) in keys().filter(|(key, _)| *key != VERSION_KEY) {
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

/// The bytes of each section of `weight`, in the order of [`Declared::sections`].
pub(crate) fn section_bytes(weight: &Matrix) -> Vec<Vec<u8>> {
    match weight {
        Matrix::Dense(w) => vec![w.values().to_le_bytes()],
        Matrix::Nm(w) => vec![
            w.values().to_le_bytes(),
            w.columns()
                .indices()
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
        ],
        _ => Vec::new(),
    }
}
