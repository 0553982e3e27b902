//! WGSL with which other shaders read single rows of a weight.

use super::{
    Const, Layout, Problem, Skip, decode_fragment,
    packet::{CODES, Load, decoded},
    problem::code_fragments,
};
use crate::{
    caps::DeviceClass,
    format::{Format, Precision},
};
use std::borrow::Cow;

/// Consts and fragments that define `SPAN` and `decoded(row: u32, packet: u32) -> array<f32, SPAN>`:
/// the values of the columns from `packet · SPAN` on, of a weight that lies by rows. Values lack
/// the weight's factor, and mean nothing past its last column.
///
/// The shader calls its uniform `params`, with `values`, `value_stride`, `scales` and `scale_stride` of
/// the [`PartLayout`](super::PartLayout) among its members, and leaves binding 3 to `words`, the part.
#[derive(Debug, Clone)]
pub struct RowReader {
    /// `SPAN`.
    pub span: usize,
    /// The consts.
    pub consts: Vec<(&'static str, Const)>,
    /// The fragments.
    pub fragments: Vec<Cow<'static, str>>,
}

impl RowReader {
    /// For rows of `cols` columns in `format`; `None` where that leaves columns out.
    pub fn new(format: Format, cols: usize) -> Option<Self> {
        if format.stores_less() {
            return None;
        }
        let problem = Problem {
            rows: 1,
            cols,
            batch: 1,
            format,
            bias: false,
            layout: Layout::Rows,
            skip: Skip::Nothing,
            precision: Precision::F32,
        };
        let (span, mut fragments) = match (format.quant(), format.dtype()) {
            (Some(quant), _) => (CODES, code_fragments(DeviceClass::Cpu, quant).to_vec()),
            (None, dtype) => (problem.values_in(1), vec![decode_fragment(dtype?)]),
        };
        let (consts, decoding) = decoded(&problem, span, Load::Words);
        fragments.extend(decoding);
        Some(Self {
            span,
            consts,
            fragments,
        })
    }
}
