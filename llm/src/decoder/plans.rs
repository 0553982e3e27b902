//! The plans of a decoder, and the tensors that they share.

use crate::{
    config::Linear,
    error::Result,
    glue::{Glue, KvType, Residual},
    model::{LayerOnDevice, Model, dense},
};
use lacuna::{Gpu, PlanBuilder, Tensor, Workspace};

/// The tensors that all plans of a decoder share.
#[derive(Debug)]
pub struct Activations {
    /// `[position, tokens, step, failed]`, see `lib/state.wgsl`.
    pub state: Tensor,
    /// Tokens of this run.
    pub ids: Tensor,
    /// The residual stream.
    pub x: Tensor,
    /// What a norm gives.
    pub normed: Tensor,
    /// What the last product of a block gives.
    pub h: Tensor,
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub o: Tensor,
    pub gate: Tensor,
    pub up: Tensor,
    /// One a layer: `[keys, values][kv_heads][context][head_dim]`.
    pub cache: Vec<Tensor>,
    /// One a rotary embedding: `[context][head_dim / 2]` of (cos, sin).
    pub turns: Vec<Tensor>,
}

impl Activations {
    pub fn new(model: &Model, chunk: usize, context: usize, kv: KvType) -> Result<Self> {
        let (gpu, config) = (model.gpu(), model.config());
        let rows = |len| gpu.tensor(chunk, len);
        let (q, kv_len) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let cached = context * config.head_dim / kv.per_word();
        let cache = config
            .layers
            .iter()
            .map(|_| gpu.tensor(2 * config.kv_heads, cached));
        let turns = config.ropes.iter().map(|rope| {
            let table = rope.table(config.head_dim, context);
            gpu.tensor_from(context, config.head_dim, &table)
        });
        Ok(Self {
            state: gpu.tensor(1, 4)?,
            ids: gpu.tensor(1, chunk)?,
            x: rows(config.hidden)?,
            normed: rows(config.hidden)?,
            h: rows(config.hidden)?,
            q: rows(q)?,
            k: rows(kv_len)?,
            v: rows(kv_len)?,
            o: rows(q)?,
            gate: rows(config.ffn)?,
            up: rows(config.ffn)?,
            cache: cache.collect::<lacuna::Result<_>>()?,
            turns: turns.collect::<lacuna::Result<_>>()?,
        })
    }

    pub fn bytes(&self) -> u64 {
        let rows = [
            &self.x,
            &self.normed,
            &self.h,
            &self.q,
            &self.k,
            &self.v,
            &self.o,
            &self.gate,
            &self.up,
        ];
        let all = rows.into_iter().chain(&self.cache).chain(&self.turns);
        all.map(Tensor::bytes).sum()
    }
}

/// Puts the plans of a decoder together.
pub struct Builder<'a> {
    pub model: &'a Model,
    pub activations: &'a Activations,
    pub glue: Glue<'a>,
    pub chunk: usize,
}

