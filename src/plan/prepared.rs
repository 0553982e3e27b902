//! Launches that prepare what others read in scratch: what one product has made of its x, turned or
//! as integers, the next product of the same x finds there.

use super::{launch::Step, sharing::overlap};
use crate::{
    gpu::Tensor,
    kernel::{Dispatch, Operand, Role},
};

/// Whether scratch holds what `step` would write there: a step like it did, and none since then has
/// written scratch or what it read.
pub(super) fn already<'a>(steps: impl DoubleEndedIterator<Item = &'a Step>, step: &Step) -> bool {
    let operands = &step.dispatch.operands;
    // Reads tensors alone, writes scratch alone.
    let prepares = |o: &Operand| match o.role {
        Role::Tensor(_) => !o.write,
        Role::Scratch => o.write,
        Role::Part(_) | Role::Piece => false,
    };
    if !operands.iter().any(|o| o.write) || !operands.iter().all(prepares) {
        return false;
    }
    let reads = |written: &Tensor| {
        let same = |read: &Tensor| written.buffer == read.buffer && overlap(written, read);
        step.bound().any(|(_, read)| same(read))
    };
    for before in steps.rev() {
        if alike(before, step) {
            return true;
        }
        let mut scratch = before.dispatch.operands.iter();
        if scratch.any(|o| o.write && o.role == Role::Scratch)
            || before.bound().any(|(o, tensor)| o.write && reads(tensor))
        {
            return false;
        }
    }
    false
}

/// Whether two steps do the same to the same tensors, whatever they are called.
fn alike(a: &Step, b: &Step) -> bool {
    let named = Dispatch {
        name: a.dispatch.name.clone(),
        ..b.dispatch.clone()
    };
    a.dispatch.params == b.dispatch.params && a.bound().eq(b.bound()) && a.dispatch == named
}
