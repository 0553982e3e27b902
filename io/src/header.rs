//! The JSON header of a safetensors file.
//!
//! ```text
//! | u64 length of the header | header: JSON, padded with spaces | tensors, one after the other |
//! ```
//! The tensors must cover the rest of the file exactly: each starts where the one before it ends.
//! Types and entries are those of the `safetensors` crate. The checks are written here so that
//! errors name the tensor, and so that repeated keys are refused, of which JSON parsers silently
//! keep one.

use crate::{
    error::{parser_words, quoted},
    tensor::byte_len,
};
use safetensors::tensor::TensorInfo as Entry;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use std::{collections::BTreeMap, fmt};

/// The largest header that readers of safetensors accept.
pub(crate) const MAX_HEADER: u64 = 100_000_000;

const METADATA: &str = "__metadata__";

/// A header. [`Header::parse`] guarantees that its tensors lie one after the other.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Entry>,
}

impl Header {
    /// Reads a header and checks that its tensors cover `data_len` bytes exactly.
    pub fn parse(json: &[u8], data_len: u64) -> Result<Self, String> {
        let header: Self = serde_json::from_slice(json)
            .map_err(|e| format!("the header is no valid JSON: {}", parser_words(&e)))?;
        let mut tensors: Vec<_> = header.tensors.iter().collect();
        tensors.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        for (name, entry) in tensors {
            let (from, to) = entry.data_offsets;
            if from != end || to < from {
                return Err(format!(
                    "tensor {} is at bytes {from}..{to}, the tensor before it ends at {end}",
                    quoted(name)
                ));
            }
            let needed = byte_len(entry.dtype, &entry.shape);
            if needed != Some(to - from) {
                return Err(format!(
                    "tensor {} is {} {:?}, which is {} bytes, but the header gives it {}",
                    quoted(name),
                    entry.dtype,
                    entry.shape,
                    needed.map_or_else(|| "no whole number of".into(), |n| n.to_string()),
                    to - from
                ));
            }
            end = to;
        }
        if end as u64 != data_len {
            return Err(format!(
                "the tensors take {end} bytes, the file holds {data_len}"
            ));
        }
        Ok(header)
    }

    /// The bytes that a file begins with: the length and the header, padded with spaces to at least
    /// `len` bytes, which is a multiple of 8.
    pub fn to_bytes(&self, len: u64) -> Result<Vec<u8>, String> {
        let mut json = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        // A header of a multiple of 8 bytes keeps the tensors after it aligned.
        let padded = json.len().next_multiple_of(8);
        json.resize(padded.max((len as usize).saturating_sub(8)), b' ');
        if json.len() as u64 > MAX_HEADER {
            return Err(format!(
                "the header takes {} bytes, the limit is {MAX_HEADER}",
                json.len()
            ));
        }
        Ok([(json.len() as u64).to_le_bytes().as_slice(), &json].concat())
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, &self.metadata)?;
        }
        for (name, entry) in &self.tensors {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                let mut metadata = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == METADATA {
                        let entries: Option<UniqueMap> = map.next_value()?;
                        if metadata.replace(entries).is_some() {
                            return Err(repeated(METADATA));
                        }
                    } else {
                        let entry = map.next_value()?;
                        if tensors.contains_key(&key) {
                            return Err(repeated(&key));
                        }
                        tensors.insert(key, entry);
                    }
                }
                let metadata = metadata.flatten().map_or_else(BTreeMap::new, |m| m.0);
                Ok(Header { metadata, tensors })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A map of text to text in which no key occurs twice.
pub(crate) struct UniqueMap(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = UniqueMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of text to text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if entries.contains_key(&key) {
                        return Err(repeated(&key));
                    }
                    entries.insert(key, value);
                }
                Ok(UniqueMap(entries))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

fn repeated<E: serde::de::Error>(key: &str) -> E {
    E::custom(format_args!("the key {} occurs twice", quoted(key)))
}
