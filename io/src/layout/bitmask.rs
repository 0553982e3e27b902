//! compressed-tensors' `sparse-24-bitmask` and `sparse-bitmask`: kept values, and one bit a column.
//!
//! ```text
//! shape      I64 [2, 1] or [2]         rows, cols
//! bitmask    U8  [rows, ceil(cols/8)]  bit b of byte j: column 8j + b is kept
//!
//!                sparse-24-bitmask             sparse-bitmask
//! compressed     [rows, cols / 2]              [kept]
//! row_offsets    none                          I64 [rows], kept values before each row
//!
//! [[0,1,0,2,3,0,4,0]]  → compressed [[1,2,3,4]], bitmask [[0b0101_1010]], shape [[1],[8]]
//! ```
//! The names are `P.bitmask`, as the package writes them, or `P.weight.bitmask`, as its
//! documentation has them.

use super::{Layout, Look, Refusal, View};
use crate::{
    container::Declared,
    error::Result,
    tensor::{TensorDtype, weight_dtype},
};
use lacuna::format::{Dense, Dtype, Format, Matrix, Nm, Pattern, Values, bits};

const SHAPE: [&str; 2] = [".shape", ".weight.shape"];
const COMPRESSED: [&str; 2] = [".compressed", ".weight.compressed"];
const BITMASK: [&str; 2] = [".bitmask", ".weight.bitmask"];
const ROW_OFFSETS: [&str; 2] = [".row_offsets", ".weight.row_offsets"];

const WINDOW: usize = 4;
const KEPT: usize = 2;

/// The one of two `names` that fits the style of this weight.
fn named(view: &View<'_>, names: [&'static str; 2]) -> &'static str {
    let long = [BITMASK[1], COMPRESSED[1]];
    names[usize::from(long.iter().any(|name| view.find(name).is_some()))]
}

/// Reads rows, columns and the type of the values.
fn head(view: &View<'_>) -> Result<(usize, usize, Dtype)> {
    let name = named(view, SHAPE);
    let stored = view.stored(name)?;
    if ![&[2, 1][..], &[2]].contains(&stored.shape.as_slice()) {
        return Err(view.wrong_shape(name, &stored.shape, "[2, 1] or [2]"));
    }
    let sizes = view.sizes(name)?;
    let (rows, cols) = (sizes[0], sizes[1]);
    let mask = named(view, BITMASK);
    let [of_mask, bytes] = view.matrix_shape(mask, TensorDtype::U8, "U8")?;
    if rows != of_mask || cols.div_ceil(8) != bytes {
        let expected = format!("[{rows}, ceil({cols} / 8)], as {} has it", view.shown(name));
        return Err(view.wrong_shape(mask, &[of_mask, bytes], expected));
    }
    let name = named(view, COMPRESSED);
    let stored = view.stored(name)?;
    let dtype = weight_dtype(stored.dtype)
        .ok_or_else(|| view.wrong_type(name, stored.dtype, "F32, F16 or BF16"))?;
    Ok((rows, cols, dtype))
}

fn looked(view: &View<'_>, format: Format, rows: usize, cols: usize, fact: &str) -> Result<Look> {
    Declared::new(format, rows, cols).map_err(|reason| view.refuse(Refusal::Limit { reason }))?;
    Ok(Look {
        format,
        rows,
        cols,
        factor: 1.0,
        evidence: vec![fact.into()],
        warnings: vec![],
    })
}

/// Unpacks the mask of row `row`.
fn row_bits(view: &View<'_>, mask: &[u8], row: usize, cols: usize) -> Result<Vec<u8>> {
    let of_row = &mask[row * cols.div_ceil(8)..][..cols.div_ceil(8)];
    bits::unpack(of_row, 1, cols).ok_or_else(|| {
        let what = format!("last byte of row {row}");
        let last = of_row[of_row.len() - 1];
        view.wrong_content(
            named(view, BITMASK),
            what,
            &format_args!("{last:#04x}"),
            format!("no bit from {} on, where columns end", cols % 8),
        )
    })
}

/// Looks at a weight of `sparse-24-bitmask`.
pub(super) fn look_24(view: &View<'_>) -> Result<Look> {
    let (rows, cols, dtype) = head(view)?;
    if cols % WINDOW != 0 {
        let what = "number of columns".into();
        return Err(view.wrong_content(named(view, SHAPE), what, &cols, "a multiple of 4"));
    }
    view.expect_shape(
        named(view, COMPRESSED),
        &[rows, cols / 2],
        ", half of the columns",
    )?;
    let format = Format::Nm {
        pattern: two_of_four(view)?,
        dtype: Some(dtype),
    };
    looked(
        view,
        format,
        rows,
        cols,
        "compressed and bitmask: half of the columns",
    )
}

