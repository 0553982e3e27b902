//! GPTQ: codes packed along the inputs, zero points along the outputs.
//!
//! ```text
//! qweight I32 [cols · bits / 32, rows]   a column of words is a row of the weight
//! qzeros  I32 [groups, rows · bits / 32]
//! scales  F16 [groups, rows]
//! g_idx   I32 [cols]                     group of each column; absent: column / group
//!
//! value[r][c] = scales[g][r] · (code − zero)     zero = stored + 1 (v1) or stored (v2)
//! ```
//! Nothing in the tensors states which of the two conventions holds, and fields that should state
//! it are often wrong. A symmetric weight reveals it, because its zero is 2^(bits − 1).

use super::{
    Layout, Quantization, Refusal, View,
    grid::{Grid, Groups, check_scales, transposed, transposed_values},
};
use crate::{
    error::{Error, Result},
    tensor::TensorDtype,
};
use lacuna::format::bits;
use std::{fmt, str::FromStr};

const QWEIGHT: &str = ".qweight";
const QZEROS: &str = ".qzeros";
const SCALES: &str = ".scales";
const G_IDX: &str = ".g_idx";

/// Bits of codes that are packed one after the other, without planes of bits.
const BITS: [usize; 4] = [2, 3, 4, 8];

/// How GPTQ files store zero points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroPoints {
    /// Stored minus one.
    V1,
    /// Stored as they are.
    V2,
}

impl fmt::Display for ZeroPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

impl FromStr for ZeroPoints {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(
                "zero points of GPTQ are v1 (stored minus one) or v2 (stored as they are)".into(),
            ),
        }
    }
}

/// Which convention holds in a file, and how that is known.
#[derive(Debug)]
pub(crate) struct Convention {
    zeros: ZeroPoints,
    why: String,
}

impl Default for Convention {
    fn default() -> Self {
        Self {
            zeros: ZeroPoints::V1,
            why: "nothing says otherwise".into(),
        }
    }
}

