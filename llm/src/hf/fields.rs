//! Typed access to a JSON object, with errors that name file, key and value.

use crate::{
    error::{Error, Result},
    limits, small,
};
use serde_json::{Map, Value};
use std::path::Path;

/// The most bytes of a JSON file beside the weights that are read: no configuration is longer.
const MAX_JSON: u64 = 64 << 20;

/// Reads a JSON file; `None` if it does not exist.
pub(crate) fn read_json(file: &Path) -> Result<Option<Value>> {
    let parse = |bytes: &[u8]| {
        serde_json::from_slice(bytes).map_err(|e| Error::Malformed {
            file: file.into(),
            reason: e.to_string(),
        })
    };
    small::read(file, MAX_JSON)?
        .as_deref()
        .map(parse)
        .transpose()
}

/// An object of a JSON file.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    pub file: &'a Path,
    /// `"text_config."` for an object inside another one.
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn of(file: &'a Path, value: &'a Value) -> Result<Self> {
        let map = value.as_object().ok_or_else(|| Error::Malformed {
            file: file.into(),
            reason: "it is no JSON object".into(),
        })?;
        Ok(Self {
            file,
            prefix: String::new(),
            map,
        })
    }

    /// The key as error messages name it.
    pub fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Whether the key is there, even as null.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The value, if the key is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub fn wrong(&self, key: &str, value: &Value, expected: impl Into<String>) -> Error {
        Error::value(self.file, self.key(key), value, expected)
    }

    pub fn unsupported(&self, key: &str, value: &Value, supported: &str) -> Error {
        Error::unsupported(self.file, self.key(key), value, supported)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match convert(value) {
                Some(converted) => Ok(Some(converted)),
                None => Err(self.wrong(key, value, expected)),
            },
        }
    }

    pub fn object(&self, key: &str) -> Result<Option<Self>> {
        let map = self.typed(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Self {
            file: self.file,
            prefix: format!("{}{key}.", self.prefix),
            map,
        }))
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "text", Value::as_str)
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub fn list(&self, key: &str) -> Result<Option<&'a Vec<Value>>> {
        self.typed(key, "a list", Value::as_array)
    }

    /// A whole number from 1 to `max`.
    pub fn size(&self, key: &str, max: usize) -> Result<Option<usize>> {
        let convert = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let size = self.typed(key, &format!("a whole number from 1 to {max}"), convert)?;
        size.map(|n| limits::size(self.file, &self.key(key), n, max))
            .transpose()
    }

    /// A positive number.
    pub fn positive(&self, key: &str) -> Result<Option<f64>> {
        let number = self.typed(key, "a number", Value::as_f64)?;
        number
            .map(|x| limits::positive(self.file, &self.key(key), x))
            .transpose()
    }

    /// Token ids: a number or a list of them.
    pub fn tokens(&self, key: &str) -> Result<Option<Vec<u32>>> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        self.typed(key, "a token id or a list of them", |v| match v {
            Value::Array(ids) => ids.iter().map(id).collect(),
            one => Some(vec![id(one)?]),
        })
    }

    pub fn missing(&self, key: &str) -> Error {
        Error::MissingKey {
            file: self.file.into(),
            key: self.key(key),
        }
    }

    /// The value, else the default if there is one, else [`Error::MissingKey`].
    pub fn or<T>(&self, key: &str, value: Option<T>, default: Option<T>) -> Result<T> {
        value.or(default).ok_or_else(|| self.missing(key))
    }
}
