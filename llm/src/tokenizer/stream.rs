//! Text while its tokens arrive.

use super::Tokenizer;

/// Tokens that a character of four bytes may be spread over.
const LONGEST: usize = 4;

/// Turns ids into text one by one, and holds back what is only a part of a character.
///
/// The texts together are what [`Tokenizer::decode`] makes of all ids, where these are
/// valid UTF-8.
#[derive(Debug)]
pub struct Streamer<'a> {
    tokenizer: &'a Tokenizer,
    /// The last ids whose text was given, for what depends on neighbours, then the others.
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
            // So many tokens would have completed a character: the first of them is none.
            text += &self.text_until(self.given + 1);
            self.give(self.given + 1);
        }
    }

    /// What was held back, which is no whole character.
    pub fn finish(&mut self) -> String {
        let text = self.text_until(self.ids.len());
        self.ids.clear();
        self.given = 0;
        text
    }

    fn text_until(&self, end: usize) -> String {
        let before = self.tokenizer.decode(&self.ids[..self.given]);
        let text = self.tokenizer.decode(&self.ids[..end]);
        // A decoder may see one run of broken bytes where there were two.
        let new = text.strip_prefix(&*before).map(str::to_owned);
        new.unwrap_or_else(|| self.tokenizer.decode(&self.ids[self.given..end]))
    }

    fn give(&mut self, until: usize) {
        // Context of one chunk of ids, of which some may be without text.
        if until > self.given {
            self.ids.drain(..self.given);
            self.given = until - self.given;
        }
    }
}
