//! The whole forward pass on the CPU: the reference for every other way of running a model, and a slow
//! fallback where there is no device.

mod attention;
mod product;
mod steps;
#[cfg(test)]
mod tests;

use crate::{
    blocks::{Seen, Watcher},
    config::{Layer, Linear, Site},
    error::{Error, Result},
    thresholds::{ActivationThresholds, Gate, Tallies, Tally},
    weights::Weights,
};
use attention::{Cache, Heads};
use lacuna::format::{Dtype, Format, Matrix, Values};
use product::{Rows, linear};
use std::sync::Arc;

/// Dense f32 copies of weights are made up to this many bytes; the rest is decoded row by row
/// whenever it is used, so that a model needs little more memory than its own.
const DECODED_BYTES: usize = 4 << 30;

/// A model with a context, on the CPU.
///
/// Every step sums in f64 and stores f32, as a GPU stores f32 between its kernels, so a kernel may differ
/// by the rounding of its own f32 sums only. Results do not depend on how tokens are divided into calls,
/// nor on the number of threads.
#[derive(Debug, Clone)]
pub struct Twin {
    weights: Arc<Weights>,
    /// Dense f32 copies of the products by layer, in the order of [`Linear::ALL`]; shared by clones.
    decoded: Arc<Vec<[Option<Vec<f32>>; 7]>>,
    head: Arc<Option<Vec<f32>>>,
    /// For each rotary embedding `[positions, head_dim / 2, 2]`, as many positions as were needed so far.
    tables: Vec<Vec<f32>>,
    /// Keys and values of each layer.
    caches: Vec<Cache>,
    halves: bool,
    thresholds: ActivationThresholds,
    tallies: Tallies,
    position: usize,
}

impl Twin {
    /// A model with an empty context of up to
    /// [`max_positions`](crate::Config::max_positions) tokens.
    ///
    /// # Errors
    /// Those of [`Weights::check`].
    pub fn new(weights: Arc<Weights>) -> Result<Self> {
        weights.check()?;
        let mut budget = DECODED_BYTES;
        let head = decode(weights.head(), &mut budget);
        let layers = weights.layers.iter();
        let decoded = layers
            .map(|layer| Linear::ALL.map(|l| decode(layer.linear(l), &mut budget)))
            .collect();
        Ok(Self {
            tables: vec![vec![]; weights.config.ropes.len()],
            caches: vec![Cache::default(); weights.layers.len()],
            decoded: Arc::new(decoded),
            head: Arc::new(head),
            weights,
            halves: false,
            thresholds: ActivationThresholds::default(),
            tallies: Tallies::default(),
            position: 0,
        })
    }

    /// The same model with keys and values rounded through f16, as an f16 cache holds them.
    /// Its context is empty.
    #[must_use]
    pub fn with_f16_cache(mut self) -> Self {
        self.reset();
        self.halves = true;
        self
    }

    /// The same model with thresholded activations. Its context is empty.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Module`] for thresholds of another model.
    pub fn with_thresholds(mut self, thresholds: &ActivationThresholds) -> Result<Self> {
        self.set_thresholds(thresholds)?;
        Ok(self)
    }

    /// Applies these thresholds from now on. Empties the context and the tallies.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Module`] for thresholds of another model; nothing is changed.
    pub fn set_thresholds(&mut self, thresholds: &ActivationThresholds) -> Result<()> {
        thresholds.check(&self.weights.config)?;
        self.reset();
        self.thresholds = thresholds.clone();
        self.tallies = Tallies::default();
        Ok(())
    }

    /// How many activations were over their thresholds, in all tokens run since the last
    /// [`clear_tallies`](Self::clear_tallies).
    pub fn tallies(&self) -> Vec<Tally> {
        self.tallies.all()
    }

    /// Sets all tallies to zero.
    pub fn clear_tallies(&mut self) {
        self.tallies = Tallies::default();
    }

    /// The model's weights.
    pub fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    /// Tokens in the context: the position of the next one.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Forgets the context.
    pub fn reset(&mut self) {
        self.keep(0);
    }

