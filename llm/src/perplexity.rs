//! Perplexity of a text: cuts the text into windows, and sums over them.

use crate::error::{Error, Result};
use std::ops::Range;

/// One window: a context that starts empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The tokens, including the one put before the text.
    pub ids: Vec<u32>,
    /// Positions in [`ids`](Self::ids) whose tokens are scored, each by the logits of the position before
    /// it. The range starts at 1 or later and ends with the window, so the last token need not be run.
    pub scored: Range<usize>,
}

impl Window {
    /// What a model must run to score the window: all tokens but the last.
    pub fn inputs(&self) -> &[u32] {
        &self.ids[..self.ids.len() - 1]
    }
}

/// The windows of a text.
///
/// A window holds `context` tokens, at the end of the text fewer, but at least 2. Windows start `stride`
/// tokens of the text apart. A token is scored at most once: in the first window that holds it and does
/// not begin with it. If there is a token to put before the text, every window begins with that token and
/// holds `context − 1` of the text, and every token of the text is scored.
///
/// Without it, and without overlap, the first token of each window is not scored. With context n + 1 and
/// stride n, each window predicts n tokens from n, and only the first token of the text is left out.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    text: &'a [u32],
    before: Option<u32>,
    /// Tokens of the text in each window.
    width: usize,
    stride: usize,
    start: usize,
    /// Where the window before ended in the text.
    seen: usize,
}

impl<'a> Windows<'a> {
    /// Windows of `text` with `context` tokens each. `stride` is by default the number of tokens of the
    /// text in a window, so that windows do not overlap. `before` is put before each window.
    ///
    /// # Errors
    /// [`Error::Windows`] where `context` is below 2, or `stride` is 0 or would skip text.
    pub fn new(
        text: &'a [u32],
        context: usize,
        stride: Option<usize>,
        before: Option<u32>,
    ) -> Result<Self> {
        let refused = |what, value, least, most| {
            Err(Error::Windows {
                what,
                value,
                least,
                most,
            })
        };
        if context < 2 {
            return refused("tokens of a window", context, 2, usize::MAX);
        }
        let width = context - usize::from(before.is_some());
        let stride = stride.unwrap_or(width);
        if !(1..=width).contains(&stride) {
            return refused("stride", stride, 1, width);
        }
        Ok(Self {
            text,
            before,
            width,
            stride,
            start: 0,
            seen: 0,
        })
    }

    /// Number of tokens that all windows together score.
    pub fn scored(&self) -> usize {
        self.clone().map(|window| window.scored.len()).sum()
    }
}

impl Iterator for Windows<'_> {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        if self.seen == self.text.len() {
            return None;
        }
        let end = self.text.len().min(self.start.saturating_add(self.width));
        let text = &self.text[self.start..end];
        let before = usize::from(self.before.is_some());
        // Scores from where the window before ended, but never the window's first token.
        let from = (before + self.seen - self.start).max(1);
        self.seen = end;
        self.start += self.stride;
        let ids: Vec<u32> = self
            .before
            .into_iter()
            .chain(text.iter().copied())
            .collect();
        let scored = from..ids.len();
        (ids.len() > 1).then_some(Window { ids, scored })
    }
}

/// The sum of negative log-probabilities over the scored tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    nats: f64,
    tokens: usize,
}

impl Perplexity {
    /// Adds a token whose probability was `e^−nll`.
    pub fn add(&mut self, nll: f64) {
        self.nats += nll;
        self.tokens += 1;
    }

    /// Scored tokens.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Sum of the negative logarithms, in nats.
    pub const fn nats(&self) -> f64 {
        self.nats
    }

    /// `e` to the power of the mean negative logarithm; NaN before the first token.
    pub fn perplexity(&self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }

    /// Bits per byte of text, where `bytes` is the length of the text that the scored tokens spell.
    pub fn bits_per_byte(&self, bytes: usize) -> f64 {
        self.nats / std::f64::consts::LN_2 / bytes as f64
    }
}

