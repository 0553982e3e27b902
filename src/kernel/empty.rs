//! `empty`: the product of a weight without columns, a sum of no terms, whatever the candidate.
//!
//! Thus no kernel has a loop over columns that never runs. Mesa 26.1 executes the body of such a loop with no lane
//! active, and there takes a buffer's address from a null pointer.

use super::{Const, Dispatch, PartLayout, Problem, fragment, problem, shader};
use crate::caps::Caps;

const WORKGROUP: u32 = 64;

/// The launches that write the bias, or zeros, to y.
pub(super) fn dispatches(problem: &Problem, parts: &[PartLayout], caps: &Caps) -> Vec<Dispatch> {
    let mut operands = problem.operands(problem::X, 0, false, false);
    operands.retain(|operand| operand.name != problem::X.name);
    let launch = |part: &PartLayout| Dispatch {
        name: format!("empty {problem}"),
        consts: vec![("WORKGROUP", Const::U32(WORKGROUP))],
        fragments: vec![
            fragment!("linear"),
            fragment!("y_words"),
            problem.bias_fragment(),
            shader!("empty"),
        ],
        params: problem.params(part, 0, 0),
        operands: operands.clone(),
        invocations: WORKGROUP,
        grid: super::fold(
            (u64::from(part.rows) * problem.batch as u64).div_ceil(WORKGROUP.into()),
            caps.max_workgroups,
        ),
        ..Dispatch::default()
    };
    parts.iter().map(launch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        caps::DeviceClass,
        format::Precision,
        kernel::{self, Layout, Skip},
    };

    #[test]
    fn a_product_without_columns_reads_neither_weight_nor_x() {
        for format in ["f32", "2:4@f16", "1:8x16+w3g16-sym", "w4g16s50"] {
            for class in [DeviceClass::Cpu, DeviceClass::Gpu] {
                let caps = Caps {
                    class,
                    ..Caps::PORTABLE
                };
                let problem = Problem {
                    rows: 5,
                    cols: 0,
                    batch: 2,
                    format: format.parse().unwrap(),
                    bias: true,
                    layout: Layout::Rows,
                    skip: Skip::Nothing,
                    precision: Precision::F32,
                };
                let parts = problem.parts(&caps).unwrap();
                for candidate in kernel::candidates(&problem, &caps).unwrap() {
                    let launches = candidate.lower(&problem, &parts, &caps).unwrap();
                    assert_eq!(launches.len(), 1, "{format} {candidate}");
                    let bound: Vec<_> = launches[0].operands.iter().map(|o| o.name).collect();
                    assert_eq!(bound, ["y", "bias"], "{format} {candidate}");
                }
            }
        }
    }
}
