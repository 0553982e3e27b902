//! Safetensors files as a few lines of text. A changed line gives a file whose header still fits its
//! tensors, while a mutated safetensors file is rarely read any further than its header.
//!
//! ```text
//! lacuna.P = {"format":"2:4@f16","rows":1,"cols":4}      an entry of __metadata__
//! quantization_config {"bits":4}                          config.json beside the file
//! P.values F16 1 2                                        a tensor: name, type, shape
//! P.indices U32 1 1
//!
//! bytes of all tensors, in order; where they end, zeros follow
//! ```
//! `lacuna.version` is added if an entry of `lacuna.` needs it.

use serde_json::Value;
use std::fmt::Write as _;

/// Most bytes of tensors; no target needs more.
const MOST_BYTES: u64 = 1 << 20;

const CONFIG: &str = "quantization_config ";

pub(crate) struct Sketch {
    /// The file.
    pub file: Vec<u8>,
    /// `config.json`.
    pub config: Option<String>,
}

impl Sketch {
    /// Parses a sketch. `None` if a line is invalid or the file would be large.
    pub fn read(input: &[u8]) -> Option<Self> {
        let end = input.windows(2).position(|pair| pair == b"\n\n");
        let (text, data) = input.split_at(end.unwrap_or(input.len()));
        let text = str::from_utf8(text).ok()?;
        let (mut metadata, mut tensors, mut config) = (vec![], vec![], None);
        let mut at = 0u64;
        for line in text.lines() {
            if let Some((key, value)) = line.split_once(" = ") {
                metadata.push(format!("{}:{}", quoted(key), quoted(value)));
            } else if let Some(object) = line.strip_prefix(CONFIG) {
                config = Some(format!(r#"{{"quantization_config":{object}}}"#));
            } else {
                let mut words = line.split_whitespace();
                let (name, dtype) = (words.next()?, words.next()?);
                let shape: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
                let to = at.checked_add(bytes_of(dtype, &shape)?)?;
                tensors.push(format!(
                    r#"{}:{{"dtype":{},"shape":{shape:?},"data_offsets":[{at},{to}]}}"#,
                    quoted(name),
                    quoted(dtype)
                ));
                at = to;
            }
        }
        if at > MOST_BYTES {
            return None;
        }
        if metadata.iter().any(|entry| entry.starts_with("\"lacuna.")) {
            metadata.push(r#""lacuna.version":"1""#.into());
        }
        tensors.insert(0, format!(r#""__metadata__":{{{}}}"#, metadata.join(",")));
        let header = format!("{{{}}}", tensors.join(","));
        let mut data = data.get(2..).unwrap_or_default().to_vec();
        data.resize(at as usize, 0);
        let len = (header.len() as u64).to_le_bytes();
        let file = [&len[..], header.as_bytes(), &data].concat();
        Some(Self { file, config })
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Bytes of a tensor, 0 if its type is unknown. `None` if they overflow.
fn bytes_of(dtype: &str, shape: &[u64]) -> Option<u64> {
    let bits = match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => 8,
        "F16" | "BF16" | "U16" | "I16" => 16,
        "F32" | "U32" | "I32" => 32,
        "F64" | "U64" | "I64" => 64,
        _ => 0,
    };
    let values = shape
        .iter()
        .try_fold(1u64, |values, &side| values.checked_mul(side));
    Some(values?.checked_mul(bits)?.div_ceil(8))
}

/// The sketch of a well-formed file, with `config` beside it.
///
/// # Panics
/// If the file is not well-formed.
pub fn sketch_of(file: &[u8], config: Option<&str>) -> Vec<u8> {
    let (len, rest) = file.split_first_chunk::<8>().expect("a length comes first");
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let header: Value = serde_json::from_slice(header).expect("the header is JSON");
    let mut tensors = vec![];
    let mut text = String::new();
    for (name, entry) in header.as_object().expect("the header is an object") {
        if name == "__metadata__" {
            for (key, value) in entry.as_object().expect("metadata are an object") {
                if key != "lacuna.version" {
                    let value = value.as_str().expect("metadata are text");
                    let _ = writeln!(text, "{key} = {value}");
                }
            }
        } else {
            let number = |value: &Value| value.as_u64().expect("it is a number");
            let list = |key: &str| entry[key].as_array().expect("it is a list");
            let shape = list("shape")
                .iter()
                .map(|side| format!(" {}", number(side)));
            let dtype = entry["dtype"].as_str().expect("a type is text");
            let line = format!("{name} {dtype}{}\n", shape.collect::<String>());
            tensors.push((number(&list("data_offsets")[0]), line));
        }
    }
    tensors.sort();
    text.extend(config.map(|config| format!("{CONFIG}{config}\n")));
    text.extend(tensors.into_iter().map(|(_, line)| line));
    text.push('\n');
    [text.as_bytes(), data].concat()
}
