//! Metadata of GGUF files → [`Config`].

pub(crate) mod names;
mod rope;

use crate::{
    config::{Activation, Config, Layer},
    error::{Error, Result},
    limits::{self, MAX_HEAD_DIM, MAX_HEADS, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, MAX_WIDTH},
};
use lacuna_io::{FromGguf, GgufFile};
use std::{collections::BTreeSet, path::Path};

const ARCHITECTURE: &str = "general.architecture";
/// The values of `general.architecture` that are supported, for messages.
const ARCHITECTURES: &str = "llama, qwen2, qwen3 and gemma3";

/// A GGUF file of metadata without tensors, which a folder may have in place of `tokenizer.json`.
pub(crate) const VOCABULARY: &str = "tokenizer.gguf";

/// The `tokenizer.gguf` of `folder`, if it has that and no `tokenizer.json`.
pub(crate) fn vocabulary(folder: &Path) -> Result<Option<GgufFile>> {
    let file = folder.join(VOCABULARY);
    if folder.join("tokenizer.json").exists() || !file.exists() {
        return Ok(None);
    }
    Ok(Some(GgufFile::open_alone(&file)?))
}

/// In Gemma 3, five windowed layers come before each layer that sees everything.
const GEMMA_PATTERN: usize = 6;

/// Texts of tokens that end a turn or a document: metadata name one or the other.
const ENDS: [&str; 6] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

/// The metadata keys of one architecture, which begin with its name.
struct Keys<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    fn path(&self) -> &'a Path {
        self.file.path()
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn find<T: FromGguf<'a>>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.file.metadata().find(&self.key(key))?)
    }

    /// A whole number from 1 to `max`.
    fn size(&self, key: &str, max: usize) -> Result<Option<usize>> {
        let size = self.find(key)?;
        size.map(|n| limits::size(self.path(), &self.key(key), n, max))
            .transpose()
    }

    fn required(&self, key: &str, max: usize) -> Result<usize> {
        self.size(key, max)?.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> Error {
        Error::MissingKey {
            file: self.path().into(),
            key: self.key(key),
        }
    }

    /// A positive number.
    fn positive(&self, key: &str) -> Result<Option<f64>> {
        let number = self.find(key)?;
        number
            .map(|x| limits::positive(self.path(), &self.key(key), x))
            .transpose()
    }

    fn unsupported(&self, key: &str, value: impl ToString, supported: &str) -> Error {
        Error::unsupported(self.path(), self.key(key), value, supported)
    }
}

/// Reads the configuration of a file.
pub(crate) fn read(file: &GgufFile) -> Result<Config> {
    let architecture: &str = file.metadata().get(ARCHITECTURE)?;
    if !["llama", "qwen2", "qwen3", "gemma3"].contains(&architecture) {
        return Err(Error::unsupported(
            file.path(),
            ARCHITECTURE,
            architecture,
            ARCHITECTURES,
        ));
    }
    let keys = Keys { file, architecture };
    refuse_options(&keys)?;
    let config = shape(&keys)?;
    let names = limits::Keys {
        heads: &keys.key("attention.head_count"),
        kv_heads: &keys.key("attention.head_count_kv"),
        head_dim: &keys.key("attention.key_length"),
    };
    limits::check(file.path(), &config, &names)?;
    Ok(config)
}

/// Refuses options that change what is computed and are not implemented.
fn refuse_options(keys: &Keys<'_>) -> Result<()> {
    if let Some(experts) = keys.find::<u64>("expert_count")?.filter(|&n| n > 1) {
        return Err(keys.unsupported("expert_count", experts, "models without experts"));
    }
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(cap) = keys.find::<f64>(key)?.filter(|&cap| cap != 0.0) {
            return Err(keys.unsupported(key, cap, "none"));
        }
    }
    Ok(())
}

fn shape(keys: &Keys<'_>) -> Result<Config> {
    let gemma = keys.architecture == "gemma3";
    let hidden = keys.required("embedding_length", MAX_WIDTH)?;
    let heads = keys.required("attention.head_count", MAX_HEADS)?;
    let kv_heads = keys
        .size("attention.head_count_kv", MAX_HEADS)?
        .unwrap_or(heads);
    let head_dim = head_dim(keys, hidden, heads)?;
    let ropes = rope::ropes(keys, head_dim)?;
    // Some files state the context before it is lengthened.
    let lengthened = ropes.iter().filter_map(|rope| rope.scaling.positions());
    let lengthened = lengthened.fold(0.0, f64::max) as usize;
    let stated = keys.required("context_length", MAX_POSITIONS)?;
    let max_positions = stated.max(lengthened.min(MAX_POSITIONS));
    let count = keys.required("block_count", MAX_LAYERS)?;
    let eps = "attention.layer_norm_rms_epsilon";
    let tied = keys.file.tensor("output.weight").is_none();
    // The largest Gemma 3, of 62 layers, divides by the root of another number, which its file does not state.
    let query = if gemma && count == 62 {
        (hidden / heads).max(1)
    } else {
        head_dim
    };
    let bos = keys.file.metadata().find("tokenizer.ggml.bos_token_id")?;
    Ok(Config {
        architecture: keys.architecture.to_owned(),
        vocab: vocab(keys, hidden)?,
        hidden,
        heads,
        kv_heads,
        head_dim,
        ffn: keys.required("feed_forward_length", MAX_WIDTH)?,
        layers: layers(keys, count, stated)?,
        ropes,
        max_positions,
        norm_eps: keys.positive(eps)?.ok_or_else(|| keys.missing(eps))? as f32,
        // GGUF files store 1 + w already.
        norm_plus_one: false,
        post_norms: gemma,
        qk_norms: gemma || keys.architecture == "qwen3",
        activation: if gemma {
            Activation::GeluTanh
        } else {
            Activation::Silu
        },
        query_scale: (query as f64).sqrt().recip() as f32,
        embedding_scale: if gemma { (hidden as f32).sqrt() } else { 1.0 },
        tied_head: tied,
        bos,
        eos: eos(keys)?,
    })
}