impl Builder<'_> {
    fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    /// Scratch for the plans, which never run at the same time.
    pub fn workspace(&self) -> Result<Workspace> {
        let plan = self.layers(self.chunk, None)?;
        Ok(Workspace::new(self.gpu(), plan.scratch_bytes())?)
    }

    fn plan(&self, workspace: Option<&Workspace>) -> PlanBuilder {
        let plan = PlanBuilder::new(self.gpu());
        match workspace {
            Some(workspace) => plan.workspace(workspace),
            None => plan,
        }
    }

    /// The first `tokens` rows of a tensor of activations.
    fn rows(&self, tensor: &Tensor, tokens: usize) -> Result<Tensor> {
        Ok(tensor.view(self.gpu(), 0, tokens, tensor.len())?)
    }

    /// How layer `layer` settles what its feed-forward gave.
    fn after_ffn(layer: &LayerOnDevice) -> (Residual, Option<&Tensor>) {
        match &layer.post_ffn {
            Some(post) => (Residual::Post, Some(post)),
            None => (Residual::Add, None),
        }
    }

    /// Embedding and layers over `tokens` tokens; the last layer's product stays in `h`.
    pub fn layers(&self, tokens: usize, workspace: Option<&Workspace>) -> Result<PlanBuilder> {
        let mut plan = self.plan(workspace);
        let (model, act, glue) = (self.model, self.activations, &self.glue);
        let rows = |tensor| self.rows(tensor, tokens);
        let (x, normed, h) = (rows(&act.x)?, rows(&act.normed)?, rows(&act.h)?);
        let (q, k, v, o) = (rows(&act.q)?, rows(&act.k)?, rows(&act.v)?, rows(&act.o)?);
        let (gate, up) = (rows(&act.gate)?, rows(&act.up)?);

        for slice in &model.embedding {
            let Some(dtype) = dense(&slice.weight) else {
                continue;
            };
            for (part, layout) in slice.weight.layouts().enumerate() {
                let gather = glue.gather(tokens, dtype, slice.base, part, layout);
                plan.dispatch_on(gather, &slice.weight, &[act.ids.clone(), x.clone()])?;
            }
        }
        let mut settle = (Residual::None, None);
        for (i, layer) in model.layers.iter().enumerate() {
            let shape = &model.config().layers[i];
            let cache = &act.cache[i];
            self.norm(&mut plan, tokens, settle, &layer.attention_norm)?;
            for (linear, y) in [(Linear::Q, &q), (Linear::K, &k), (Linear::V, &v)] {
                let (weight, bias) = layer.linear(linear);
                plan.linear(weight, &normed, bias, y)?;
            }
            let mut heads = vec![
                act.state.clone(),
                q.clone(),
                k.clone(),
                v.clone(),
                cache.clone(),
                act.turns[shape.rope].clone(),
            ];
            heads.extend(layer.head_norms.clone());
            plan.dispatch(glue.heads(tokens), &heads)?;
            plan.dispatch(
                glue.attention(tokens, shape),
                &[act.state.clone(), q.clone(), cache.clone(), o.clone()],
            )?;
            let (weight, bias) = layer.linear(Linear::O);
            plan.linear(weight, &o, bias, &h)?;

            let post = layer.post_attention.as_ref();
            let residual = post.map_or(Residual::Add, |_| Residual::Post);
            self.norm(&mut plan, tokens, (residual, post), &layer.ffn_norm)?;
            for (linear, y) in [(Linear::Gate, &gate), (Linear::Up, &up)] {
                let (weight, bias) = layer.linear(linear);
                plan.linear(weight, &normed, bias, y)?;
            }
            plan.dispatch(glue.gated(tokens), &[gate.clone(), up.clone()])?;
            let (weight, bias) = layer.linear(Linear::Down);
            plan.linear(weight, &gate, bias, &h)?;
            settle = Self::after_ffn(layer);
        }
        Ok(plan)
    }

    /// Settles `h` into x and norms x.
    fn norm(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        (residual, post): (Residual, Option<&Tensor>),
        weight: &Tensor,
    ) -> Result<()> {
        let act = self.activations;
        let mut tensors = vec![
            self.rows(&act.x, tokens)?,
            weight.clone(),
            self.rows(&act.normed, tokens)?,
        ];
        if residual != Residual::None {
            tensors.push(self.rows(&act.h, tokens)?);
        }
        tensors.extend(post.cloned());
        plan.dispatch(self.glue.norm(tokens, residual, false), &tensors)?;
        Ok(())
    }

    /// The norm before the head, of every row of a chunk or of the run's last.
    pub fn final_norm(&self, plan: &mut PlanBuilder, last: bool) -> Result<()> {
        let (act, model) = (self.activations, self.model);
        let settle = model
            .layers
            .last()
            .map_or((Residual::None, None), Self::after_ffn);
        if !last {
            return self.norm(plan, self.chunk, settle, &model.final_norm);
        }
        let (residual, post) = settle;
        let mut tensors = vec![
            act.x.clone(),
            model.final_norm.clone(),
            self.rows(&act.normed, 1)?,
        ];
        if residual != Residual::None {
            tensors.push(act.h.clone());
        }
        tensors.extend(post.cloned());
        tensors.push(act.state.clone());
        plan.dispatch(self.glue.norm(self.chunk, residual, true), &tensors)?;
        Ok(())
    }

    /// Logits of the run's last token.
    pub fn head(&self, logits: &Tensor, workspace: Option<&Workspace>) -> Result<PlanBuilder> {
        let mut plan = self.plan(workspace);
        self.final_norm(&mut plan, true)?;
        let normed = self.rows(&self.activations.normed, 1)?;
        for slice in &self.model.head {
            let logits = logits.view(self.gpu(), slice.base, 1, slice.weight.rows())?;
            plan.linear(&slice.weight, &normed, None, &logits)?;
        }
        Ok(plan)
    }
}
