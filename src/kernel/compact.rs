//! `compact`: which channels are active, as a list on the device, and what they hold.

use super::{Const, Dispatch, Operand, Role, bands::BLOCK, fold, fragment, shader};
use crate::caps::{Caps, DeviceClass};
use std::borrow::Cow;

/// What a channel's value goes through before it is compared with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing: `v = x`.
    #[default]
    None,
    /// `v = x / (1 + e⁻ˣ)`.
    Silu,
    /// `v = x · Φ(x)` by its tanh approximation.
    GeluTanh,
}

impl Activation {
    /// WGSL for it: `activate(x: f32) -> f32`.
    pub fn wgsl(self) -> Cow<'static, str> {
        match self {
            Self::None => fragment!("activate_none"),
            Self::Silu => fragment!("activate_silu"),
            Self::GeluTanh => fragment!("activate_gelu"),
        }
    }
}

/// Most workgroups that fill a list on a GPU: each counts what comes before its part, so the counting grows with
/// the square of their number.
const MOST_PARTS: u32 = 64;

/// Words of a list's tally.
pub const TALLY: usize = 3;

/// Words before the channels of a list: where each block of 16 begins, the count, the tally.
pub const fn list_head(channels: usize) -> usize {
    (channels.div_ceil(BLOCK) + 1 + TALLY).next_multiple_of(4)
}

/// Words of a list of at most `channels` channels.
pub const fn list_words(channels: usize) -> usize {
    list_head(channels).saturating_add(channels)
}

/// Channels that a lane takes at a time.
const QUAD: usize = 4;

/// Vectors that one launch goes through for every channel; more are first reduced to at most this many blocks.
const BLOCKS: usize = 16;

/// The launches that fill a list. Tensors: x `[batch, channels]`, thresholds `[1, 1]` or
/// `[1, channels]`, kept `[batch, channels]`, list.
pub fn dispatches(
    batch: usize,
    channels: usize,
    scalar: bool,
    activation: Activation,
    caps: &Caps,
) -> Vec<Dispatch> {
    let quads = channels % QUAD == 0;
    let tensor = |name, binding, i| Operand::read(name, binding, Role::Tensor(i));
    let keeping = [
        activation.wgsl(),
        fragment!("keep"),
        match (scalar, quads) {
            (true, _) => fragment!("limits_one"),
            (false, true) => fragment!("limits_quads"),
            (false, false) => fragment!("limits_scalars"),
        },
        if quads {
            fragment!("channels_quads")
        } else {
            fragment!("channels_scalars")
        },
    ];
    let operands = [
        tensor("x", 1, 0),
        tensor("thresholds", 2, 1),
        Operand::write("kept", 3, Role::Tensor(2)),
    ];
    if batch <= BLOCKS {
        return vec![list(channels, batch, &keeping, &operands, caps)];
    }
    let (vectors, words) = (batch.div_ceil(BLOCKS), channels.div_ceil(QUAD));
    let blocks = batch.div_ceil(vectors);
    let workgroup = match caps.class {
        DeviceClass::Cpu => caps.fixed_subgroup().unwrap_or(8),
        DeviceClass::Gpu => 64,
    };
    let workgroup = workgroup.min(caps.max_invocations);
    let scratch_bytes = (4 * blocks * words).next_multiple_of(16) as u64;
    let flags = Operand::write("flags", 4, Role::Scratch);
    let [across, down, _] = fold(
        words.div_ceil(workgroup as usize) as u64,
        caps.max_workgroups,
    );
    let keep = Dispatch {
        name: "flags".into(),
        consts: vec![("WORKGROUP", Const::U32(workgroup))],
        fragments: [&keeping[..], &[shader!("flags")]].concat(),
        params: vec![channels as u32, batch as u32, vectors as u32],
        operands: [&operands[..], &[flags]].concat(),
        invocations: workgroup,
        scratch_bytes,
        grid: [across, blocks as u32, down],
        ..Dispatch::default()
    };
    let flagged = [
        Activation::None.wgsl(),
        fragment!("keep"),
        fragment!("channels_flags"),
    ];
    let flags = [Operand::read("flags", 1, Role::Scratch)];
    let list = Dispatch {
        scratch_bytes,
        ..list(channels, blocks, &flagged, &flags, caps)
    };
    vec![keep, list]
}

/// The launch that lists the channels that any of `vectors` vectors keeps; `keeping` and `operands` say how to read
/// them.
fn list(
    channels: usize,
    vectors: usize,
    keeping: &[Cow<'static, str>],
    operands: &[Operand],
    caps: &Caps,
) -> Dispatch {
    // On CPU adapters barriers are expensive, and a single subgroup needs none.
    let subgroup = caps.fixed_subgroup().filter(|&lanes| lanes <= 32);
    let ballot = subgroup.filter(|_| caps.class == DeviceClass::Cpu);
    let workgroup = ballot.unwrap_or(caps.max_invocations.min(256));
    let rounds = channels.div_ceil(QUAD * workgroup as usize) as u32;
    let part = part(rounds, caps.class);
    let ranks = if ballot.is_some() {
        fragment!("ranks_ballot")
    } else {
        fragment!("ranks_shared")
    };
    Dispatch {
        name: "compact".into(),
        consts: vec![("WORKGROUP", Const::U32(workgroup))],
        fragments: [keeping, &[ranks, shader!("compact")]].concat(),
        params: vec![channels as u32, vectors as u32, rounds, part],
        operands: [operands, &[Operand::write("list", 4, Role::Tensor(3))]].concat(),
        invocations: workgroup,
        workgroup_bytes: if ballot.is_some() { 0 } else { workgroup * 4 },
        subgroups: ballot.is_some(),
        grid: [rounds.div_ceil(part).max(1), 1, 1],
        ..Dispatch::default()
    }
}

/// Rounds of a workgroup's part. Each workgroup counts again what comes before its part: a few instructions a
/// channel on a GPU, but a third of all the work on a CPU adapter, where two workgroups are balanced best when the
/// first takes three fifths.
fn part(rounds: u32, class: DeviceClass) -> u32 {
    match class {
        DeviceClass::Cpu => (rounds * 3).div_ceil(5).max(1),
        DeviceClass::Gpu => rounds.div_ceil(MOST_PARTS).max(1),
    }
}
