//! Operands of one launch in one buffer, as hosts have them that keep activations in an arena.
//!
//! wgpu refuses a buffer that a launch binds both `read` and `read_write`, whatever the ranges.
//! Where they are disjoint, what is only read is therefore declared `read_write` too.

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

/// Whether what is bound of the two, in one buffer, has a byte in common.
pub(super) fn overlap(a: &Tensor, b: &Tensor) -> bool {
    let bytes = |t: &Tensor| {
        let size = t.binding().size.map_or(0, u64::from);
        (t.offset, t.offset + size)
    };
    let ((a, a_end), (b, b_end)) = (bytes(a), bytes(b));
    a < b_end && b < a_end
}
