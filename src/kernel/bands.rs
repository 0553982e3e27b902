//! Bands: rows of a weight that lie column by column, so that a column can be left out.
//!
//! ```text
//! part  | values [bands][cols][rows of a band] | scales [bands][groups][rows of a band] |
//!         words                                  words: | scale f16 | zero |
//! ```
//! What a product reads for one column is one contiguous run for each band, and neighbouring
//! columns are neighbours in memory: with every column active the weight is read as one stream.
//! All bands of a weight have the same number of rows; those past the last row are zero. Codes
//! keep the groups and scales that they have along the columns.

use super::{
    layout::{PartLayout, SCALE_ROWS, section, value_bits, word_limit},
    problem::unfit,
};
use crate::{
    caps::DeviceClass,
    error::{Error, Result},
    format::{Codes, Format, Matrix, bits},
};

/// Columns of a block: a list of active columns says how many come before each block.
pub const BLOCK: usize = 16;

/// The rows of a band are a multiple of this, and one of its columns fills whole 32 bytes.
const STEP: usize = 64;

/// The most rows of a band.
///
/// On CPU adapters a wide band spreads the cost of looking up a column over more values, and processors prefetch
/// long runs; GPUs want many workgroups, and runs of 256 bytes.
fn most_rows(format: Format, cols: usize, class: DeviceClass) -> usize {
    match class {
        DeviceClass::Cpu if format.quant().is_some() => 512,
        DeviceClass::Cpu => {
            // A band must fit a binding.
            let fit = (MOST_BYTES * 8) / (value_bits(format) * cols.max(1));
            fit.min(2048)
        }
        DeviceClass::Gpu => 64 * 32 / value_bits(format),
    }
}

/// Most bytes of a band: half of what every adapter can bind.
const MOST_BYTES: usize = 64 << 20;

/// Most columns of a short product, which takes a CPU adapter about as long as ten launches (measured).
const SHORT: usize = 4096;

/// Rows of each band of a weight `[rows, cols]`.
pub fn band_rows(format: Format, rows: usize, cols: usize, class: DeviceClass) -> usize {
    let step = STEP.max(256 / value_bits(format));
    let most = most_rows(format, cols, class) / step * step;
    let most = most.max(step);
    let mut bands = rows.div_ceil(most).max(1);
    // A CPU adapter cuts a launch into one share per thread and waits for all of them: hence an even number of
    // bands. For a short product two bands cost less than one in slices and the launch that adds these.
    if class == DeviceClass::Cpu && (bands > 1 || (rows > step && cols <= SHORT)) {
        bands = bands.next_multiple_of(2);
    }
    rows.div_ceil(bands).next_multiple_of(step).max(step)
}

/// Refuses formats that have no bands: those that store less than every value, and codes that
/// straddle words or whose groups begin inside a block of the list.
fn check(format: Format, cols: usize) -> Result<()> {
    match format {
        Format::Dense(_) => Ok(()),
        Format::Quantized {
            quant,
            pattern: None,
            ..
        } => {
            let group = quant.group_cols(cols);
            if 32 % quant.bits() != 0 {
                let needed = "2, 4 or 8 where columns are skipped";
                return Err(unfit("bits of a code", quant.bits() as usize, needed));
            }
            if group % BLOCK != 0 && group < cols {
                return Err(unfit("columns of a group", group, "a multiple of 16"));
            }
            Ok(())
        }
        _ => Err(unfit(
            "rows of a band",
            0,
            "a dense weight, or codes of every column",
        )),
    }
}

/// Cuts a weight into parts of at most `max_bytes`, in whole bands.
///
/// # Errors
/// [`Error::Unfit`] for formats without bands, [`Error::Limit`] where one band is larger.
pub fn split(
    format: Format,
    rows: usize,
    cols: usize,
    class: DeviceClass,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    check(format, cols)?;
    let band = band_rows(format, rows, cols, class);
    let run = band * value_bits(format) / 32;
    let groups = format.quant().map_or(0, |quant| quant.groups(cols));
    let words = |bands: usize| {
        let values = section(bands * cols * run);
        values
            + if groups == 0 {
                0
            } else {
                section(bands * groups * band)
            }
    };
    let limit = word_limit(max_bytes);
    let bands = rows.div_ceil(band);
    if bands == 0 {
        return Ok(vec![]);
    }
    if words(1) > limit {
        return Err(Error::Limit {
            what: "bytes of a band of rows",
            value: words(1) as u64 * 4,
            limit: limit as u64 * 4,
        });
    }
    let mut per_part = bands;
    while words(per_part) > limit {
        per_part = per_part.div_ceil(2);
    }
    let part = |first: usize| {
        let here = per_part.min(bands - first);
        PartLayout {
            row_base: (first * band) as u32,
            rows: (here * band).min(rows - first * band) as u32,
            value_stride: run as u32,
            scales: section(here * cols * run) as u32,
            scale_stride: band as u32,
            words: words(here) as u32,
            panel_rows: band as u32,
            factor: 1f32.to_bits(),
            ..PartLayout::default()
        }
    };
    Ok((0..bands).step_by(per_part).map(part).collect())
}

/// How `weight` is cut into parts of at most `max_bytes`.
///
/// # Errors
/// Those of [`split`].
pub fn split_weight(
    weight: &Matrix,
    class: DeviceClass,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let mut parts = split(weight.format(), rows, cols, class, max_bytes)?;
    let factor = weight.codes().map_or(1.0, Codes::factor).to_bits();
    for part in &mut parts {
        part.factor = factor;
    }
    Ok(parts)
}

/// The words of one part of `weight`, which has bands.
pub fn pack(weight: &Matrix, part: &PartLayout) -> Vec<u32> {
    let mut words = vec![0; part.words as usize];
    let (band, cols) = (part.panel_rows as usize, weight.cols());
    let width = value_bits(weight.format()) as u32;
    let stored = |index: usize| match weight {
        Matrix::Dense(w) => w.values().bits(index),
        Matrix::Quantized(w) => w.codes().codes()[index].into(),
        Matrix::Nm(_) | Matrix::Gqs(_) => unreachable!("splitting refused them"),
    };
    let runs = words[part.values as usize..].chunks_exact_mut(part.value_stride as usize);
    let bands = part.rows.div_ceil(part.panel_rows) as usize;
    for (run, to) in runs.take(bands * cols).enumerate() {
        let first = run / cols * band;
        for row in first..(first + band).min(part.rows as usize) {
            let index = (part.row_base as usize + row) * cols + run % cols;
            bits::set(to, width, row - first, stored(index));
        }
    }
    if let (Matrix::Quantized(w), Some(codes)) = (weight, weight.codes()) {
        for row in 0..part.rows as usize {
            for group in 0..w.groups() {
                let at = (row / band * w.groups() + group) * band + row % band;
                let from = (part.row_base as usize + row) * w.groups() + group;
                words[part.scales as usize + at] = super::layout::scale_word(codes, from);
            }
        }
    }
    words
}

/// Whether all row-major parts begin at a block of a list of active rows.
pub fn rows_begin_blocks(parts: &[PartLayout]) -> bool {
    const { assert!(BLOCK % SCALE_ROWS == 0) };
    parts.iter().all(|p| p.row_base as usize % BLOCK == 0)
}
