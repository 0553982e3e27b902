//! Operands of one launch in one buffer, as hosts have them that keep activations in an arena.
//!
//! wgpu refuses a buffer that a launch binds both `read` and `read_write`, whatever the ranges.
//! Where they are disjoint, what is only read is therefore declared `read_write` too.
//!
//! And launches in one plan: what one product has made of its x in scratch, turned or as integers, the
//! next product of the same x finds there.

use super::launch::Step;
use crate::{
    error::{Error, Result},
    gpu::Tensor,
    kernel::{Dispatch, Operand, Role},
};
use std::borrow::Cow;

/// `dispatch` as wgpu accepts it for `tensors`.
///
/// # Errors
/// [`Error::Aliasing`] where what is written overlaps another operand, [`Error::Buffer`] where
/// a shader of the host's hides how it declares an operand.
pub(super) fn declared<'a>(
    dispatch: &'a Dispatch,
    tensors: &[Tensor],
) -> Result<Cow<'a, Dispatch>> {
    let bound: Vec<_> = dispatch
        .operands
        .iter()
        .filter_map(|o| match o.role {
            Role::Tensor(i) => Some((o, &tensors[i])),
            Role::Part(_) | Role::Scratch | Role::Piece => None,
        })
        .collect();
    let mut declared = Cow::Borrowed(dispatch);
    for (written, tensor) in bound.iter().filter(|(o, _)| o.write) {
        for (other, beside) in &bound {
            if written.binding == other.binding || tensor.buffer != beside.buffer {
                continue;
            }
            if overlap(tensor, beside) {
                return Err(Error::Aliasing {
                    first: written.name,
                    second: other.name,
                });
            }
            declared = Cow::Owned(writable(&declared, written, other)?);
        }
    }
    Ok(declared)
}

/// Whether scratch holds what `step` would write there: a step like it did, and none since then has
/// written scratch or what it read.
pub(super) fn prepared<'a>(steps: impl DoubleEndedIterator<Item = &'a Step>, step: &Step) -> bool {
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

fn writable(dispatch: &Dispatch, written: &Operand, other: &Operand) -> Result<Dispatch> {
    dispatch.writable(other.name).ok_or_else(|| Error::Buffer {
        what: other.name,
        reason: format!(
            "it is shared with {}, which is written, and no fragment declares \
             `var<storage, read> {}:`",
            written.name, other.name
        ),
    })
}

/// Whether what is bound of the two has a byte in common.
fn overlap(a: &Tensor, b: &Tensor) -> bool {
    let bytes = |t: &Tensor| {
        let size = t.binding().size.map_or(0, u64::from);
        (t.offset, t.offset + size)
    };
    let ((a, a_end), (b, b_end)) = (bytes(a), bytes(b));
    a < b_end && b < a_end
}
