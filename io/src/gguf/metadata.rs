//! The typed keys and values of a GGUF header.

use super::cursor::Cursor;
use crate::error::{Error, Result, quoted};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// Code of the array type, whose elements are of another type.
const ARRAY: u32 = 9;

/// Value types by code: the name, and the bytes of a value. For text, those of its length; for an
/// array, those before its elements.
const TYPES: [(&str, u64); 13] = [
    ("u8", 1),
    ("i8", 1),
    ("u16", 2),
    ("i16", 2),
    ("u32", 4),
    ("i32", 4),
    ("f32", 4),
    ("bool", 1),
    ("text", 8),
    ("array", 12),
    ("u64", 8),
    ("i64", 8),
    ("f64", 8),
];

/// Fewest bytes of a key and its value.
pub(super) const MIN_ENTRY: u64 = 8 + 4 + 1;

/// A metadata value: one element or an array of them.
///
/// Its bytes are kept as in the file, so that no array takes more memory than in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufValue {
    code: u32,
    array: bool,
    len: u64,
    bytes: Vec<u8>,
}

/// One element. Integers and floats of every type fit without loss.
enum Element<'a> {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(&'a str),
}

impl GgufValue {
    fn read(cursor: &mut Cursor, key: &str) -> Result<Self> {
        let mut code = cursor.u32(format_args!("the value type of {key}"))?;
        let array = code == ARRAY;
        if array {
            code = cursor.u32(format_args!("the element type of {key}"))?;
        }
        let size = match TYPES.get(code as usize) {
            // Nested arrays are refused, as in ggml.
            Some(_) if code == ARRAY => {
                return Err(cursor.malformed(format!("metadata {key} is an array of arrays")));
            }
            Some((_, size)) => *size,
            None => {
                let reason = format!("metadata {key} is of type {code}, the types are 0 to 12");
                return Err(cursor.malformed(reason));
            }
        };
        let len = if array {
            cursor.u64(format_args!("the number of elements of {key}"))?
        } else {
            1
        };
        let mut bytes = Vec::new();
        let (name, _) = TYPES[code as usize];
        if name == "text" {
            for i in 0..len {
                let text = cursor.string(format_args!("element {i} of metadata {key}"))?;
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        } else {
            cursor.append(&mut bytes, len, size, format_args!("metadata {key}"))?;
        }
        if let ("bool", Some(other)) = (name, bytes.iter().find(|&&b| b > 1)) {
            let reason = format!("metadata {key} has a bool of value {other}, expected 0 or 1");
            return Err(cursor.malformed(reason));
        }
        Ok(Self {
            code,
            array,
            len,
            bytes,
        })
    }

    /// The elements; a single one unless it is an array.
    fn elements(&self) -> impl Iterator<Item = Element<'_>> {
        let mut rest = self.bytes.as_slice();
        // The bytes were checked when they were read, so iteration ends only at their end.
        std::iter::from_fn(move || element(self.code, &mut rest))
    }

    fn scalar(&self) -> Option<Element<'_>> {
        (!self.array).then(|| self.elements().next())?
    }

    fn list<'a, T>(&'a self, convert: impl Fn(Element<'a>) -> Option<T>) -> Option<Vec<T>> {
        let elements = self.elements().map(convert);
        self.array.then(|| elements.collect())?
    }
}