    /// Forgets all but the first `to` tokens of the context.
    ///
    /// # Errors
    /// [`Error::Context`] where there are fewer.
    pub fn rewind(&mut self, to: usize) -> Result<()> {
        if to > self.position {
            return Err(Error::Context {
                tokens: to,
                limit: self.position,
            });
        }
        self.keep(to);
        Ok(())
    }

    /// Appends tokens to the context and gives the logits after each, `[tokens, vocab]`.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] and [`Error::Context`], both before anything is changed.
    pub fn forward(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let x = self.run(ids)?;
        Ok(self.logits(&x))
    }

    /// Appends tokens to the context and gives the logits after the last, `[vocab]`.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward), and [`Error::Shape`] where there is no token.
    pub fn forward_last(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        if ids.is_empty() {
            return Err(Error::Shape {
                what: "tokens given".into(),
                got: 0,
                expected: 1,
            });
        }
        let x = self.run(ids)?;
        Ok(self.logits(&x[x.len() - self.weights.config.hidden..]))
    }

    fn keep(&mut self, positions: usize) {
        let row = self.weights.config.kv_heads * self.weights.config.head_dim;
        for cache in &mut self.caches {
            cache.truncate(positions * row);
        }
        self.position = positions;
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let config = &self.weights.config;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= config.vocab) {
            let vocab = config.vocab;
            return Err(Error::Vocabulary { id, vocab });
        }
        let tokens = self.position.saturating_add(ids.len());
        if tokens > config.max_positions {
            let limit = config.max_positions;
            return Err(Error::Context { tokens, limit });
        }
        Ok(())
    }

    /// The residual stream after all layers, `[tokens, hidden]`.
    fn run(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.check(ids)?;
        let mut x = self.embed(ids);
        self.run_layers(&mut x, &mut |_| Ok(()))?;
        Ok(x)
    }

    /// Runs the layers over the residual stream of the tokens that follow the context. `watcher` sees
    /// what each layer shows, in order.
    pub(crate) fn run_layers(&mut self, x: &mut [f32], watcher: &mut Watcher<'_>) -> Result<()> {
        let tokens = x.len() / self.weights.config.hidden;
        self.extend_tables(self.position + tokens);
        for n in 0..self.weights.layers.len() {
            self.attention(n, x, watcher)?;
            self.feed_forward(n, x, watcher)?;
        }
        self.position += tokens;
        Ok(())
    }

    fn extend_tables(&mut self, positions: usize) {
        let config = &self.weights.config;
        for (table, rope) in self.tables.iter_mut().zip(&config.ropes) {
            if table.len() < positions * config.head_dim {
                let positions = positions.next_power_of_two().min(config.max_positions);
                *table = rope.table(config.head_dim, positions);
            }
        }
    }

    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        let config = &self.weights.config;
        // A tied head is the embedding, so its decoded copy serves here.
        let decoded = if config.tied_head {
            self.head.as_deref()
        } else {
            None
        };
        let embedding = Rows {
            matrix: &self.weights.embedding,
            decoded,
        };
        let mut row = vec![0.0; config.hidden];
        let mut x = Vec::with_capacity(ids.len() * config.hidden);
        for &id in ids {
            embedding.read(id as usize, &mut row);
            let scale = f64::from(config.embedding_scale);
            x.extend(row.iter().map(|w| (w * scale) as f32));
        }
        x
    }

    /// Zeroes the elements of `x` where those of `by` are not over their thresholds, and counts the others.
    fn threshold(&mut self, n: usize, gate: Gate, by: &[f32], x: &mut [f32]) {
        let Some(thresholds) = self.thresholds.get(n, gate) else {
            return;
        };
        let channels = gate.channels(&self.weights.config);
        let rows = by.chunks_exact(channels).zip(x.chunks_exact_mut(channels));
        let active = rows.map(|(by, x)| thresholds.apply(by, x)).sum();
        self.tallies.add(n, gate, active, by.len());
    }

    fn linear(&mut self, n: usize, of: Linear, x: &[f32]) -> Vec<f32> {
        let gate = Gate::Input(of);
        if self.thresholds.get(n, gate).is_none() {
            return self.product(n, of, x);
        }
        let mut left = x.to_vec();
        self.threshold(n, gate, x, &mut left);
        self.product(n, of, &left)
    }

    fn product(&self, n: usize, of: Linear, x: &[f32]) -> Vec<f32> {
        let layer = &self.weights.layers[n];
        let rows = Rows {
            matrix: layer.linear(of),
            decoded: self.decoded[n][of as usize].as_deref(),
        };
        linear(rows, x, layer.bias(of))
    }

    fn attention(&mut self, n: usize, x: &mut [f32], watcher: &mut Watcher<'_>) -> Result<()> {
        let weights = Arc::clone(&self.weights);
        let (config, layer) = (&weights.config, &weights.layers[n]);
        let Layer { rope, window } = config.layers[n];
        let (head_dim, eps) = (config.head_dim, config.norm_eps);
        let h = steps::rms_norm(x, &layer.attention_norm, eps);
        watcher(Seen::Input(Site::Attention, &h))?;
        let mut q = self.linear(n, Linear::Q, &h);
        let mut k = self.linear(n, Linear::K, &h);
        let v = self.linear(n, Linear::V, &h);
        let table = &self.tables[rope][self.position * head_dim..];
        let heads = [
            (&mut q, &layer.q_norm, config.heads),
            (&mut k, &layer.k_norm, config.kv_heads),
        ];
        for (x, norm, heads) in heads {
            if let Some(norm) = norm {
                steps::rms_norm_in_place(x, norm, eps);
            }
            steps::rope(x, table, heads, head_dim);
        }
        self.caches[n].extend(&k, &v, self.halves);
        let heads = Heads {
            queries: config.heads,
            keys: config.kv_heads,
            head_dim,
            scale: config.query_scale,
            window,
        };
        let mixed = heads.attend(&q, &self.caches[n], self.position);
        watcher(Seen::Input(Site::Output, &mixed))?;
        let mut y = self.linear(n, Linear::O, &mixed);
        if let Some(norm) = &layer.post_attention {
            steps::rms_norm_in_place(&mut y, norm, eps);
        }
        steps::add(x, &y);
        Ok(())
    }

    fn feed_forward(&mut self, n: usize, x: &mut [f32], watcher: &mut Watcher<'_>) -> Result<()> {
        let weights = Arc::clone(&self.weights);
        let (config, layer) = (&weights.config, &weights.layers[n]);
        let h = steps::rms_norm(x, &layer.ffn_norm, config.norm_eps);
        watcher(Seen::Input(Site::FeedForward, &h))?;
        let mut gate = self.linear(n, Linear::Gate, &h);
        let up = self.linear(n, Linear::Up, &h);
        let mut h = steps::gated(&gate, &up, config.activation);
        config.activation.apply(&mut gate);
        watcher(Seen::FeedForward {
            gate: &gate,
            up: &up,
        })?;
        self.threshold(n, Gate::FeedForward, &gate, &mut h);
        watcher(Seen::Input(Site::Down, &h))?;
        let mut y = self.linear(n, Linear::Down, &h);
        if let Some(norm) = &layer.post_ffn {
            steps::rms_norm_in_place(&mut y, norm, config.norm_eps);
        }
        steps::add(x, &y);
        Ok(())
    }

    /// Logits `[tokens, vocab]` from the residual stream of some tokens.
    fn logits(&self, x: &[f32]) -> Vec<f32> {
        let weights = &self.weights;
        let x = steps::rms_norm(x, &weights.final_norm, weights.config.norm_eps);
        let head = Rows {
            matrix: weights.head(),
            decoded: self.head.as_deref(),
        };
        linear(head, &x, None)
    }
}

/// A dense f32 copy, unless the weight is dense f32 already or the budget of bytes is used up.
fn decode(matrix: &Matrix, budget: &mut usize) -> Option<Vec<f32>> {
    if matrix.format() == Format::Dense(Dtype::F32) {
        return None;
    }
    let bytes = matrix.rows().checked_mul(matrix.cols())?.checked_mul(4)?;
    *budget = budget.checked_sub(bytes)?;
    match matrix.to_dense().values() {
        Values::F32(values) => Some(values.clone()),
        values => Some(values.to_f32()),
    }
}
