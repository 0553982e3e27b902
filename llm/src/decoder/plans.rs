//! Builds the plans of a decoder, and the tensors that they share.

use crate::{
    config::{Config, Layer, Linear, Site},
    error::{Error, Result},
    glue::{Glue, KvType, Residual},
    model::{LayerOnDevice, Model, Stack, region},
    thresholds::{Gate, Sparse},
};
use lacuna::{
    Gpu, PlanBuilder, Tensor, Weight, Workspace,
    caps::DeviceClass,
    format::{Format, Precision},
    kernel::{Problem, Skip, candidates},
};

/// The most vectors that a product takes without tiles.
const MAX_BATCH: usize = 8;

/// The tensors that all plans of a decoder share.
#[derive(Debug)]
pub struct Activations {
    /// `[position, tokens, step, unused]`, see `lib/state.wgsl`.
    pub state: Tensor,
    /// Token ids of this run.
    pub ids: Tensor,
    /// The residual stream.
    pub x: Tensor,
    /// The output of the last norm.
    pub normed: Tensor,
    /// The output of a block's last product, not yet added to `x`.
    pub h: Tensor,
    /// Queries, keys and values, where [`LayerOnDevice::place`] says.
    pub qkv: Tensor,
    pub o: Tensor,
    /// The outputs of gate and up, likewise.
    pub gate_up: Tensor,
    /// `act(gate) ⊙ up`.
    pub inner: Tensor,
    /// For each resident layer, `[keys, values][kv_heads][context][head_dim]`.
    pub cache: Vec<Tensor>,
    /// For each rotary embedding, `[context][head_dim / 2]` of (cos, sin).
    pub turns: Vec<Tensor>,
    /// What layers with thresholds need.
    pub sparse: Option<Sparse>,
}

impl Activations {
    /// Tensors for runs of up to `chunk` tokens. `layers` has an entry for each layer that is resident at
    /// a time: its gates that have thresholds.
    pub fn new(
        gpu: &Gpu,
        config: &Config,
        layers: &[Vec<Gate>],
        chunk: usize,
        context: usize,
        kv: KvType,
    ) -> Result<Self> {
        let rows = |len| gpu.tensor(chunk, len);
        let outputs = |site: Site| {
            let each = site.linears().iter();
            let regions = each.map(|&linear| region(chunk, config.shape(linear)[0]));
            gpu.tensor(1, regions.sum())
        };
        let cached = context * config.head_dim / kv.per_word();
        let cache = layers
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
            qkv: outputs(Site::Attention)?,
            o: rows(config.width(Site::Output))?,
            gate_up: outputs(Site::FeedForward)?,
            inner: rows(config.ffn)?,
            cache: cache.collect::<lacuna::Result<_>>()?,
            turns: turns.collect::<lacuna::Result<_>>()?,
            sparse: Sparse::new(gpu, config, chunk, layers)?,
        })
    }

    pub fn bytes(&self) -> u64 {
        let rows = [
            &self.x,
            &self.normed,
            &self.h,
            &self.qkv,
            &self.o,
            &self.gate_up,
            &self.inner,
        ];
        let all = rows.into_iter().chain(&self.cache).chain(&self.turns);
        all.map(Tensor::bytes).sum::<u64>() + self.sparse.as_ref().map_or(0, Sparse::bytes)
    }
}

/// What the norm before a block first adds to the residual stream: nothing, or the output of the block
/// before, as it is or through a norm of its own.
pub type Settle<'a> = (Residual, Option<&'a Tensor>);

/// Builds plans.
pub struct Builder<'a> {
    pub gpu: &'a Gpu,
    pub activations: &'a Activations,
    pub glue: Glue<'a>,
    pub chunk: usize,
    /// The precision of activations in the layers' products.
    pub precision: Precision,
    /// Where the attention of a step puts what it finds in each share of its keys, if they are cut.
    pub splits: Option<Tensor>,
}

