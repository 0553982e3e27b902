//! Operands of one launch that share a buffer, as with hosts that keep activations in an arena.
//!
//! wgpu refuses a buffer that a launch binds both `read` and `read_write`, whatever the ranges.
//! Where they are disjoint, what is only read is therefore declared `read_write` too.

use super::launch::Step;
use crate::{
    error::{Error, Result},
    gpu::Tensor,
    kernel::{Dispatch, Operand, Problem},
};
use std::borrow::Cow;

/// The launch of `step` as wgpu accepts it for its tensors.
///
/// # Errors
/// [`Error::Aliasing`] where what is written overlaps another operand, of this launch or of others of
/// its product; [`Error::Buffer`] where a shader of the host's hides how it declares an operand.
pub(super) fn declared(step: &Step) -> Result<Cow<'_, Dispatch>> {
    if step.product {
        apart(&step.tensors)?;
    }
    let dispatch = &step.dispatch;
    let bound: Vec<_> = step.bound().collect();
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

/// That the result of a product overlaps nothing that it reads: one launch may write some of the result
/// before the next reads x again.
fn apart(tensors: &[Tensor]) -> Result<()> {
    let result = &tensors[Problem::Y];
    for (i, other) in tensors.iter().enumerate() {
        if i != Problem::Y && result.buffer == other.buffer && overlap(result, other) {
            return Err(Error::Aliasing {
                first: "y",
                second: if i == Problem::X { "x" } else { "bias" },
            });
        }
    }
    Ok(())
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

/// Whether the bound ranges of two tensors in one buffer have a byte in common.
pub(super) fn overlap(a: &Tensor, b: &Tensor) -> bool {
    let bytes = |t: &Tensor| {
        let size = t.binding().size.map_or(0, u64::from);
        (t.offset, t.offset + size)
    };
    let ((a, a_end), (b, b_end)) = (bytes(a), bytes(b));
    a < b_end && b < a_end
}
