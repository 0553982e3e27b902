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

/// The launch that fills a list. Tensors: x `[batch, channels]`, thresholds `[1, 1]` or
/// `[1, channels]`, kept `[batch, channels]`, list.
pub fn dispatch(
    batch: usize,
    channels: usize,
    scalar: bool,
    activation: Activation,
    caps: &Caps,
) -> Dispatch {
    let workgroup = match caps.class {
        DeviceClass::Cpu => 64,
        DeviceClass::Gpu => caps.max_invocations.min(1024),
    };
    let blocks = channels.div_ceil(BLOCK) as u32;
    let tensor = |name, binding, i| Operand::read(name, binding, Role::Tensor(i));
    Dispatch {
        name: "compact".into(),
        consts: vec![("WORKGROUP", Const::U32(workgroup))],
        fragments: vec![activation.wgsl(), shader!("compact")],
        params: vec![
            channels as u32,
            batch as u32,
            blocks,
            blocks.div_ceil(workgroup),
            u32::from(!scalar),
        ],
        operands: vec![
            tensor("x", 1, 0),
            tensor("thresholds", 2, 1),
            Operand::write("kept", 3, Role::Tensor(2)),
            Operand::write("list", 4, Role::Tensor(3)),
        ],
        invocations: workgroup,
        workgroup_bytes: workgroup * 4,
        grid: [1, 1, 1],
        ..Dispatch::default()
    }
}
