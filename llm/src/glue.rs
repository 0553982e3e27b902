//! The launches between the products, of this crate's own shaders.

use crate::{
    config::{Activation, Config, Layer},
    model::Place,
};
use lacuna::{
    Caps,
    caps::DeviceClass,
    kernel::{Const, Dispatch, Operand, PartLayout, Role, RowReader, fold},
};
use std::borrow::Cow;

macro_rules! fragment {
    ($name:literal) => {
        Cow::Borrowed(include_str!(concat!("../shaders/lib/", $name, ".wgsl")))
    };
}

macro_rules! shader {
    ($name:literal) => {
        Cow::Borrowed(include_str!(concat!("../shaders/", $name, ".wgsl")))
    };
}

/// The type of cached keys and values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KvType {
    /// Two bytes an element.
    #[default]
    F16,
    /// Four bytes an element.
    F32,
}

impl KvType {
    /// Elements in a 32-bit word.
    pub(crate) const fn per_word(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 1,
        }
    }

    fn fragment(self) -> Cow<'static, str> {
        match self {
            Self::F16 => fragment!("cache_f16"),
            Self::F32 => fragment!("cache_f32"),
        }
    }
}

/// What a norm first does to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residual {
    None,
    /// `x += h`.
    Add,
    /// `x += norm(h)`.
    Post,
}

/// Invocations of a workgroup that reduces, for all launches but norms of whole rows.
const LANES: u32 = 128;

/// Makes the launches for one model on one device.
#[derive(Debug, Clone)]
pub(crate) struct Glue<'a> {
    config: &'a Config,
    caps: &'a Caps,
    context: usize,
    kv: KvType,
}

