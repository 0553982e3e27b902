//! `gqs_sum`: adds up what workgroups have found for pieces of panels.

use super::{Const, Dispatch, Operand, PartLayout, Problem, Role, fragment, shader};
use crate::caps::Caps;
use std::borrow::Cow;

/// Lanes of a workgroup.
const LANES: u32 = 64;

/// How panels are cut into pieces.
pub(super) struct Pieces {
    /// Workgroups that sum them.
    pub workgroups: u32,
    /// The largest number of a piece, plus one.
    pub most: u32,
    /// WGSL that says which pieces are a panel's: `pieces_of(panel: u32) -> vec2<u32>`.
    pub fragment: Cow<'static, str>,
    /// What the fragment asks for.
    pub consts: Vec<(&'static str, Const)>,
}

impl Pieces {
    /// Turns a launch over panels into one over pieces, which leaves its sums in scratch, and one that adds these
    /// up into y.
    pub fn take(
        self,
        mut launch: Dispatch,
        problem: &Problem,
        (number, part): (usize, &PartLayout),
        batch: u32,
        caps: &Caps,
    ) -> [Dispatch; 2] {
        launch.scratch_bytes = u64::from(self.most) * u64::from(part.panel_rows * batch) * 4;
        launch.grid = super::fold(u64::from(self.workgroups), caps.max_workgroups);
        launch.operands.retain(|o| o.name != "bias");
        for operand in launch.operands.iter_mut().filter(|o| o.name == "y") {
            operand.role = Role::Scratch;
        }
        let mut consts = vec![
            ("WORKGROUP", Const::U32(LANES)),
            ("BATCH", Const::U32(batch)),
            ("PANEL", Const::U32(part.panel_rows)),
        ];
        consts.extend(self.consts);
        let pieces = Operand::read("pieces", 1, Role::Scratch);
        let sum = Dispatch {
            name: format!("gqs_sum {}", problem.format),
            consts,
            fragments: vec![
                fragment!("linear"),
                fragment!("y_words"),
                problem.bias_fragment(),
                fragment!("index_words"),
                self.fragment,
                shader!("gqs_sum"),
            ],
            params: launch.params.clone(),
            operands: problem.operands(pieces, number, true, false),
            invocations: LANES,
            scratch_bytes: launch.scratch_bytes,
            grid: super::fold(u64::from(part.rows.div_ceil(LANES)), caps.max_workgroups),
            ..Dispatch::default()
        };
        [launch, sum]
    }
}
