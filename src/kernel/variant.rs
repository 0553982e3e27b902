//! What the kernels that walk along rows have in common: how lanes are summed, how x is reached.

use super::{Config, Const, Problem, fragment, packet::Load, problem::unfit};
use crate::{caps::Caps, error::Result};
use std::borrow::Cow;

/// What a variant's name stands for.
pub(super) struct Variant {
    pub name: &'static str,
    pub reduce: Reduce,
    pub load: Load,
    pub x: X,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reduce {
    /// A tree in workgroup memory.
    Shared,
    /// Subgroups first, then their sums.
    Subgroup,
    /// The workgroup is one subgroup.
    One,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum X {
    /// Each slot loads its x.
    Direct,
    /// x is bound as `vec4<f32>`.
    Quads,
    /// x is bound as `vec2<u64>`.
    Pairs,
    /// Windows of four columns are loaded once and picked from by selection.
    Window,
    /// The same with x bound as `vec4<f32>`.
    WindowQuads,
    /// The same with x bound as `vec2<u64>`.
    WindowPairs,
}

impl X {
    pub fn window(self) -> bool {
        matches!(self, Self::Window | Self::WindowQuads | Self::WindowPairs)
    }

    pub fn int64(self) -> bool {
        matches!(self, Self::Pairs | Self::WindowPairs)
    }
}

impl Variant {
    const fn new(name: &'static str, reduce: Reduce, load: Load, x: X) -> Self {
        Self {
            name,
            reduce,
            load,
            x,
        }
    }

    /// The variant that `config` names.
    pub fn of(config: &Config, problem: &Problem) -> Result<&'static Self> {
        let found = VARIANTS.iter().find(|v| v.name == config.variant);
        found.ok_or_else(|| problem.unknown(config))
    }

    /// The text around the loop for `batch` vectors of `cols` columns: x and the reduction.
    ///
    /// # Errors
    /// Where `config` cannot serve them.
    pub fn frame(&self, config: &Config, cols: usize, batch: usize, caps: &Caps) -> Result<Frame> {
        let mut frame = self.reduce.frame(config, batch, caps)?;
        frame.fragments.push(x_fragment(self.x, cols)?);
        Ok(frame)
    }
}

impl Reduce {
    /// The text around a loop over packets for `batch` vectors, without x.
    ///
    /// # Errors
    /// Where `config` cannot serve them.
    pub fn frame(self, config: &Config, batch: usize, caps: &Caps) -> Result<Frame> {
        let (workgroup, acc) = (config.workgroup as usize, config.rows as usize * batch);
        let mut consts = vec![
            ("WORKGROUP", Const::U32(config.workgroup)),
            ("ROWS", Const::U32(config.rows)),
            ("BATCH", Const::U32(batch as u32)),
            ("WORDS", Const::U32(config.words)),
        ];
        let mut workgroup_bytes = 0;
        let reduce = match self {
            Self::Shared => {
                workgroup_bytes += acc * workgroup * 4;
                fragment!("reduce_shared")
            }
            Self::Subgroup => {
                let subgroups = caps
                    .subgroups
                    .map_or(1, |s| config.workgroup.div_ceil(s.min));
                workgroup_bytes += acc * subgroups as usize * 4 + 4;
                consts.push(("SUBGROUPS", Const::U32(subgroups)));
                fragment!("reduce_subgroup")
            }
            Self::One if caps.fixed_subgroup() == Some(config.workgroup) => {
                fragment!("reduce_one")
            }
            Self::One => {
                let needed = "to be one subgroup of fixed size";
                return Err(unfit("workgroup", workgroup, needed));
            }
        };
        Ok(Frame {
            consts,
            fragments: vec![reduce],
            workgroup_bytes: u32::try_from(workgroup_bytes).unwrap_or(u32::MAX),
        })
    }
}

/// The text that reaches x, vectors of `cols` columns.
///
/// # Errors
/// Where `cols` do not fill its loads.
pub(super) fn x_fragment(x: X, cols: usize) -> Result<Cow<'static, str>> {
    Ok(match x {
        X::Direct | X::Window => fragment!("x_scalars"),
        _ if cols % 4 != 0 => return Err(unfit("columns", cols, "a multiple of 4")),
        X::Quads | X::WindowQuads => fragment!("x_quads"),
        X::Pairs | X::WindowPairs => fragment!("x_pairs"),
    })
}

/// Text that surrounds the loop of a kernel.
pub(super) struct Frame {
    pub consts: Vec<(&'static str, Const)>,
    pub fragments: Vec<Cow<'static, str>>,
    pub workgroup_bytes: u32,
}

pub(super) const VARIANTS: &[Variant] = &[
    Variant::new("one", Reduce::One, Load::Words, X::Direct),
    Variant::new("one-x4", Reduce::One, Load::Words, X::Pairs),
    Variant::new("one-window", Reduce::One, Load::Words, X::Window),
    Variant::new("one-quads", Reduce::One, Load::Quads, X::Direct),
    Variant::new("one-quads-x4", Reduce::One, Load::Quads, X::Quads),
    Variant::new("one-quads-window", Reduce::One, Load::Quads, X::Window),
    Variant::new("one-longs-x4", Reduce::One, Load::Longs, X::Pairs),
    Variant::new("one-window-x4", Reduce::One, Load::Words, X::WindowPairs),
    Variant::new(
        "one-longs-window-x4",
        Reduce::One,
        Load::Longs,
        X::WindowPairs,
    ),
    Variant::new("one-pairs", Reduce::One, Load::Pairs, X::Direct),
    Variant::new("one-pairs-x4", Reduce::One, Load::Pairs, X::Pairs),
    Variant::new(
        "one-pairs-window-x4",
        Reduce::One,
        Load::Pairs,
        X::WindowPairs,
    ),
    Variant::new("one-octs", Reduce::One, Load::Octs, X::Direct),
    Variant::new("one-octs-x4", Reduce::One, Load::Octs, X::Pairs),
    Variant::new("subgroup", Reduce::Subgroup, Load::Words, X::Direct),
    Variant::new("subgroup-quads", Reduce::Subgroup, Load::Quads, X::Direct),
    Variant::new("subgroup-quads-x4", Reduce::Subgroup, Load::Quads, X::Quads),
    Variant::new(
        "subgroup-quads-window",
        Reduce::Subgroup,
        Load::Quads,
        X::Window,
    ),
    Variant::new("subgroup-x4", Reduce::Subgroup, Load::Words, X::Quads),
    Variant::new(
        "subgroup-quads-window-x4",
        Reduce::Subgroup,
        Load::Quads,
        X::WindowQuads,
    ),
    Variant::new("portable", Reduce::Shared, Load::Words, X::Direct),
    Variant::new("portable-window", Reduce::Shared, Load::Words, X::Window),
    Variant::new("portable-quads", Reduce::Shared, Load::Quads, X::Direct),
];
