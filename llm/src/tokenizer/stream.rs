//! Turns ids into text as they arrive.

use super::Tokenizer;

/// The most tokens that a character may be spread over: one for each of its four bytes.
const LONGEST: usize = 4;

/// Turns ids into text one by one, and holds back those that end in an incomplete character.
///
/// Together the texts are what [`Tokenizer::decode`] makes of all ids, if that is valid UTF-8; behind a prompt, what
/// they add to its text.
#[derive(Debug)]
pub struct Streamer<'a> {
    tokenizer: &'a Tokenizer,
    /// `given` ids whose text was given last, because decoding may depend on neighbours, then those held back.
    ids: Vec<u32>,
    given: usize,
}

impl<'a> Streamer<'a> {
    /// Starts a text.
    pub const fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            given: 0,
        }
    }

    /// Goes on with the text of `prompt`. Some tokenizers leave out the space before the first word of a text, which
    /// is not that of its continuation.
    pub fn after(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Self {
        let shown = |id: &&u32| !tokenizer.decode(&[**id]).is_empty();
        let last: Vec<u32> = prompt.iter().rfind(shown).copied().into_iter().collect();
        Self {
            tokenizer,
            given: last.len(),
            ids: last,
        }
    }

    /// The text that `id` completes; empty while a character is incomplete.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let mut text = String::new();
        loop {
            let pending = self.ids.len() - self.given;
            let new = self.text_until(self.ids.len());
            if !new.ends_with('\u{fffd}') {
                self.give(self.ids.len());
                return text + &new;
            }
            if pending < LONGEST {
                return text;
            }
            // This many tokens would complete any character, so the first of them is not part of one.
            text += &self.text_until(self.given + 1);
            self.give(self.given + 1);
        }
    }

    /// The text of what was held back, which is not a whole character.
    pub fn finish(&mut self) -> String {
        let text = self.text_until(self.ids.len());
        self.ids.clear();
        self.given = 0;
        text
    }

    fn text_until(&self, end: usize) -> String {
        let before = self.tokenizer.decode(&self.ids[..self.given]);
        let text = self.tokenizer.decode(&self.ids[..end]);
        // Decoded together, two runs of broken bytes may become one: then `before` is no prefix of `text`.
        let new = text.strip_prefix(&*before).map(str::to_owned);
        new.unwrap_or_else(|| self.tokenizer.decode(&self.ids[self.given..end]))
    }

    fn give(&mut self, until: usize) {
        // The ids given now are the context of what follows, unless they are control tokens without a text.
        if self.given > 0 && self.text_until(until).is_empty() {
            self.ids.drain(self.given..until);
        } else {
            self.ids.drain(..self.given);
            self.given = until - self.given;
        }
    }
}
