//! `tokenizer.json`, read by `tokenizers`, the crate of its authors.

use crate::{
    error::{Error, Result},
    hf::fields::{Fields, read_json},
    small,
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{PoisonError, RwLock},
};
use tokenizers::Tokenizer;

/// The most bytes of a `tokenizer.json` that are read.
const MAX_TOKENIZER: u64 = 1 << 30;

pub(super) struct HfTokenizer {
    /// Takes names of control tokens in a text as text, except while [`encode`](Self::encode) holds the
    /// lock for writing.
    inner: RwLock<Tokenizer>,
    /// The ids of control tokens that text must not give.
    control: BTreeSet<u32>,
    vocab_len: usize,
}

/// The part of a `tokenizer.json` that says which token stands for what the vocabulary lacks.
#[derive(Deserialize)]
struct Unknown {
    model: UnknownToken,
}

#[derive(Deserialize)]
struct UnknownToken {
    unk_id: Option<u32>,
    unk_token: Option<String>,
}

impl std::fmt::Debug for HfTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HfTokenizer({} tokens)", self.vocab_len)
    }
}

impl HfTokenizer {
    /// The tokenizer, the token that begins a text, and whether texts do begin with it.
    pub fn from_folder(folder: &Path) -> Result<(Self, Option<u32>, bool)> {
        let file = folder.join("tokenizer.json");
        let bytes = small::read(&file, MAX_TOKENIZER)?.ok_or_else(|| small::missing(&file))?;
        let tokenizer = Self::from_json(&file, &bytes)?;
        let own = tokenizer.own_first_token();
        let own = own.map_err(|reason| Error::Tokenizer { file, reason })?;
        let (bos, add_bos) = tokenizer.first_token(folder, own)?;
        Ok((tokenizer, bos, add_bos))
    }

    pub fn from_json(file: &Path, json: &[u8]) -> Result<Self> {
        let wrong = |reason: String| Error::Tokenizer {
            file: file.into(),
            reason,
        };
        let parsed = guarded(|| Tokenizer::from_bytes(json)).map_err(&wrong)?;
        let mut inner = parsed.map_err(|e| wrong(e.to_string()))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| wrong(e.to_string()))?;
        inner.set_encode_special_tokens(true);
        let mut control: BTreeSet<u32> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .collect();
        // The unknown token is often special, and what any text may give.
        if let Ok(Unknown { model }) = serde_json::from_slice(json) {
            let named = model.unk_token.and_then(|token| inner.token_to_id(&token));
            for id in model.unk_id.into_iter().chain(named) {
                control.remove(&id);
            }
        }
        let last = inner.get_vocab(true).into_values().max();
        Ok(Self {
            vocab_len: last.map_or(0, |last| last as usize + 1),
            inner: RwLock::new(inner),
            control,
        })
    }

    /// The first token and whether it is added: as `tokenizer_config.json` says, else as the tokenizer
    /// itself does.
    fn first_token(&self, folder: &Path, own: Option<u32>) -> Result<(Option<u32>, bool)> {
        let file = folder.join("tokenizer_config.json");
        let Some(json) = read_json(&file)? else {
            return Ok((own, own.is_some()));
        };
        let fields = Fields::of(&file, &json)?;
        let added = fields.bool("add_bos_token")?.unwrap_or(own.is_some());
        let named = match fields.get("bos_token") {
            None => None,
            Some(token) => {
                let text = token.as_str().or_else(|| token.get("content")?.as_str());
                let text =
                    text.ok_or_else(|| fields.wrong("bos_token", token, "text, or its content"))?;
                let id = self.id(text);
                if id.is_none() && added {
                    return Err(fields.wrong("bos_token", token, "a token of the vocabulary"));
                }
                id
            }
        };
        let bos = named.or(own);
        Ok((bos, added && bos.is_some()))
    }

    /// The token that the post-processor puts before a text.
    fn own_first_token(&self) -> Result<Option<u32>, String> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        // A text that the vocabulary lacks shows nothing.
        let ids = |text, special| ids(&inner, text, special).map(Result::unwrap_or_default);
        let (with, without) = (ids("", true)?, ids("", false)?);
        // What is added to an empty text may be a last token: it is a first one only if it comes before
        // some text.
        let text = ids("a", true)?;
        let first = with.first().copied();
        Ok(first.filter(|_| text.len() > 1 && text.first() == with.first() && without.is_empty()))
    }

    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, String> {
        if !special {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            let ids = ids(&inner, text, false)??;
            // Some models, Unigram above all, have the names of control tokens in their vocabulary, so that they find
            // them in any text.
            return match ids.iter().find(|id| self.control.contains(id)) {
                None => Ok(ids),
                Some(&id) => Err(format!(
                    "\"{}\" in the text is a control token, and this vocabulary cannot write it as text",
                    inner.id_to_token(id).unwrap_or_default()
                )),
            };
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.set_encode_special_tokens(false);
        let encoded = ids(&inner, text, false);
        inner.set_encode_special_tokens(true);
        encoded?
    }

    pub fn decode(&self, ids: &[u32]) -> String {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let decoded = guarded(|| inner.decode(ids, true).unwrap_or_default());
        decoded.unwrap_or_default()
    }

    pub fn token(&self, id: u32) -> Option<String> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.id_to_token(id)
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.token_to_id(token)
    }

    pub const fn vocab_len(&self) -> usize {
        self.vocab_len
    }
}

/// The ids of `text`, or why it has none; fails where the tokenizer contradicts itself.
fn ids(
    tokenizer: &Tokenizer,
    text: &str,
    special: bool,
) -> Result<Result<Vec<u32>, String>, String> {
    guarded(|| {
        let encoded = tokenizer.encode_fast(text, special);
        let ids = encoded.map(|encoded| encoded.get_ids().to_vec());
        ids.map_err(|e| e.to_string())
    })
}

/// What `work` of the crate gives. It has panicked, whatever it did, on files that contradict themselves.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // The only state that the crate changes here are caches behind locks of their own.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    done.map_err(|_| "it contradicts itself".into())
}
