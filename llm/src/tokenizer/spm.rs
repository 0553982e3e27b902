//! `SentencePiece` vocabularies, whose pieces are merged by score.
//!
//! A text is cut into characters. Of all neighbours that together are a token, the pair with the highest
//! score is joined, the leftmost of equals first, until no pair is left. A character that is not a token
//! becomes the tokens of its bytes. Llama 2, Mistral and Gemma ship such vocabularies.

use super::{
    GgufVocabulary, Kind,
    partition::{Fixed, Part},
};
use crate::error::{Error, Result};
use lacuna_io::GgufMetadata;
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

/// The character that stands for a space inside tokens.
const SPACE: char = '\u{2581}';

#[derive(Debug)]
pub(super) struct Spm {
    tokens: Vec<(String, Kind)>,
    scores: Vec<f32>,
    /// Tokens that merging can give.
    pieces: HashMap<String, u32>,
    /// Tokens that are found before merging.
    fixed: Fixed,
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    space_first: bool,
}

/// A piece of the text, in a linked list.
struct Symbol {
    start: usize,
    /// 0 once it is joined to the piece before it.
    len: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that are a token together. `len` is that of both when the pair was found.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = other.left.cmp(&self.left);
        self.score.total_cmp(&other.score).then(left)
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Spm {
    pub fn new(vocabulary: &GgufVocabulary<'_>, metadata: &GgufMetadata) -> Result<Self> {
        let (file, key) = (vocabulary.file, "tokenizer.ggml.scores");
        let count = vocabulary.tokens.len();
        let mut scores: Vec<f32> = metadata.get(key)?;
        if scores.len() != count {
            let expected = format!("{count} entries, as many as tokens");
            return Err(Error::value(file, key, scores.len(), expected));
        }
        if let Some(nan) = scores.iter().position(|s| s.is_nan()) {
            let expected = "numbers";
            return Err(Error::value(file, format!("{key}[{nan}]"), "NaN", expected));
        }
        // Turns −0 into +0, so that `total_cmp` takes the two as equal.
        for score in &mut scores {
            *score += 0.0;
        }
        let mut spm = Self {
            tokens: Vec::with_capacity(count),
            scores,
            pieces: HashMap::with_capacity(count),
            fixed: Fixed::default(),
            bytes: vec![None; 256],
            unknown: metadata.find("tokenizer.ggml.unknown_token_id")?,
            space_first: metadata
                .find("tokenizer.ggml.add_space_prefix")?
                .unwrap_or(true),
        };
        for (id, token, kind) in vocabulary.iter() {
            spm.tokens.push((token.to_owned(), kind));
            match kind {
                Kind::Unknown => spm.unknown = spm.unknown.or(Some(id)),
                Kind::Control => spm.fixed.insert(token, id, true),
                Kind::UserDefined => {
                    spm.fixed.insert(token, id, false);
                    spm.pieces.insert(token.to_owned(), id);
                }
                Kind::Byte => {
                    let byte = byte_of(token).ok_or_else(|| {
                        let key = format!("tokenizer.ggml.tokens[{id}]");
                        Error::value(file, key, token, "<0x00> to <0xFF>, the name of a byte")
                    })?;
                    spm.bytes[usize::from(byte)] = Some(id);
                }
                Kind::Normal | Kind::Unused => {
                    spm.pieces.insert(token.to_owned(), id);
                }
            }
        }
        Ok(spm)
    }

    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        let mut first = true;
        for part in self.fixed.cut(text, special) {
            match part {
                Part::Token(id) => {
                    ids.push(id);
                    first = true;
                }
                Part::Text(text) => {
                    let mut spaced = String::with_capacity(text.len() + 3);
                    if first && self.space_first {
                        spaced.push(SPACE);
                    }
                    spaced.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
                    self.merge(&spaced, &mut ids)?;
                    first = false;
                }
            }
        }
        Ok(ids)
    }

    fn merge(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        let count = text.chars().count();
        let symbol = |(i, (start, c)): (usize, (usize, char))| Symbol {
            start,
            len: c.len_utf8(),
            before: i.checked_sub(1),
            after: (i + 1 < count).then_some(i + 1),
        };
        let mut symbols: Vec<Symbol> = text.char_indices().enumerate().map(symbol).collect();
        let mut pairs = BinaryHeap::new();
        for left in 0..count {
            pairs.extend(self.pair(text, &symbols, left));
        }
        while let Some(pair) = pairs.pop() {
            let Pair {
                left, right, len, ..
            } = pair;
            // The pair is out of date: one of the two has been joined with another piece since.
            let now = symbols[left].len + symbols[right].len;
            if symbols[left].len == 0 || symbols[right].len == 0 || now != len {
                continue;
            }
            let after = symbols[right].after;
            symbols[right].len = 0;
            symbols[left].len = len;
            symbols[left].after = after;
            if let Some(after) = after {
                symbols[after].before = Some(left);
            }
            if let Some(before) = symbols[left].before {
                pairs.extend(self.pair(text, &symbols, before));
            }
            pairs.extend(self.pair(text, &symbols, left));
        }
        for symbol in symbols.iter().filter(|s| s.len > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.len];
            match self.pieces.get(piece) {
                Some(&id) => ids.push(id),
                None => self.push_bytes(piece, ids)?,
            }
        }
        Ok(())
    }

    /// `left` and the piece after it, if they are a token together.
    fn pair(&self, text: &str, symbols: &[Symbol], left: usize) -> Option<Pair> {
        let first = &symbols[left];
        let right = first.after?;
        let len = first.len + symbols[right].len;
        let id = *self.pieces.get(&text[first.start..first.start + len])?;
        Some(Pair {
            score: self.scores[id as usize],
            left,
            right,
            len,
        })
    }

    fn push_bytes(&self, piece: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        let bytes = piece.bytes().map(|b| self.bytes[usize::from(b)]);
        match bytes.collect::<Option<Vec<u32>>>() {
            Some(bytes) => ids.extend(bytes),
            None => ids.push(self.unknown.ok_or_else(|| {
                format!("the vocabulary has neither {piece:?} nor its bytes nor an unknown token")
            })?),
        }
        Ok(())
    }

    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        let mut first = true;
        for &id in ids {
            let Some((token, kind)) = self.tokens.get(id as usize) else {
                continue;
            };
            match kind {
                Kind::Control | Kind::Unknown => continue,
                Kind::Byte => bytes.extend(byte_of(token)),
                Kind::UserDefined => bytes.extend(token.as_bytes()),
                Kind::Normal | Kind::Unused => {
                    let mut token = token.as_str();
                    if first && self.space_first {
                        token = token.strip_prefix(SPACE).unwrap_or(token);
                    }
                    bytes.extend(token.replace(SPACE, " ").as_bytes());
                }
            }
            first = false;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(|(token, _)| &**token)
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        let fixed = || match self.fixed.cut(token, true)[..] {
            [Part::Token(id)] => Some(id),
            _ => None,
        };
        self.pieces.get(token).copied().or_else(fixed)
    }

    pub const fn vocab_len(&self) -> usize {
        self.tokens.len()
    }
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
