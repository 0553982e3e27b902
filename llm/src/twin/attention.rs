//! Attention over the cache.

use half::f16;
use rayon::prelude::*;

/// Keys and values of one layer, `[positions, kv_heads · head_dim]` each.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl Cache {
    /// Appends keys and values; `halves` rounds them through f16.
    pub fn extend(&mut self, keys: &[f32], values: &[f32], halves: bool) {
        let rounded = |x: &f32| {
            if halves {
                f16::from_f32(*x).to_f32()
            } else {
                *x
            }
        };
        self.keys.extend(keys.iter().map(rounded));
        self.values.extend(values.iter().map(rounded));
    }

    /// Keeps the first `elements` of both.
    pub fn truncate(&mut self, elements: usize) {
        self.keys.truncate(elements);
        self.values.truncate(elements);
    }
}

/// The heads of a layer, and which positions its queries see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads.
    pub keys: usize,
    /// Elements of a head, even.
    pub head_dim: usize,
    /// The factor of the scores.
    pub scale: f32,
    /// A query sees its own and the `window − 1` positions before.
    pub window: Option<usize>,
}

impl Heads {
    /// Attention's output `[tokens, heads · head_dim]` for queries of that shape, the first at position
    /// `start`. The cache must already hold the keys and values of these tokens.
    pub fn attend(&self, queries: &[f32], cache: &Cache, start: usize) -> Vec<f32> {
        let mut y = vec![0.0; queries.len()];
        let heads = y
            .par_chunks_mut(self.head_dim)
            .zip(queries.par_chunks(self.head_dim));
        heads.enumerate().for_each(|(i, (y, query))| {
            self.attend_head(i % self.queries, start + i / self.queries, query, cache, y);
        });
        y
    }

    fn attend_head(
        &self,
        head: usize,
        position: usize,
        query: &[f32],
        cache: &Cache,
        y: &mut [f32],
    ) {
        let row = self.keys * self.head_dim;
        // Consecutive query heads share a key head.
        let offset = head / (self.queries / self.keys) * self.head_dim;
        let at = |p: usize| p * row + offset..p * row + offset + self.head_dim;
        let first = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
        let scores: Vec<f64> = (first..=position)
            .map(|p| {
                let key = &cache.keys[at(p)];
                let products = query.iter().zip(key);
                let sum: f64 = products.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                sum * f64::from(self.scale)
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sums = vec![0.0; self.head_dim];
        let mut total = 0.0;
        for (p, score) in (first..).zip(scores) {
            let weight = (score - max).exp();
            total += weight;
            let value = &cache.values[at(p)];
            for (sum, &v) in sums.iter_mut().zip(value) {
                *sum += weight * f64::from(v);
            }
        }
        for (y, sum) in y.iter_mut().zip(sums) {
            *y = (sum / total) as f32;
        }
    }
}