fn consts(list: &[(&'static str, usize)]) -> Vec<(&'static str, Const)> {
    list.iter()
        .map(|&(name, value)| (name, Const::U32(value as u32)))
        .collect()
}

fn read(name: &'static str, binding: u32, tensor: usize) -> Operand {
    Operand::read(name, binding, Role::Tensor(tensor))
}

fn write(name: &'static str, binding: u32, tensor: usize) -> Operand {
    Operand::write(name, binding, Role::Tensor(tensor))
}

impl<'a> Glue<'a> {
    /// The activation of the feed-forward.
    pub fn activation(&self) -> Activation {
        self.config.activation
    }

    pub fn new(config: &'a Config, caps: &'a Caps, context: usize, kv: KvType) -> Self {
        Self {
            config,
            caps,
            context,
            kv,
        }
    }

    /// Invocations of a workgroup that reduces, and whether they are one subgroup. On a CPU adapter with
    /// subgroups of one size they are (one SIMD register); elsewhere there are `wanted`, or as many as
    /// the device allows.
    fn workgroup(&self, wanted: u32) -> (u32, bool) {
        match (self.caps.class, self.caps.fixed_subgroup()) {
            (DeviceClass::Cpu, Some(lanes)) => (lanes, true),
            _ => (1 << self.caps.max_invocations.min(wanted).ilog2(), false),
        }
    }

    fn total(&self) -> Cow<'static, str> {
        if self.workgroup(LANES).1 {
            fragment!("total_subgroup")
        } else {
            fragment!("total_shared")
        }
    }

    /// A launch of workgroups that reduce, of [`LANES`] invocations as far as
    /// [`workgroup`](Self::workgroup) allows.
    fn reducing(&self, name: &str, grid: [usize; 3]) -> Dispatch {
        self.reducing_by(LANES, name, grid)
    }

    /// The same for `wanted` invocations, a power of two.
    fn reducing_by(&self, wanted: u32, name: &str, grid: [usize; 3]) -> Dispatch {
        let (workgroup, subgroups) = self.workgroup(wanted);
        Dispatch {
            name: name.to_owned(),
            consts: vec![("WORKGROUP", Const::U32(workgroup))],
            invocations: workgroup,
            workgroup_bytes: if subgroups { 0 } else { 4 * workgroup },
            subgroups,
            grid: grid.map(|n| n as u32),
            ..Dispatch::default()
        }
    }

    /// `x[t] = scale · E[ids[t]]` for the rows of E in one part of a slice. Tensors: ids, x.
    pub fn gather(
        &self,
        tokens: usize,
        reader: RowReader,
        base: usize,
        part: usize,
        layout: &PartLayout,
    ) -> Dispatch {
        let workgroup = 64;
        let packets = self.config.hidden.div_ceil(reader.span);
        let mut consts = consts(&[("WORKGROUP", workgroup), ("PACKETS", packets)]);
        let scale = self.config.embedding_scale * f32::from_bits(layout.factor);
        consts.push(("SCALE", Const::F32(scale)));
        consts.extend(reader.consts);
        let mut fragments = reader.fragments;
        fragments.push(shader!("gather"));
        Dispatch {
            name: "gather".into(),
            consts,
            fragments,
            params: vec![
                tokens as u32,
                self.config.hidden as u32,
                base as u32 + layout.row_base,
                layout.rows,
                layout.values,
                layout.value_stride,
                layout.scales,
                layout.scale_stride,
            ],
            operands: vec![
                read("ids", 1, 0),
                write("x", 2, 1),
                Operand::read("words", 3, Role::Part(part)),
            ],
            invocations: workgroup as u32,
            grid: [packets.div_ceil(workgroup) as u32, tokens as u32, 1],
            ..Dispatch::default()
        }
    }

    /// `x += …; y = norm(x)` for every row, or (`last`) for the run's last row only. Tensors: x, weight,
    /// y, then, as far as they are used, h, the weight of h's own norm, state.
    pub fn norm(&self, tokens: usize, residual: Residual, last: bool) -> Dispatch {
        // One workgroup takes a whole row: the more it loads at a time, the less often it waits for memory.
        let quads = (self.config.hidden / 4) as u32;
        let lanes = quads.next_power_of_two().clamp(LANES, 1024);
        let rows = [if last { 1 } else { tokens }, 1, 1];
        let mut dispatch = self.reducing_by(lanes, "norm", rows);
        dispatch.consts.extend(consts(&[
            ("QUADS", self.config.hidden / 4),
            ("TOKENS", tokens),
        ]));
        dispatch
            .consts
            .push(("EPS", Const::F32(self.config.norm_eps)));
        dispatch.operands = vec![write("x", 1, 0), read("weight", 4, 1), write("y", 5, 2)];
        dispatch.fragments = vec![self.total(), shader!("norm")];
        let mut next = 3;
        let mut bind = |name, binding| {
            dispatch.operands.push(read(name, binding, next));
            next += 1;
        };
        dispatch.fragments.push(match residual {
            Residual::None => fragment!("residual_none"),
            Residual::Add => {
                bind("h", 2);
                fragment!("residual_add")
            }
            Residual::Post => {
                bind("h", 2);
                bind("post", 3);
                fragment!("residual_post")
            }
        });
        if last {
            bind("state", 6);
            dispatch
                .fragments
                .extend([fragment!("state"), fragment!("row_last")]);
        } else {
            dispatch.fragments.push(fragment!("row_each"));
        }
        dispatch
    }

    fn head_consts(&self) -> Vec<(&'static str, Const)> {
        consts(&[
            ("HEADS", self.config.heads),
            ("KV_HEADS", self.config.kv_heads),
            ("CONTEXT", self.context),
        ])
    }

    /// Norms and rotates the heads of q and k, and stores k and v in the cache. Tensors: state, qkv, cache,
    /// turns, then the head norms if the model has them.
    pub fn heads(&self, tokens: usize, [q, k, v]: [Place; 3]) -> Dispatch {
        let config = self.config;
        let heads = config.heads + 2 * config.kv_heads;
        let mut dispatch = self.reducing("heads", [heads, tokens, 1]);
        dispatch.consts.extend(self.head_consts());
        dispatch.consts.extend(consts(&[
            ("HALF", config.head_dim / 8),
            ("Q_STRIDE", q.stride / 4),
            ("K_FIRST", k.first / 4),
            ("K_STRIDE", k.stride / 4),
            ("V_FIRST", v.first / 4),
            ("V_STRIDE", v.stride / 4),
        ]));
        dispatch.consts.extend([
            ("QUERY_SCALE", Const::F32(config.query_scale)),
            ("EPS", Const::F32(config.norm_eps)),
        ]);
        dispatch.fragments = vec![
            fragment!("state"),
            self.kv.fragment(),
            shader!("heads"),
            if config.qk_norms {
                fragment!("head_norm")
            } else {
                fragment!("head_norm_none")
            },
        ];
        dispatch.operands = vec![
            read("state", 1, 0),
            write("qkv", 2, 1),
            write("cache", 3, 2),
            read("turns", 4, 3),
        ];
        if config.qk_norms {
            dispatch.fragments.push(self.total());
            dispatch.operands.push(read("head_norms", 5, 4));
        } else {
            (dispatch.subgroups, dispatch.workgroup_bytes) = (false, 0);
        }
        dispatch
    }

    /// Shares of keys that a step's attention is worth, once a sequence is long: as many as keep the device
    /// busy. With one, it is not cut.
    pub fn splits(&self) -> usize {
        match self.caps.class {
            // A workgroup for each thread; they have one for each head of keys.
            DeviceClass::Cpu => (self.caps.threads as usize)
                .min(32)
                .div_ceil(self.config.kv_heads),
            DeviceClass::Gpu => 512usize.div_ceil(self.config.heads).min(32),
        }
    }

    /// Elements of what [`attention`](Self::attention) hands to [`join`](Self::join) for one token.
    pub fn split_len(&self) -> usize {
        self.config.heads * (self.config.head_dim + 4)
    }

    /// Attention of one layer, whose queries lie at `q`, with its keys cut into `splits` shares. Tensors: state,
    /// qkv, cache, then o or, if there are several shares, what [`join`](Self::join) takes.
    pub fn attention(&self, tokens: usize, layer: &Layer, q: Place, splits: usize) -> Dispatch {
        let config = self.config;
        let quads = config.head_dim / 4;
        // Loads are dear on CPU adapters: there a subgroup takes queries that meet the same keys.
        let (lanes, subgroup) = self.workgroup(LANES);
        let along_queries = subgroup && quads <= 64;
        let grid = if along_queries {
            let queries = tokens * config.heads / config.kv_heads;
            [config.kv_heads, queries.div_ceil(lanes as usize), splits]
        } else {
            [config.heads, tokens, splits]
        };
        let mut dispatch = self.reducing("attention", grid);
        dispatch.consts.extend(self.head_consts());
        dispatch.consts.extend(consts(&[
            ("QUADS", quads),
            ("Q_STRIDE", q.stride / 4),
            ("WINDOW", layer.window.unwrap_or(0)),
        ]));
        dispatch.operands = vec![
            read("state", 1, 0),
            read("qkv", 2, 1),
            read("cache", 3, 2),
            write(if splits > 1 { "splits" } else { "o" }, 4, 3),
        ];
        dispatch.fragments = vec![fragment!("state"), self.kv.fragment()];
        if splits > 1 {
            dispatch
                .consts
                .extend(consts(&[("SPLITS", splits), ("TOKENS", tokens)]));
            dispatch.fragments.push(fragment!("keys_split"));
        } else {
            dispatch.fragments.push(fragment!("keys_all"));
        }
        if along_queries {
            dispatch.fragments.push(shader!("attention_lanes"));
        } else {
            dispatch
                .fragments
                .extend([self.total(), shader!("attention")]);
            dispatch.workgroup_bytes += 16 * quads as u32 + 20 * dispatch.invocations;
        }
        dispatch
    }

    /// Joins the shares of [`attention`](Self::attention). Tensors: what it gave, o.
    pub fn join(&self, tokens: usize, splits: usize) -> Dispatch {
        let config = self.config;
        let mut dispatch = self.reducing("attention_join", [config.heads, tokens, 1]);
        dispatch.consts.extend(consts(&[
            ("QUADS", config.head_dim / 4),
            ("HEADS", config.heads),
            ("SPLITS", splits),
            ("TOKENS", tokens),
        ]));
        (dispatch.subgroups, dispatch.workgroup_bytes) = (false, 0);
        dispatch.fragments = vec![shader!("attention_join")];
        dispatch.operands = vec![read("splits", 1, 0), write("o", 2, 1)];
        dispatch
    }

    fn activate(&self) -> Cow<'static, str> {
        lacuna::Activation::from(self.config.activation).wgsl()
    }

    /// A launch that zeroes what is not over its threshold, in rows of `len`. Tensors: state, thresholds,
    /// tallies, then those of the variant.
    fn threshold(&self, tokens: usize, len: usize, tally: usize) -> Dispatch {
        let quads = len / 4;
        // On a GPU several workgroups share a row. A CPU adapter has threads for few, so one takes all of it.
        let slice = match self.caps.class {
            DeviceClass::Cpu => quads,
            DeviceClass::Gpu => 4 * self.workgroup(LANES).0 as usize,
        };
        let mut dispatch = self.reducing("threshold", [quads.div_ceil(slice), tokens, 1]);
        dispatch
            .consts
            .extend(consts(&[("QUADS", quads), ("SLICE", slice)]));
        dispatch.params = vec![tally as u32];
        dispatch.fragments = vec![self.total(), fragment!("state"), shader!("threshold")];
        dispatch.operands = vec![
            read("state", 1, 0),
            read("thresholds", 2, 1),
            write("tallies", 3, 2),
        ];
        dispatch
    }

    /// `y = |x| ≤ t ? 0 : x`. Tensors: state, thresholds, tallies, x, y.
    pub fn threshold_input(&self, tokens: usize, len: usize, tally: usize) -> Dispatch {
        let mut dispatch = self.threshold(tokens, len, tally);
        dispatch.fragments.push(fragment!("threshold_input"));
        dispatch
            .operands
            .extend([read("x", 4, 3), write("y", 5, 4)]);
        dispatch
    }

    /// What the launches that read the outputs of gate and up have in common.
    fn gate_up(&self, [gate, up]: [Place; 2]) -> (Vec<(&'static str, Const)>, Cow<'static, str>) {
        let places = consts(&[
            ("GATE_STRIDE", gate.stride / 4),
            ("UP_FIRST", up.first / 4),
            ("UP_STRIDE", up.stride / 4),
        ]);
        (places, self.activate())
    }

    /// `inner = |act(gate)| ≤ t ? 0 : act(gate) ⊙ up`. Tensors: state, thresholds, tallies, gate and up,
    /// inner.
    pub fn threshold_gated(&self, tokens: usize, places: [Place; 2], tally: usize) -> Dispatch {
        let (places, activate) = self.gate_up(places);
        let mut dispatch = self.threshold(tokens, self.config.ffn, tally);
        dispatch.consts.extend(places);
        dispatch
            .fragments
            .extend([activate, fragment!("threshold_gated")]);
        dispatch
            .operands
            .extend([read("gate_up", 4, 3), write("inner", 5, 4)]);
        dispatch
    }

    /// `inner = act(gate) ⊙ up`. Tensors: gate and up, inner.
    pub fn gated(&self, tokens: usize, places: [Place; 2]) -> Dispatch {
        let workgroup = 64;
        let row = self.config.ffn / 4;
        let quads = tokens * row;
        let (mut all, activate) = self.gate_up(places);
        all.extend(consts(&[("WORKGROUP", workgroup), ("QUADS", row)]));
        Dispatch {
            name: "gated".into(),
            consts: all,
            fragments: vec![activate, shader!("gated")],
            params: vec![quads as u32],
            operands: vec![read("gate_up", 1, 0), write("inner", 2, 1)],
            invocations: workgroup as u32,
            grid: fold(quads.div_ceil(workgroup) as u64, self.caps.max_workgroups),
            ..Dispatch::default()
        }
    }

    /// Adds the logits of ids `base … base + len` to the scores. Tensors: logits, targets, scores.
    pub fn score(&self, tokens: usize, base: usize, len: usize) -> Dispatch {
        let mut dispatch = self.reducing("score", [tokens, 1, 1]);
        dispatch.fragments = vec![self.total(), shader!("score")];
        dispatch.params = vec![len as u32, base as u32, u32::from(base == 0)];
        dispatch.operands = vec![
            read("logits", 1, 0),
            read("targets", 2, 1),
            write("scores", 3, 2),
        ];
        dispatch
    }

    /// Samples a token and advances the sequence by it. Tensors: logits, draw, state, ids, sampled.
    pub fn sample(&self) -> Dispatch {
        let (workgroup, _) = self.workgroup(LANES);
        let names = ["logits", "draw", "state", "ids", "sampled"];
        let operand = |(i, name)| match i {
            0 | 1 => read(name, i as u32 + 1, i),
            _ => write(name, i as u32 + 1, i),
        };
        Dispatch {
            name: "sample".into(),
            consts: consts(&[
                ("WORKGROUP", workgroup as usize),
                ("VOCAB", self.config.vocab),
            ]),
            fragments: vec![fragment!("state"), shader!("sample")],
            operands: names.into_iter().enumerate().map(operand).collect(),
            invocations: workgroup,
            // The bins, the sums and six more words.
            workgroup_bytes: 4 * (256 + workgroup + 6),
            grid: [1, 1, 1],
            ..Dispatch::default()
        }
    }
}

#[cfg(test)]
mod tests;