fn element<'a>(code: u32, rest: &mut &'a [u8]) -> Option<Element<'a>> {
    Some(match TYPES.get(code as usize)?.0 {
        "u8" => Element::Integer(u8::from_le_bytes(take(rest)?).into()),
        "i8" => Element::Integer(i8::from_le_bytes(take(rest)?).into()),
        "u16" => Element::Integer(u16::from_le_bytes(take(rest)?).into()),
        "i16" => Element::Integer(i16::from_le_bytes(take(rest)?).into()),
        "u32" => Element::Integer(u32::from_le_bytes(take(rest)?).into()),
        "i32" => Element::Integer(i32::from_le_bytes(take(rest)?).into()),
        "u64" => Element::Integer(u64::from_le_bytes(take(rest)?).into()),
        "i64" => Element::Integer(i64::from_le_bytes(take(rest)?).into()),
        "f32" => Element::Float(f32::from_le_bytes(take(rest)?).into()),
        "f64" => Element::Float(f64::from_le_bytes(take(rest)?)),
        "bool" => Element::Bool(take::<1>(rest)? != [0]),
        _ => {
            let len = u64::from_le_bytes(take(rest)?);
            let (text, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            *rest = after;
            Element::Text(str::from_utf8(text).ok()?)
        }
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

/// The type and, of a single element, its value: `u32 26`, `[text; 262144]`.
impl fmt::Display for GgufValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = TYPES[self.code as usize];
        match self.scalar() {
            Some(Element::Integer(value)) => write!(f, "{name} {value}"),
            Some(Element::Float(value)) if name == "f32" => write!(f, "{name} {}", value as f32),
            Some(Element::Float(value)) => write!(f, "{name} {value}"),
            Some(Element::Bool(value)) => write!(f, "{name} {value}"),
            Some(Element::Text(value)) => write!(f, "{name} {}", quoted(value)),
            None => write!(f, "[{name}; {}]", self.len),
        }
    }
}

/// A type that a metadata value can be read as.
///
/// Integers convert to every integer type that the value fits into. Floats convert to both float
/// types, rounded. Nothing else converts.
pub trait FromGguf<'a>: Sized {
    /// What the value must be, for messages.
    const EXPECTED: &'static str;

    /// The value, or `None` if it is of another type or does not fit.
    fn from_gguf(value: &'a GgufValue) -> Option<Self>;
}

macro_rules! from_gguf {
    ($lt:lifetime, $($type:ty: $one:literal, $many:literal, $pattern:pat => $convert:expr;)+) => { $(
        impl<$lt> FromGguf<$lt> for $type {
            const EXPECTED: &'static str = $one;

            fn from_gguf(value: &$lt GgufValue) -> Option<Self> {
                match value.scalar()? {
                    $pattern => $convert,
                    _ => None,
                }
            }
        }

        impl<$lt> FromGguf<$lt> for Vec<$type> {
            const EXPECTED: &'static str = $many;

            fn from_gguf(value: &$lt GgufValue) -> Option<Self> {
                value.list(|element| match element {
                    $pattern => $convert,
                    _ => None,
                })
            }
        }
    )+ };
}

from_gguf! { 'a,
    u32: "an integer that fits u32", "an array of integers that fit u32",
        Element::Integer(v) => v.try_into().ok();
    i32: "an integer that fits i32", "an array of integers that fit i32",
        Element::Integer(v) => v.try_into().ok();
    u64: "an integer that fits u64", "an array of integers that fit u64",
        Element::Integer(v) => v.try_into().ok();
    i64: "an integer that fits i64", "an array of integers that fit i64",
        Element::Integer(v) => v.try_into().ok();
    usize: "an integer that fits usize", "an array of integers that fit usize",
        Element::Integer(v) => v.try_into().ok();
    f32: "a float", "an array of floats", Element::Float(v) => Some(v as f32);
    f64: "a float", "an array of floats", Element::Float(v) => Some(v);
    bool: "a bool", "an array of bools", Element::Bool(v) => Some(v);
    &'a str: "text", "an array of text", Element::Text(v) => Some(v);
}

/// The metadata of a GGUF file: values by key.
#[derive(Debug)]
pub struct GgufMetadata {
    file: PathBuf,
    values: BTreeMap<String, GgufValue>,
}

impl GgufMetadata {
    pub(super) fn read(path: &Path, cursor: &mut Cursor, count: u64) -> Result<Self> {
        let mut values = BTreeMap::new();
        for i in 0..count {
            let key = cursor.string(format_args!("metadata key {i}"))?;
            let shown = quoted(&key);
            if values.contains_key(&key) {
                return Err(cursor.malformed(format!("the metadata key {shown} occurs twice")));
            }
            values.insert(key, GgufValue::read(cursor, &shown)?);
        }
        Ok(Self {
            file: path.into(),
            values,
        })
    }

    /// All values, by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key` as a `T`, or `None` if the file has no such key.
    ///
    /// # Errors
    /// [`Error::Metadata`] if the value is no `T`.
    pub fn find<'a, T: FromGguf<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let wrong = || Error::Metadata {
            file: self.file.clone(),
            key: key.into(),
            got: value.to_string(),
            expected: T::EXPECTED.into(),
        };
        T::from_gguf(value).map(Some).ok_or_else(wrong)
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// [`Error::NoMetadata`] if the file has no such key; [`Error::Metadata`] if the value is no `T`.
    pub fn get<'a, T: FromGguf<'a>>(&'a self, key: &str) -> Result<T> {
        self.find(key)?.ok_or_else(|| Error::NoMetadata {
            file: self.file.clone(),
            key: key.into(),
        })
    }
}