impl Builder<'_> {
    /// `y = W · x + bias` of some products, with x in the precision asked for, if such weights have a product
    /// for it.
    pub fn linear(
        &self,
        plan: &mut PlanBuilder,
        stack: &Stack,
        [x, y]: [&Tensor; 2],
    ) -> Result<()> {
        plan.precision(self.precision_for(&stack.weight, x.batch()));
        plan.linear(&stack.weight, x, stack.bias.as_ref(), y)?;
        Ok(())
    }

    /// All products of a site, into the tensor of its outputs.
    pub fn products(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
        site: Site,
        [x, outputs]: [&Tensor; 2],
    ) -> Result<()> {
        for (first, stack) in layer.stacks(site, self.chunk) {
            let y = outputs.view(self.gpu, first, tokens, stack.weight.rows())?;
            self.product(plan, tokens, layer, stack, [x, &y])?;
        }
        Ok(())
    }

    fn precision_for(&self, weight: &Weight, batch: usize) -> Precision {
        let problem = Problem {
            rows: weight.rows(),
            cols: weight.cols(),
            batch,
            format: weight.format(),
            bias: false,
            layout: weight.layout(),
            skip: Skip::Nothing,
            precision: self.precision,
        };
        // Matrix units multiply whole tiles of vectors; with few vectors most of a tile is padding. For
        // group-pruned weights, CPU adapters only convert the bytes back to numbers.
        let slower = match self.precision {
            Precision::F32 | Precision::I24 => false,
            Precision::F16 => batch <= MAX_BATCH,
            Precision::I8 => {
                let cpu = self.gpu.caps().class == DeviceClass::Cpu;
                cpu && matches!(problem.format, Format::Gqs { .. })
            }
        };
        if slower || candidates(&problem, self.gpu.caps()).is_err() {
            return Precision::F32;
        }
        self.precision
    }

    /// One scratch buffer for all plans of a model, which never run at the same time.
    pub fn workspace(&self, model: &Model) -> Result<Workspace> {
        // A single token may need more than a chunk: products of few vectors may cut their columns into
        // slices, and keep the sums of slices in scratch.
        let bytes = |tokens| Ok::<_, Error>(self.layers(model, tokens, None)?.scratch_bytes());
        let bytes = bytes(self.chunk)?.max(bytes(1)?);
        Ok(Workspace::new(self.gpu, bytes)?)
    }

    fn plan(&self, workspace: Option<&Workspace>) -> PlanBuilder {
        let mut plan = PlanBuilder::new(self.gpu);
        if let Some(workspace) = workspace {
            plan.workspace(workspace);
        }
        plan
    }

    /// The first `tokens` rows of a tensor of activations.
    pub fn rows(&self, tensor: &Tensor, tokens: usize) -> Result<Tensor> {
        Ok(tensor.view(self.gpu, 0, tokens, tensor.len())?)
    }

    /// How the output of a layer's feed-forward is added to the residual stream.
    pub fn after_ffn(layer: &LayerOnDevice) -> Settle<'_> {
        match &layer.post_ffn {
            Some(post) => (Residual::Post, Some(post)),
            None => (Residual::Add, None),
        }
    }

    /// Embedding and layers over `tokens` tokens; the output of the last block stays in `h`.
    pub fn layers(
        &self,
        model: &Model,
        tokens: usize,
        workspace: Option<&Workspace>,
    ) -> Result<PlanBuilder> {
        let mut plan = self.plan(workspace);
        let act = self.activations;
        let x = self.rows(&act.x, tokens)?;
        for slice in &model.embedding {
            let Some(reader) = slice.reader() else {
                continue;
            };
            for (part, layout) in slice.weight.layouts().enumerate() {
                let gather = self
                    .glue
                    .gather(tokens, reader.clone(), slice.base, part, layout);
                plan.dispatch_on(gather, &slice.weight, &[act.ids.clone(), x.clone()])?;
            }
        }
        let mut settle = (Residual::None, None);
        let layers = model.layers.iter().zip(&model.config().layers);
        for ((layer, shape), cache) in layers.zip(&act.cache) {
            self.attention(&mut plan, tokens, (layer, shape), cache, settle)?;
            self.feed_forward(&mut plan, tokens, layer)?;
            settle = Self::after_ffn(layer);
        }
        Ok(plan)
    }

    /// The attention block: norm, queries, keys and values, heads, and the output product, which stays in
    /// `h`.
    pub fn attention(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        (layer, shape): (&LayerOnDevice, &Layer),
        cache: &Tensor,
        settle: Settle<'_>,
    ) -> Result<()> {
        let (act, glue) = (self.activations, &self.glue);
        let rows = |tensor| self.rows(tensor, tokens);
        let (normed, h) = (rows(&act.normed)?, rows(&act.h)?);
        let o = rows(&act.o)?;
        self.norm(plan, tokens, settle, &layer.attention_norm)?;
        self.products(plan, tokens, layer, Site::Attention, [&normed, &act.qkv])?;
        let places =
            [Linear::Q, Linear::K, Linear::V].map(|linear| layer.place(linear, self.chunk));
        let (state, qkv) = (act.state.clone(), act.qkv.clone());
        let mut heads = vec![
            state.clone(),
            qkv.clone(),
            cache.clone(),
            act.turns[shape.rope].clone(),
        ];
        heads.extend(layer.head_norms.clone());
        plan.dispatch(glue.heads(tokens, places), &heads)?;
        let (count, result) = match &self.splits {
            None => (1, &o),
            Some(splits) => (splits.batch(), splits),
        };
        plan.dispatch(
            glue.attention(tokens, shape, places[0], count),
            &[state, qkv, cache.clone(), result.clone()],
        )?;
        if let Some(splits) = &self.splits {
            plan.dispatch(glue.join(tokens, count), &[splits.clone(), o.clone()])?;
        }
        self.product(plan, tokens, layer, layer.stack(Linear::O), [&o, &h])
    }

    /// The feed-forward block, after [`attention`](Self::attention); its output stays in `h`.
    pub fn feed_forward(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
    ) -> Result<()> {
        self.feed_forward_in(plan, tokens, layer)?;
        self.feed_forward_out(plan, tokens, layer)
    }

    /// The first half of the feed-forward block: norm, gate and up.
    pub fn feed_forward_in(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
    ) -> Result<()> {
        let post = layer.post_attention.as_ref();
        let residual = post.map_or(Residual::Add, |_| Residual::Post);
        self.norm(plan, tokens, (residual, post), &layer.ffn_norm)?;
        let normed = self.rows(&self.activations.normed, tokens)?;
        self.gate_and_up(plan, tokens, layer, &normed)
    }

    /// The second half of the feed-forward block: activation and down.
    pub fn feed_forward_out(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        layer: &LayerOnDevice,
    ) -> Result<()> {
        let h = self.rows(&self.activations.h, tokens)?;
        self.down(plan, tokens, layer, &h)
    }

    /// Adds `h` to the residual stream `x`, as `residual` says, and then puts the norm of `x` into `normed`.
    pub fn norm(
        &self,
        plan: &mut PlanBuilder,
        tokens: usize,
        (residual, post): Settle<'_>,
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

    /// The norm before the head: of every row of a chunk, or (`last`) of the run's last token only.
    pub fn final_norm(&self, plan: &mut PlanBuilder, model: &Model, last: bool) -> Result<()> {
        let act = self.activations;
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
    pub fn head(
        &self,
        model: &Model,
        logits: &Tensor,
        workspace: Option<&Workspace>,
    ) -> Result<PlanBuilder> {
        let mut plan = self.plan(workspace);
        self.final_norm(&mut plan, model, true)?;
        let normed = self.rows(&self.activations.normed, 1)?;
        for slice in &model.head {
            let logits = logits.view(self.gpu, slice.base, 1, slice.weight.rows())?;
            plan.linear(&slice.weight, &normed, None, &logits)?;
        }
        Ok(plan)
    }
}
