//! What `config.json` says about quantised weights: hints for what tensors leave open.

use crate::{
    error::{Error, Result, parser_words},
    header::MAX_HEADER,
    shard::read_small,
};
use serde_json::Value;
use std::path::Path;

/// Files beside the weights, and the objects in them that describe the quantisation. The last two
/// come from older exporters.
const PLACES: [(&str, &[&str]); 3] = [
    (
        "config.json",
        &["quantization_config", "compression_config"],
    ),
    ("quantize_config.json", &[]),
    ("quant_config.json", &[]),
];

/// The fields that matter. A field of another type counts as absent.
#[derive(Debug, Default)]
pub(crate) struct Quantization {
    /// `checkpoint_format` of GPTQ, `version` of AWQ, `format` of compressed-tensors.
    pub format: Option<String>,
    /// Bits of a code. compressed-tensors may have several groups of modules, each with its own.
    pub bits: Vec<usize>,
    /// Columns of a group. −1, which means the whole row, is left out.
    pub groups: Vec<usize>,
    /// Whether all zero points are said to be the same.
    pub symmetric: Option<bool>,
    /// Whether columns are said to be in groups in another order: `desc_act` of GPTQ.
    pub reordered: Option<bool>,
    /// Major and minor version of the exporter, if it states one.
    pub version: Option<(u32, u32)>,
}

impl Quantization {
    /// Reads the files in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        for (name, objects) in PLACES {
            let file = folder.join(name);
            if !file.exists() {
                continue;
            }
            let json = json(&file)?;
            let object = match objects {
                [] => Some(&json),
                keys => keys.iter().find_map(|key| json.get(key)),
            };
            if let Some(object) = object.filter(|o| o.is_object()) {
                return Ok(Self::parse(object));
            }
        }
        Ok(Self::default())
    }

    fn parse(object: &Value) -> Self {
        let text = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| object.get(key)?.as_str());
            found.map(str::to_lowercase)
        };
        let mut hints = Self {
            format: text(&["checkpoint_format", "format", "version"]),
            symmetric: object.get("sym").and_then(Value::as_bool),
            reordered: object.get("desc_act").and_then(Value::as_bool),
            version: text(&["version"]).and_then(|version| {
                let mut numbers = version.split('.').map(str::parse);
                Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
            }),
            ..Self::default()
        };
        hints.add(object, &["bits", "w_bit"], &["group_size", "q_group_size"]);
        let groups = object.get("config_groups").and_then(Value::as_object);
        for group in groups.into_iter().flat_map(serde_json::Map::values) {
            if let Some(weights) = group.get("weights") {
                hints.add(weights, &["num_bits"], &["group_size"]);
            }
        }
        hints
    }

    fn add(&mut self, object: &Value, bits: &[&str], groups: &[&str]) {
        let number = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| object.get(key)?.as_u64());
            found.and_then(|n| usize::try_from(n).ok())
        };
        self.bits.extend(number(bits));
        self.groups.extend(number(groups).filter(|&g| g > 0));
    }

    /// Columns in a group, if `cols` columns have `groups` groups. A field that does not fit is
    /// ignored. `None` if the columns cannot be divided so.
    ///
    /// Of several sizes, which are those of other weights as well, only one that divides the columns counts:
    /// compressed-tensors has no shorter groups at the end.
    pub fn group_cols(&self, cols: usize, groups: usize) -> Option<usize> {
        let even = (groups > 0 && cols % groups == 0).then(|| cols / groups);
        match self.groups[..] {
            [said] if cols.div_ceil(said) == groups => Some(said),
            _ => even,
        }
    }
}

fn json(file: &Path) -> Result<Value> {
    serde_json::from_slice(&read_small(file, MAX_HEADER)?).map_err(|e| Error::Malformed {
        file: file.into(),
        reason: format!("it is no valid JSON: {}", parser_words(&e)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_said_of_other_weights_does_not_override_an_even_division() {
        let said = |groups: &[usize]| Quantization {
            groups: groups.to_vec(),
            ..Quantization::default()
        };
        assert_eq!(said(&[128, 96]).group_cols(192, 2), Some(96));
        assert_eq!(said(&[128, 96]).group_cols(256, 2), Some(128));
        assert_eq!(said(&[128, 96]).group_cols(200, 3), None);
        // Of GPTQ and AWQ, with a shorter group at the end.
        assert_eq!(said(&[128]).group_cols(192, 2), Some(128));
        assert_eq!(said(&[]).group_cols(192, 2), Some(96));
    }
}
