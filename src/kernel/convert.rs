//! `widen` and `narrow`: elements of 16 bits as f32, and back.

use super::{Const, Dispatch, Operand, Role, decode_fragment, fragment, shader};
use crate::{caps::Caps, format::Dtype};

const WORKGROUP: u32 = 64;

/// Elements that a lane takes.
const QUAD: usize = 4;

/// Length of the f32 buffer for `elements` elements of 16 bits: whole quads.
pub const fn wide_len(elements: usize) -> usize {
    elements.next_multiple_of(QUAD)
}

/// The launch that widens `elements` elements of `dtype`, of 16 bits, to f32. Tensors: x, then [`wide_len`] f32.
pub fn widen(dtype: Dtype, elements: usize, caps: &Caps) -> Dispatch {
    Dispatch {
        name: format!("widen {dtype}"),
        fragments: vec![decode_fragment(dtype), shader!("widen")],
        operands: vec![
            Operand::read("x", 1, Role::Tensor(0)),
            Operand::write("wide", 2, Role::Tensor(1)),
        ],
        ..conversion(elements, caps)
    }
}

/// The launch that rounds f32 to `elements` elements of `dtype`, of 16 bits. Tensors: [`wide_len`] f32, then y.
pub fn narrow(dtype: Dtype, elements: usize, caps: &Caps) -> Dispatch {
    let encode = match dtype {
        Dtype::Bf16 => fragment!("encode_bf16"),
        Dtype::F16 | Dtype::F32 => fragment!("encode_f16"),
    };
    Dispatch {
        name: format!("narrow {dtype}"),
        fragments: vec![encode, shader!("narrow")],
        operands: vec![
            Operand::read("wide", 1, Role::Tensor(0)),
            Operand::write("y", 2, Role::Tensor(1)),
        ],
        ..conversion(elements, caps)
    }
}

fn conversion(elements: usize, caps: &Caps) -> Dispatch {
    let quads = elements.div_ceil(QUAD) as u64;
    Dispatch {
        consts: vec![("WORKGROUP", Const::U32(WORKGROUP))],
        params: vec![elements.div_ceil(2) as u32],
        invocations: WORKGROUP,
        grid: super::fold(quads.div_ceil(WORKGROUP.into()), caps.max_workgroups),
        ..Dispatch::default()
    }
}