/// The convention of all `views`: what the user asked for, else what symmetric weights show, else
/// what a field of the configuration says.
pub(crate) fn convention(
    asked: Option<ZeroPoints>,
    config: &Quantization,
    views: &[View<'_>],
) -> Result<Convention> {
    if let Some(zeros) = asked {
        let why = "asked for".into();
        return Ok(Convention { zeros, why });
    }
    let (mut v1, mut v2) = (0, 0);
    for view in views.iter().filter(|view| view.layout == Layout::Gptq) {
        match constant_zeros(view) {
            Ok(Some(ZeroPoints::V1)) => v1 += 1,
            Ok(Some(ZeroPoints::V2)) => v2 += 1,
            // What is wrong with the weight is reported when it is looked at.
            Ok(None) | Err(Error::Layout { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    let said = config.format.as_deref();
    let said = said.filter(|format| ["gptq", "gptq_v2"].contains(format));
    let (zeros, why) = match (v1, v2) {
        (1.., 0) => (
            ZeroPoints::V1,
            format!("all of {v1} symmetric weights show it"),
        ),
        (0, 1..) => (
            ZeroPoints::V2,
            format!("all of {v2} symmetric weights show it"),
        ),
        _ => match said {
            Some("gptq_v2") => (ZeroPoints::V2, "a field says gptq_v2".into()),
            Some(_) => (ZeroPoints::V1, "a field says gptq".into()),
            None => (ZeroPoints::V1, Convention::default().why),
        },
    };
    let lie = match (said, zeros) {
        _ if v1 > 0 && v2 > 0 => ", and symmetric weights show both",
        (Some("gptq_v2"), ZeroPoints::V1) => ", though a field says gptq_v2",
        (Some("gptq"), ZeroPoints::V2) => ", though a field says gptq",
        _ => "",
    };
    let why = why + lie;
    Ok(Convention { zeros, why })
}

/// The convention under which a weight with equal zero points is symmetric, if there is one.
fn constant_zeros(view: &View<'_>) -> Result<Option<ZeroPoints>> {
    if view.config.symmetric == Some(false) {
        return Ok(None);
    }
    let shape = shape(view)?;
    let stored = stored_zeros(view, &shape)?;
    let middle = 1u16 << (shape.bits - 1);
    let all = |zero: u16| stored.iter().all(|&z| z == zero);
    Ok(if all(middle - 1) {
        Some(ZeroPoints::V1)
    } else {
        all(middle).then_some(ZeroPoints::V2)
    })
}

struct Shape {
    rows: usize,
    cols: usize,
    groups: usize,
    bits: usize,
}

/// The shape of the weight, from the shapes of its tensors.
fn shape(view: &View<'_>) -> Result<Shape> {
    let [words, rows] = view.matrix_shape(QWEIGHT, TensorDtype::I32, "I32")?;
    let scales = view.stored(SCALES)?;
    let &[groups, of_scales] = scales.shape.as_slice() else {
        return Err(view.wrong_shape(SCALES, &scales.shape, "[groups, outputs]"));
    };
    if of_scales != rows || groups == 0 {
        let expected = format!("[groups, {rows}], as {} has outputs", view.shown(QWEIGHT));
        return Err(view.wrong_shape(SCALES, &scales.shape, expected));
    }
    let [of_zeros, zero_words] = view.matrix_shape(QZEROS, TensorDtype::I32, "I32")?;
    let bits = zero_words * 32 / rows;
    if of_zeros != groups || zero_words * 32 % rows != 0 || !BITS.contains(&bits) {
        let unpacked = if zero_words == rows {
            "; these are not packed"
        } else {
            ""
        };
        let expected =
            format!("[{groups}, {rows} outputs · bits / 32] for 2, 3, 4 or 8 bits{unpacked}");
        let got = view.stored(QZEROS)?.shape.clone();
        return Err(view.wrong_shape(QZEROS, &got, expected));
    }
    if words * 32 % bits != 0 {
        let expected = format!(
            "a number of rows that {bits}-bit codes fill (by {})",
            view.shown(QZEROS)
        );
        return Err(view.wrong_shape(QWEIGHT, &[words, rows], expected));
    }
    if view.config.format.as_deref() == Some("gptq_p") {
        let reason =
            "config.json says gptq_p: codes in planes of bits, with the names and shapes of GPTQ";
        return Err(view.refuse(Refusal::Unread { reason }));
    }
    Ok(Shape {
        rows,
        cols: words * 32 / bits,
        groups,
        bits,
    })
}

/// Reads zero points as they are stored, `[rows][groups]`.
fn stored_zeros(view: &View<'_>, shape: &Shape) -> Result<Vec<u16>> {
    let words = view.words(QZEROS)?;
    let width = shape.bits as u32;
    let of_group = words.chunks(words.len() / shape.groups);
    let fields: Vec<u16> = of_group
        .flat_map(|words| (0..shape.rows).map(|row| bits::get(words, width, row) as u16))
        .collect();
    Ok(transposed(&fields, shape.groups, shape.rows))
}

/// Reads everything but the codes.
pub(super) fn grid(view: &View<'_>) -> Result<Grid> {
    let shape = shape(view)?;
    let Shape {
        rows,
        cols,
        groups,
        bits,
    } = shape;
    let scales = view.values(SCALES)?;
    check_scales(view, SCALES, &scales)?;
    let mut zeros = stored_zeros(view, &shape)?;
    let mut evidence = vec![format!("qweight, qzeros and scales: {bits} bits")];
    let mut warnings = vec![];

    let Convention {
        zeros: version,
        why,
    } = view.convention;
    evidence.push(format!("zero points {version}: {why}"));
    if *version == ZeroPoints::V1 {
        let ones = (1 << bits) - 1;
        let wrapped = zeros.iter().filter(|&&zero| zero == ones).count();
        if wrapped > 0 {
            warnings.push(format!(
                "{wrapped} of {} stored zero points are {ones}: v1 cannot store a zero of 0, and \
                 programs that tried spoilt the zeros beside it; read as {}",
                zeros.len(),
                ones + 1
            ));
        }
        for zero in &mut zeros {
            *zero += 1;
        }
    }

    let listed = view.find(G_IDX).map(|_| G_IDX);
    let layout = Groups::find(view, SCALES, listed, cols, groups)?;
    evidence.push(layout.fact());
    Ok(Grid {
        rows,
        cols,
        bits: bits as u32,
        groups: layout,
        scales: transposed_values(&scales, groups, rows),
        zeros: Some(zeros),
        evidence,
        warnings,
    })
}

/// Reads the codes, `[rows][cols]`.
pub(super) fn codes(view: &View<'_>, grid: &Grid) -> Result<Vec<u8>> {
    let words = view.words(QWEIGHT)?;
    let mut codes = Vec::with_capacity(grid.rows * grid.cols);
    let mut of_row = vec![0; words.len() / grid.rows];
    for row in 0..grid.rows {
        for (word, &from) in of_row
            .iter_mut()
            .zip(words[row..].iter().step_by(grid.rows))
        {
            *word = from;
        }
        codes.extend((0..grid.cols).map(|col| bits::get(&of_row, grid.bits, col) as u8));
    }
    Ok(codes)
}
