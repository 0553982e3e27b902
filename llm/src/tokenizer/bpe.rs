//! Byte-level BPE vocabularies of GGUF files, rebuilt as the `tokenizer.json` that they were made from.

use super::{GgufVocabulary, Kind, hf::HfTokenizer};
use crate::error::{Error, Result};
use lacuna_io::GgufMetadata;
use serde_json::{Map, Value, json};

const PRE: &str = "tokenizer.ggml.pre";
/// The values of [`PRE`] that are supported, for messages.
const PRES: &str = "gpt-2, llama-bpe, qwen2, smollm and tekken";

/// How Llama 3 cuts a text before it merges: words of letters with one sign or space before them, digits
/// in threes, runs of signs, line ends, other white space.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How Qwen 2 cuts: as Llama 3 does, but with digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How Mistral cuts: also inside words, where small letters are followed by capitals.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a text is cut before it is merged.
struct Pre {
    steps: Vec<Value>,
    normalizer: Value,
    /// Whether words that are tokens are taken as they are, without merging.
    ignore_merges: bool,
    add_bos: bool,
}

fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": use_regex,
    })
}

fn split(regex: &str) -> Value {
    json!({
        "type": "Split",
        "pattern": { "Regex": regex },
        "behavior": "Isolated",
        "invert": false,
    })
}

fn pre(name: &str) -> Option<Pre> {
    let plain = |steps| Pre {
        steps,
        normalizer: Value::Null,
        ignore_merges: false,
        add_bos: false,
    };
    let whole_words = |regex| Pre {
        ignore_merges: true,
        add_bos: true,
        ..plain(vec![split(regex), byte_level(false)])
    };
    Some(match name {
        "gpt-2" => plain(vec![byte_level(true)]),
        "llama-bpe" | "llama3" | "llama-v3" => whole_words(LLAMA3),
        "tekken" => whole_words(TEKKEN),
        "qwen2" | "deepseek-r1-qwen" => Pre {
            normalizer: json!({ "type": "NFC" }),
            ..plain(vec![split(QWEN2), byte_level(false)])
        },
        "smollm" => {
            let digits = json!({ "type": "Digits", "individual_digits": true });
            plain(vec![digits, byte_level(true)])
        }
        _ => return None,
    })
}

/// The tokenizer, and whether texts begin with the first token if the file does not say.
pub(super) fn build(
    vocabulary: &GgufVocabulary<'_>,
    metadata: &GgufMetadata,
) -> Result<(HfTokenizer, bool)> {
    let file = vocabulary.file;
    let name: &str = metadata.get(PRE)?;
    let Some(pre) = pre(name) else {
        return Err(Error::unsupported(file, PRE, name, PRES));
    };
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, token, kind) in vocabulary.iter() {
        if vocab.insert(token.to_owned(), id.into()).is_some() {
            let key = format!("tokenizer.ggml.tokens[{id}]");
            let expected = "a token that does not occur before";
            return Err(Error::value(file, key, token, expected));
        }
        if matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined) {
            added.push(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": kind != Kind::UserDefined,
            }));
        }
    }
    let mut merges = Vec::new();
    for (i, merge) in metadata
        .get::<Vec<&str>>("tokenizer.ggml.merges")?
        .into_iter()
        .enumerate()
    {
        // The space between the two is never the first character: a space there belongs to the first token.
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
        let Some((at, _)) = at else {
            let key = format!("tokenizer.ggml.merges[{i}]");
            return Err(Error::value(
                file,
                key,
                merge,
                "two tokens with a space between",
            ));
        };
        merges.push(json!([merge[..at], merge[at + 1..]]));
    }
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": pre.normalizer,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": pre.steps },
        "post_processor": null,
        "decoder": byte_level(false),
        "model": {
            "type": "BPE",
            "ignore_merges": pre.ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    });
    let tokenizer = HfTokenizer::from_json(file, json.to_string().as_bytes())?;
    Ok((tokenizer, pre.add_bos))
}
