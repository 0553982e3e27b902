//! `compact`: which channels are active, as a list on the device, and what they hold.

use super::{Const, Dispatch, Operand, Role, bands::BLOCK, fragment, shader};
use crate::caps::{Caps, DeviceClass};
use std::borrow::Cow;

/// What a channel's value goes through before it is compared with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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

/// Workgroups that fill a list on a GPU at most: what they count grows with their square.
const MOST_PARTS: u32 = 64;

/// Words of a list's tally.
pub const TALLY: usize = 3;

/// Words before the channels of a list: where each block of 16 begins, the count, the tally.
pub const fn list_head(channels: usize) -> usize {
    (channels.div_ceil(BLOCK) + 1 + TALLY).next_multiple_of(4)
}

/// Words of a list of at most `channels` channels.
pub const fn list_words(channels: usize) -> usize {
    list_head(channels) + channels
}

/// Channels that a lane takes at a time.
const QUAD: usize = 4;

/// The launch that fills a list. Tensors: x `[batch, channels]`, thresholds `[1, 1]` or
/// `[1, channels]`, kept `[batch, channels]`, list.
pub fn dispatch(
    batch: usize,
    channels: usize,
    scalar: bool,
    activation: Activation,
    caps: &Caps,
) -> Dispatch {
    // On CPU adapters barriers are dear, and a subgroup needs none.
    let subgroup = caps.fixed_subgroup().filter(|&lanes| lanes <= 32);
    let ballot = subgroup.filter(|_| caps.class == DeviceClass::Cpu);
    let workgroup = ballot.unwrap_or(caps.max_invocations.min(256));
    let rounds = channels.div_ceil(QUAD * workgroup as usize) as u32;
    let part = part(rounds, caps.class);
    let quads = channels % QUAD == 0;
    let tensor = |name, binding, i| Operand::read(name, binding, Role::Tensor(i));
    Dispatch {
        name: "compact".into(),
        consts: vec![("WORKGROUP", Const::U32(workgroup))],
        fragments: vec![
            activation.wgsl(),
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
            if ballot.is_some() {
                fragment!("ranks_ballot")
            } else {
                fragment!("ranks_shared")
            },
            shader!("compact"),
        ],
        params: vec![channels as u32, batch as u32, rounds, part],
        operands: vec![
            tensor("x", 1, 0),
            tensor("thresholds", 2, 1),
            Operand::write("kept", 3, Role::Tensor(2)),
            Operand::write("list", 4, Role::Tensor(3)),
        ],
        invocations: workgroup,
        workgroup_bytes: if ballot.is_some() { 0 } else { workgroup * 4 },
        subgroups: ballot.is_some(),
        grid: [rounds.div_ceil(part).max(1), 1, 1],
        ..Dispatch::default()
    }
}

/// Rounds of a workgroup's part. What comes before a part is counted once more, which is a few
/// instructions a channel on a GPU, but a third of all the work on a CPU adapter: there two
/// workgroups share it best when the first takes three fifths.
fn part(rounds: u32, class: DeviceClass) -> u32 {
    match class {
        DeviceClass::Cpu => (rounds * 3).div_ceil(5).max(1),
        DeviceClass::Gpu => rounds.div_ceil(MOST_PARTS).max(1),
    }
}