fn two_of_four(view: &View<'_>) -> Result<Pattern> {
    Pattern::new(KEPT, WINDOW).map_err(|e| view.refuse(e))
}

/// Reads a weight of `sparse-24-bitmask` as the engine's 2:4, with values as they are.
pub(super) fn matrix_24(view: &View<'_>) -> Result<Matrix> {
    look_24(view)?;
    let (rows, cols, _) = head(view)?;
    let pattern = two_of_four(view)?;
    let mask = view.octets(named(view, BITMASK))?;
    let words = bits::words_for(pattern.slots(cols), pattern.index_bits());
    let mut indices = vec![0; rows * words];
    for (row, of_row) in indices.chunks_mut(words).enumerate() {
        for (window, kept) in row_bits(view, &mask, row, cols)?.chunks(WINDOW).enumerate() {
            let columns = (0..WINDOW).filter(|&i| kept[i] == 1);
            let count = columns.clone().count();
            if count != KEPT {
                let first = window * WINDOW;
                let what = format!(
                    "number of kept columns of row {row} among {first}..{}",
                    first + WINDOW
                );
                return Err(view.wrong_content(named(view, BITMASK), what, &count, "2"));
            }
            for (k, index) in columns.enumerate() {
                bits::set(
                    of_row,
                    pattern.index_bits(),
                    window * KEPT + k,
                    index as u32,
                );
            }
        }
    }
    let values = view.values(named(view, COMPRESSED))?;
    Nm::from_parts(pattern, rows, cols, values, indices)
        .map(Matrix::from)
        .map_err(|e| view.refuse(e))
}

/// Looks at a weight of `sparse-bitmask`.
pub(super) fn look(view: &View<'_>) -> Result<Look> {
    let (rows, cols, dtype) = head(view)?;
    let name = named(view, COMPRESSED);
    let stored = view.stored(name)?;
    if stored.shape.len() != 1 {
        let expected = "one dimension, as there are row offsets";
        return Err(view.wrong_shape(name, &stored.shape, expected));
    }
    view.expect_shape(named(view, ROW_OFFSETS), &[rows], ", one a row")?;
    let format = Format::Dense(dtype);
    looked(
        view,
        format,
        rows,
        cols,
        "compressed, bitmask and row_offsets; decoded to dense",
    )
}

/// Reads a weight of `sparse-bitmask` as dense, in the type of its values.
pub(super) fn matrix(view: &View<'_>) -> Result<Matrix> {
    look(view)?;
    let (rows, cols, _) = head(view)?;
    let mask = view.octets(named(view, BITMASK))?;
    let offsets = view.sizes(named(view, ROW_OFFSETS))?;
    let values = view.values(named(view, COMPRESSED))?;
    let mut kept = Vec::with_capacity(rows * cols);
    let mut count = 0;
    for (row, &offset) in offsets.iter().enumerate() {
        if offset != count {
            let what = format!("offset of row {row}");
            let expected = format!("{count}, the number of bits set before it");
            return Err(view.wrong_content(named(view, ROW_OFFSETS), what, &offset, expected));
        }
        let of_row = row_bits(view, &mask, row, cols)?;
        count += of_row.iter().copied().map(usize::from).sum::<usize>();
        kept.extend(of_row);
    }
    if count != values.len() {
        let what = "number of bits set".into();
        let expected = format!("{}, as many values are kept", values.len());
        return Err(view.wrong_content(named(view, BITMASK), what, &count, expected));
    }
    let values = match values {
        Values::F32(v) => Values::F32(spread(&kept, &v)),
        Values::F16(v) => Values::F16(spread(&kept, &v)),
        Values::Bf16(v) => Values::Bf16(spread(&kept, &v)),
    };
    Dense::new(rows, cols, values)
        .map(Matrix::from)
        .map_err(|e| view.refuse(e))
}

/// The next of `values` for each bit that is set, otherwise zero. There is a value for each set bit.
fn spread<T: Copy + Default>(kept: &[u8], values: &[T]) -> Vec<T> {
    let mut values = values.iter().copied();
    let value = |&bit: &u8| if bit == 1 { values.next() } else { None };
    kept.iter()
        .map(value)
        .map(Option::unwrap_or_default)
        .collect()
}

/// The layout of these tensors: row offsets, or values in one dimension, mean `sparse-bitmask`.
pub(super) fn layout(offsets: bool, rank: Option<usize>) -> Layout {
    if offsets || rank == Some(1) {
        Layout::SparseBitmask
    } else {
        Layout::Sparse24Bitmask
    }
}
