//! Finds fixed tokens in a text, before anything else happens to it.

use std::{collections::HashMap, ops::Range};

/// Texts of fixed tokens with their ids, and whether they are control tokens. Longer texts win over
/// shorter ones.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    ids: HashMap<String, (u32, bool)>,
    /// For each first byte, the lengths in bytes of the texts that begin with it, longest first.
    lengths: HashMap<u8, Vec<usize>>,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Fixed {
    /// `control` marks a token that [`cut`](Self::cut) finds only if it is told to look for control tokens.
    pub fn insert(&mut self, text: &str, id: u32, control: bool) {
        let Some(&first) = text.as_bytes().first() else {
            return;
        };
        self.ids.entry(text.to_owned()).or_insert((id, control));
        let lengths = self.lengths.entry(first).or_default();
        if let Err(at) = lengths.binary_search_by(|n| text.len().cmp(n)) {
            lengths.insert(at, text.len());
        }
    }

    /// Cuts `text`: the longest token is taken wherever it occurs, from left to right, then the next
    /// longest in what is left, and so on.
    pub fn cut<'a>(&self, text: &'a str, control: bool) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut from = 0;
        for (range, id) in self.taken(text, control) {
            if from < range.start {
                parts.push(Part::Text(&text[from..range.start]));
            }
            parts.push(Part::Token(id));
            from = range.end;
        }
        if from < text.len() {
            parts.push(Part::Text(&text[from..]));
        }
        parts
    }

    fn taken(&self, text: &str, control: bool) -> Vec<(Range<usize>, u32)> {
        let mut matches = Vec::new();
        for (at, byte) in text.bytes().enumerate() {
            for &len in self.lengths.get(&byte).into_iter().flatten() {
                let found = text.get(at..at + len).and_then(|t| self.ids.get(t));
                if let Some(&(id, is_control)) = found
                    && (control || !is_control)
                {
                    matches.push((at..at + len, id));
                }
            }
        }
        // Of texts of the same length, the lower id comes first.
        matches.sort_by_key(|(range, id)| (std::cmp::Reverse(range.len()), *id, range.start));
        let mut taken = vec![false; text.len()];
        matches.retain(|(range, _)| {
            // Matches before this one are at least as long, so one that overlaps it covers one of its ends.
            let free = !taken[range.start] && !taken[range.end - 1];
            if free {
                taken[range.clone()].fill(true);
            }
            free
        });
        matches.sort_by_key(|(range, _)| range.start);
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, control: bool) -> Vec<Part<'_>> {
        let mut fixed = Fixed::default();
        for (id, token) in ["abc", "cdef", "  ", "é"].into_iter().enumerate() {
            fixed.insert(token, id as u32, false);
        }
        fixed.insert("<eos>", 9, true);
        fixed.insert("", 10, false);
        fixed.cut(text, control)
    }

    #[test]
    fn longer_tokens_win_over_earlier_ones() {
        assert_eq!(cut("abcdef", false), [Part::Text("ab"), Part::Token(1)]);
        assert_eq!(
            cut("abc   é", false),
            [
                Part::Token(0),
                Part::Token(2),
                Part::Text(" "),
                Part::Token(3)
            ]
        );
        assert_eq!(cut("", false), []);
    }

    #[test]
    fn control_tokens_are_text_unless_they_are_looked_for() {
        assert_eq!(cut("x<eos>", false), [Part::Text("x<eos>")]);
        assert_eq!(cut("x<eos>", true), [Part::Text("x"), Part::Token(9)]);
    }
}