fn head_dim(keys: &Keys<'_>, hidden: usize, heads: usize) -> Result<usize> {
    let key = "attention.key_length";
    let head_dim = if let Some(head_dim) = keys.size(key, MAX_HEAD_DIM)? {
        head_dim
    } else {
        let hidden = (&*keys.key("embedding_length"), hidden);
        let heads = (&*keys.key("attention.head_count"), heads);
        let derived = limits::derived_head_dim(keys.path(), hidden, heads)?;
        limits::size(keys.path(), &keys.key(key), derived, MAX_HEAD_DIM)?
    };
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = keys.size(key, MAX_HEAD_DIM)?.filter(|&n| n != head_dim) {
            let supported = format!("{head_dim}, the size of a head");
            return Err(keys.unsupported(key, other, &supported));
        }
    }
    Ok(head_dim)
}

/// The model's vocabulary: the rows of the embedding. The tokenizer may have fewer tokens.
fn vocab(keys: &Keys<'_>, hidden: usize) -> Result<usize> {
    let name = "token_embd.weight";
    let tensor = keys.file.tensor(name).ok_or_else(|| Error::MissingTensor {
        file: keys.path().into(),
        tensor: name.into(),
    })?;
    let &[vocab, _] = tensor.shape else {
        let vocab = keys.size("vocab_size", MAX_VOCAB)?.unwrap_or(tensor.rows());
        return Err(Error::TensorShape {
            file: keys.path().into(),
            tensor: name.into(),
            got: tensor.shape.to_vec(),
            expected: vec![vocab, hidden],
        });
    };
    limits::size(keys.path(), "rows of token_embd.weight", vocab, MAX_VOCAB)
}

fn layers(keys: &Keys<'_>, count: usize, context: usize) -> Result<Vec<Layer>> {
    let key = "attention.sliding_window";
    let window = match keys.find::<usize>(key)? {
        None | Some(0) => None,
        Some(window) => Some(limits::size(
            keys.path(),
            &keys.key(key),
            window,
            MAX_POSITIONS,
        )?),
    };
    match keys.architecture {
        "gemma3" => {
            let pattern = "attention.sliding_window_pattern";
            let window = window.ok_or_else(|| keys.missing(key))?;
            let every = keys.size(pattern, MAX_POSITIONS)?.unwrap_or(GEMMA_PATTERN);
            let layer = |i: usize| {
                let sliding = (i + 1) % every != 0;
                Layer {
                    rope: usize::from(sliding),
                    window: sliding.then_some(window),
                }
            };
            Ok((0..count).map(layer).collect())
        }
        // The files of Mistral, which has windows, also call themselves llama.
        "llama" => Ok(vec![Layer { rope: 0, window }; count]),
        _ => match window.filter(|&window| window < context) {
            None => Ok(vec![
                Layer {
                    rope: 0,
                    window: None
                };
                count
            ]),
            Some(window) => {
                let supported = "no window, or one of the whole context";
                Err(keys.unsupported(key, window, supported))
            }
        },
    }
}

fn eos(keys: &Keys<'_>) -> Result<Vec<u32>> {
    let metadata = keys.file.metadata();
    let mut eos = Vec::new();
    for key in ["eos", "eot", "eom"] {
        eos.extend(metadata.find::<u32>(&format!("tokenizer.ggml.{key}_token_id"))?);
    }
    let tokens: Vec<&str> = metadata.find("tokenizer.ggml.tokens")?.unwrap_or_default();
    let turn = |token: &&str| ENDS.contains(token);
    eos.extend(
        (0..)
            .zip(&tokens)
            .filter(|(_, t)| turn(t))
            .map(|(id, _)| id),
    );
    // A file may repeat such a token any number of times.
    let mut seen = BTreeSet::new();
    eos.retain(|&id| seen.insert(id));
    Ok(eos)
}
