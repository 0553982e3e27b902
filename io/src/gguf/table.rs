//! The tensor table of a GGUF header.

use super::{cursor::Cursor, types::GgmlType};
use crate::error::{Error, Result, quoted};
use std::{collections::BTreeMap, ops::Range, path::Path};

/// Fewest bytes of a table entry: name, dimensions, type and offset.
pub(super) const MIN_ENTRY: u64 = 8 + 4 + 4 + 8;

/// Most dimensions of a tensor in ggml.
const MAX_DIMENSIONS: u32 = 4;

/// What the header says of one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GgufTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// How its values are stored.
    pub ggml_type: GgmlType,
    /// Its shape, outermost dimension first: `[rows, cols]`. The file has the reverse order. Of more than two
    /// dimensions, outer ones of 1 are left out.
    pub shape: &'a [usize],
    /// Its size in the file.
    pub bytes: u64,
}

impl GgufTensor<'_> {
    /// Values in a row: the innermost dimension.
    pub fn cols(&self) -> usize {
        cols(self.shape)
    }

    /// Number of rows: the product of all other dimensions, 1 for a vector.
    pub fn rows(&self) -> usize {
        rows(self.shape)
    }
}

fn cols(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

fn rows(shape: &[usize]) -> usize {
    shape.iter().rev().skip(1).product()
}

/// Where a tensor is.
#[derive(Debug)]
pub(super) struct Stored {
    pub ggml_type: GgmlType,
    shape: Vec<usize>,
    /// Number of the file that it is in.
    pub shard: usize,
    pub range: Range<u64>,
}

impl Stored {
    pub fn info<'a>(&'a self, name: &'a str) -> GgufTensor<'a> {
        GgufTensor {
            name,
            ggml_type: self.ggml_type,
            shape: &self.shape,
            bytes: self.range.end - self.range.start,
        }
    }
}

/// Reads the table. Whether the tensors lie inside the file is left to [`check`].
pub(super) fn read(
    path: &Path,
    cursor: &mut Cursor,
    count: u64,
) -> Result<BTreeMap<String, Stored>> {
    let mut tensors = BTreeMap::new();
    for i in 0..count {
        let name = cursor.string(format_args!("the name of tensor {i}"))?;
        let shown = quoted(&name);
        let wrong = |what, got: String, expected: String| Error::Tensor {
            file: path.into(),
            tensor: name.clone(),
            what,
            got,
            expected,
        };
        if tensors.contains_key(&name) {
            return Err(cursor.malformed(format!("the tensor {shown} occurs twice")));
        }
        let dimensions = cursor.u32(format_args!("the number of dimensions of {shown}"))?;
        if dimensions > MAX_DIMENSIONS {
            let expected = format!("at most {MAX_DIMENSIONS}");
            return Err(wrong(
                "number of dimensions",
                dimensions.to_string(),
                expected,
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(cursor.u64(format_args!("the dimensions of {shown}"))?);
        }
        // To ggml every tensor has four dimensions, and some programs write those of 1 as well.
        while shape.len() > 2 && shape.last() == Some(&1) {
            shape.pop();
        }
        shape.reverse();
        let code = cursor.u32(format_args!("the type of {shown}"))?;
        let ggml_type = GgmlType::from_code(code)
            .ok_or_else(|| wrong("type", code.to_string(), "the code of a ggml type".into()))?;
        let start = cursor.u64(format_args!("the offset of {shown}"))?;

        let too_large = || {
            let expected = "a size that fits memory addresses".into();
            wrong("shape", format!("{shape:?}"), expected)
        };
        // A dimension of 0 counts as 1 here, so that later products of the others cannot overflow.
        let values = shape
            .iter()
            .try_fold(1u64, |product, &d| product.checked_mul(d.max(1)));
        let values = values
            .filter(|&values| isize::try_from(values).is_ok())
            .ok_or_else(too_large)?;
        let values = if shape.contains(&0) { 0 } else { values };
        let shape: Vec<usize> = shape.iter().map(|&d| d as usize).collect();

        if cols(&shape) % ggml_type.block != 0 {
            let expected = format!("a multiple of {}, a block of {ggml_type}", ggml_type.block);
            return Err(wrong("row length", cols(&shape).to_string(), expected));
        }
        let bytes = (values / ggml_type.block as u64).checked_mul(ggml_type.bytes as u64);
        let Some(end) = bytes.and_then(|bytes| start.checked_add(bytes)) else {
            let expected = "one at which the tensor ends below 2^64".into();
            return Err(wrong("offset", start.to_string(), expected));
        };
        let stored = Stored {
            ggml_type,
            shape,
            shard: 0,
            range: start..end,
        };
        tensors.insert(name, stored);
    }
    Ok(tensors)
}

/// Checks that tensors are aligned, do not overlap, and lie inside the `data_len` bytes of data.
pub(super) fn check(
    path: &Path,
    tensors: &BTreeMap<String, Stored>,
    alignment: u64,
    data_len: u64,
) -> Result<()> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|(_, stored)| (stored.range.start, stored.range.end));
    let mut before = 0;
    for (name, Stored { range, .. }) in sorted {
        let (what, got, expected) = if range.start % alignment != 0 {
            let expected = format!("a multiple of {alignment}, the alignment");
            ("offset", range.start, expected)
        } else if range.start < before {
            let expected = format!("at least {before}, where the tensor before it ends");
            ("offset", range.start, expected)
        } else if range.end > data_len {
            let expected = format!("at most {data_len}, the length of the data");
            ("end", range.end, expected)
        } else {
            before = range.end;
            continue;
        };
        return Err(Error::Tensor {
            file: path.into(),
            tensor: name.clone(),
            what,
            got: got.to_string(),
            expected,
        });
    }
    Ok(())
}
