//! Launches that prepare what others read: what one product has made of its x, transposed, as integers or as f32,
//! the next product of the same x uses again.

use super::{launch::Step, sharing::overlap};
use crate::{gpu::Tensor, kernel::Dispatch};

/// Whether what `step` would write is there already: an equal step has written it, and no step since has written
/// over it or over what that one read.
pub(super) fn already<'a>(steps: impl DoubleEndedIterator<Item = &'a Step>, step: &Step) -> bool {
    if !step.prepares {
        return false;
    }
    let bound = |written: &Tensor| {
        let same = |other: &Tensor| written.buffer == other.buffer && overlap(written, other);
        step.bound().any(|(_, other)| same(other))
    };
    for before in steps.rev() {
        if alike(before, step) {
            return true;
        }
        if step.fills_scratch() && before.fills_scratch()
            || before.bound().any(|(o, tensor)| o.write && bound(tensor))
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
