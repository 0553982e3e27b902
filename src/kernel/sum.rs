//! The launches that add up what the workgroups of a launch before have found for pieces of y.

use super::{Const, Dispatch, Operand, Problem, Role, fragment};
use crate::caps::Caps;
use std::borrow::Cow;

/// Lanes of a workgroup.
const LANES: u32 = 64;

/// A launch that adds up.
pub(super) struct Sum {
    /// The stem of its shader.
    pub name: &'static str,
    /// What its fragments ask for.
    pub consts: Vec<(&'static str, Const)>,
    /// The shader, and what it needs beside y and the bias.
    pub fragments: Vec<Cow<'static, str>>,
    /// Whether it reads words of the weight, to find which pieces are a row's.
    pub reads_part: bool,
    /// Numbers that the launch before leaves.
    pub pieces: u64,
    /// Lanes that add.
    pub lanes: u64,
}

impl Sum {
    /// Makes `launch`, over part `number` of the weight, leave its sums in scratch, and puts this one behind it.
    pub fn after(
        self,
        mut launch: Dispatch,
        problem: &Problem,
        number: usize,
        caps: &Caps,
    ) -> [Dispatch; 2] {
        launch.scratch_bytes = self.pieces * 4;
        launch.operands.retain(|o| o.name != "bias");
        for operand in launch.operands.iter_mut().filter(|o| o.name == "y") {
            operand.role = Role::Scratch;
        }
        let mut consts = vec![("WORKGROUP", Const::U32(LANES))];
        consts.extend(self.consts);
        let mut fragments = vec![
            fragment!("linear"),
            fragment!("y_words"),
            problem.bias_fragment(),
        ];
        fragments.extend(self.fragments);
        let pieces = Operand::read("pieces", 1, Role::Scratch);
        let sum = Dispatch {
            name: format!("{} {}", self.name, problem.format),
            consts,
            fragments,
            params: launch.params.clone(),
            operands: problem.operands(pieces, number, self.reads_part, false),
            invocations: LANES,
            scratch_bytes: launch.scratch_bytes,
            grid: super::fold(self.lanes.div_ceil(u64::from(LANES)), caps.max_workgroups),
            ..Dispatch::default()
        };
        [launch, sum]
    }
}