/// `−ln` of the probability that `logits` give to token `id`, computed in f64.
///
/// # Errors
/// [`Error::Vocabulary`] where there is no such logit.
pub fn nll(logits: &[f32], id: u32) -> Result<f64> {
    let Some(&logit) = logits.get(id as usize) else {
        let vocab = logits.len();
        return Err(Error::Vocabulary { id, vocab });
    };
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (max, logit) = (f64::from(max), f64::from(logit));
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - max).exp()).sum();
    Ok(sum.ln() + max - logit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(
        total: u32,
        context: usize,
        stride: Option<usize>,
        before: Option<u32>,
    ) -> Vec<Window> {
        let text: Vec<u32> = (0..total).collect();
        Windows::new(&text, context, stride, before)
            .unwrap()
            .collect()
    }

    fn window(ids: &[u32], scored: Range<usize>) -> Window {
        Window {
            ids: ids.to_vec(),
            scored,
        }
    }

    #[test]
    fn known_windows() {
        let w = window;
        assert_eq!(
            windows(8, 3, None, None),
            [w(&[0, 1, 2], 1..3), w(&[3, 4, 5], 1..3), w(&[6, 7], 1..2)]
        );
        // A last window of one token would predict nothing, so there is none.
        assert_eq!(
            windows(7, 3, None, None),
            [w(&[0, 1, 2], 1..3), w(&[3, 4, 5], 1..3)]
        );
        assert_eq!(
            windows(6, 4, Some(2), None),
            [w(&[0, 1, 2, 3], 1..4), w(&[2, 3, 4, 5], 2..4)]
        );
        assert_eq!(
            windows(5, 3, None, Some(9)),
            [w(&[9, 0, 1], 1..3), w(&[9, 2, 3], 1..3), w(&[9, 4], 1..2)]
        );
        assert_eq!(
            windows(4, 4, Some(1), Some(9)),
            [w(&[9, 0, 1, 2], 1..4), w(&[9, 1, 2, 3], 3..4)]
        );
        assert_eq!(windows(0, 4, None, None), []);
        assert_eq!(windows(1, 4, None, None), []);
        assert_eq!(windows(1, 2, None, Some(9)), [w(&[9, 0], 1..2)]);
    }

    #[test]
    fn each_token_is_scored_once_where_promised() {
        for total in 0..30u32 {
            for context in 2..9usize {
                for before in [None, Some(1000)] {
                    let extra = usize::from(before.is_some());
                    for stride in 1..=context - extra {
                        let all = windows(total, context, Some(stride), before);
                        let mut scored = vec![0; total as usize];
                        for w in &all {
                            assert!(w.ids.len() >= 2 && w.ids.len() <= context);
                            assert!(w.scored.start >= 1 && w.scored.end == w.ids.len());
                            assert!(!w.scored.is_empty());
                            assert_eq!(w.inputs().len() + 1, w.ids.len());
                            assert_eq!(w.ids.first() == before.as_ref(), extra == 1);
                            for &id in &w.ids[w.scored.clone()] {
                                scored[id as usize] += 1;
                            }
                        }
                        let first = |id: usize| {
                            before.is_none() && (id == 0 || stride == context && id % context == 0)
                        };
                        for (id, &times) in scored.iter().enumerate() {
                            assert_eq!(
                                times,
                                usize::from(!first(id)),
                                "{total} {context} {stride} {id}"
                            );
                        }
                        let text: Vec<u32> = (0..total).collect();
                        let sum = Windows::new(&text, context, Some(stride), before)
                            .unwrap()
                            .scored();
                        assert_eq!(sum, scored.iter().sum::<usize>());
                    }
                }
            }
        }
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        for (context, stride, before) in [
            (0, None, None),
            (1, None, None),
            (1, None, Some(0)),
            (4, Some(0), None),
            (4, Some(5), None),
            (4, Some(4), Some(0)),
        ] {
            let result = Windows::new(&[1, 2, 3], context, stride, before);
            assert!(matches!(result, Err(Error::Windows { .. })));
        }
    }

    #[test]
    fn sums_and_means() {
        let mut sum = Perplexity::default();
        assert!(sum.perplexity().is_nan());
        sum.add(2f64.ln());
        sum.add(8f64.ln());
        assert_eq!(sum.tokens(), 2);
        assert!((sum.perplexity() - 4.0).abs() < 1e-12);
        assert!((sum.bits_per_byte(8) - 0.5).abs() < 1e-12);
        assert!((nll(&[1.0, 1.0, 1.0, 1.0], 2).unwrap() - 4f64.ln()).abs() < 1e-12);
        assert!((nll(&[900.0, 0.0], 1).unwrap() - 900.0).abs() < 1e-9);
        assert!(matches!(
            nll(&[0.0], 1),
            Err(Error::Vocabulary { id: 1, vocab: 1 })
        ));
    }
}
