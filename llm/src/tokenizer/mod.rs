//! Text to token ids and back.

mod bpe;
mod hf;
mod partition;
mod spm;
mod stream;

pub use stream::Streamer;

use crate::{
    error::{Error, Result},
    gguf::vocabulary,
};
use hf::HfTokenizer;
use lacuna_io::{GgufFile, GgufMetadata};
use spm::Spm;
use std::path::{Path, PathBuf};

const MODEL: &str = "tokenizer.ggml.model";

/// The tokenizer of a checkpoint.
///
/// [`encode`](Self::encode) takes the names of control tokens in a text as text, so that nobody can end a
/// turn by writing one. [`encode_special`](Self::encode_special) recognises them.
///
/// Patterns in a `tokenizer.json` are regular expressions as the Rust crate `fancy-regex` has them. Hugging Face's Python
/// package uses Oniguruma, whose `\w`, `\b`, `[[:alpha:]]`, `$` and repeated groups such as `\p{N}{1,3}+` mean something
/// else; the patterns of the common models do not differ. `add_bos_token` of `tokenizer_config.json` counts more than the
/// post-processor of `tokenizer.json`; in transformers that depends on its version and on the model's class.
#[derive(Debug)]
pub struct Tokenizer {
    file: PathBuf,
    model: Model,
    bos: Option<u32>,
    add_bos: bool,
}

#[derive(Debug)]
enum Model {
    Hf(Box<HfTokenizer>),
    Spm(Box<Spm>),
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a folder, with `tokenizer_config.json` if it exists. If there is no
    /// `tokenizer.json`, reads `tokenizer.gguf`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::Malformed`], [`Error::Read`] and [`Error::File`]; those of
    /// [`from_gguf`](Self::from_gguf).
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        if let Some(file) = vocabulary(folder)? {
            return Self::from_gguf(&file);
        }
        let (tokenizer, bos, add_bos) = HfTokenizer::from_folder(folder)?;
        Ok(Self {
            file: folder.join("tokenizer.json"),
            model: Model::Hf(tokenizer.into()),
            bos,
            add_bos,
        })
    }

    /// Builds the tokenizer that the metadata of a GGUF file describe.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a kind that is not implemented, [`Error::Tokenizer`].
    pub fn from_gguf(file: &GgufFile) -> Result<Self> {
        let (path, metadata) = (file.path(), file.metadata());
        let vocabulary = GgufVocabulary::read(path, metadata)?;
        let (model, add_bos) = match metadata.get(MODEL)? {
            "llama" => (Model::Spm(Spm::new(&vocabulary, metadata)?.into()), true),
            "gpt2" => {
                let (tokenizer, add_bos) = bpe::build(&vocabulary, metadata)?;
                (Model::Hf(tokenizer.into()), add_bos)
            }
            other => {
                return Err(Error::unsupported(path, MODEL, other, "llama and gpt2"));
            }
        };
        let bos = metadata.find("tokenizer.ggml.bos_token_id")?;
        let add_bos = metadata
            .find("tokenizer.ggml.add_bos_token")?
            .unwrap_or(add_bos);
        Ok(Self {
            file: path.into(),
            model,
            bos,
            add_bos: add_bos && bos.is_some(),
        })
    }

    /// The ids of `text`, without [`bos`](Self::bos) before them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for text that the vocabulary cannot express. Some vocabularies, as of Unigram, have no way to
    /// write the name of a control token as text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, false)
    }

    /// The ids of `text`, in which names of control tokens stand for those tokens: for the output of a
    /// chat template.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_special(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, true)
    }

    fn encode_as(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let ids = match &self.model {
            Model::Hf(t) => t.encode(text, special),
            Model::Spm(t) => t.encode(text, special),
        };
        ids.map_err(|reason| Error::Tokenizer {
            file: self.file.clone(),
            reason,
        })
    }

    /// The text of `ids`. Control tokens and unknown ids have no text; bytes that are not UTF-8 become
    /// U+FFFD. Where the decoder of a `tokenizer.json` fails, there is no text either.
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.model {
            Model::Hf(t) => t.decode(ids),
            Model::Spm(t) => t.decode(ids),
        }
    }

    /// Starts to turn ids into text as they arrive.
    pub const fn streamer(&self) -> Streamer<'_> {
        Streamer::new(self)
    }

    /// Starts to turn ids into text that goes on with the text of `prompt`.
    pub fn streamer_after(&self, prompt: &[u32]) -> Streamer<'_> {
        Streamer::after(self, prompt)
    }

    /// The token that begins a text, if the checkpoint names one.
    pub const fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether texts are to begin with [`bos`](Self::bos).
    pub const fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The token with an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.model {
            Model::Hf(t) => t.token(id),
            Model::Spm(t) => t.token(id).map(str::to_owned),
        }
    }

    /// The id of a token, as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.model {
            Model::Hf(t) => t.id(token),
            Model::Spm(t) => t.id(token),
        }
    }

    /// One more than the largest id.
    pub fn vocab_len(&self) -> usize {
        match &self.model {
            Model::Hf(t) => t.vocab_len(),
            Model::Spm(t) => t.vocab_len(),
        }
    }
}

/// What a token of a GGUF vocabulary is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The tokens that GGUF metadata list.
struct GgufVocabulary<'a> {
    file: &'a Path,
    tokens: Vec<&'a str>,
    kinds: Vec<Kind>,
}

impl<'a> GgufVocabulary<'a> {
    fn read(file: &'a Path, metadata: &'a GgufMetadata) -> Result<Self> {
        let (key, kinds_key) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type");
        let tokens: Vec<&str> = metadata.get(key)?;
        if u32::try_from(tokens.len()).is_err() || tokens.is_empty() {
            let expected = "1 to 2^32 - 1 tokens";
            return Err(Error::value(file, key, tokens.len(), expected));
        }
        let kinds = match metadata.find::<Vec<i32>>(kinds_key)? {
            None => vec![Kind::Normal; tokens.len()],
            Some(codes) if codes.len() != tokens.len() => {
                let expected = format!("{} entries, as many as tokens", tokens.len());
                return Err(Error::value(file, kinds_key, codes.len(), expected));
            }
            Some(codes) => {
                let kind = |code| match code {
                    1 => Ok(Kind::Normal),
                    2 => Ok(Kind::Unknown),
                    3 => Ok(Kind::Control),
                    4 => Ok(Kind::UserDefined),
                    5 => Ok(Kind::Unused),
                    6 => Ok(Kind::Byte),
                    other => Err(Error::value(file, kinds_key, other, "1 to 6")),
                };
                codes.into_iter().map(kind).collect::<Result<_>>()?
            }
        };
        Ok(Self {
            file,
            tokens,
            kinds,
        })
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &'a str, Kind)> {
        let pairs = self.tokens.iter().zip(&self.kinds);
        (0..)
            .zip(pairs)
            .map(|(id, (&token, &kind))| (id, token, kind))
    }
}
