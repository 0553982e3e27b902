//! How a group-pruned weight lies in GPU memory.
//!
//! Its rows have no common length. Kept groups lie by [`Panels`] of rows, inside a panel by
//! columns, so that the same x meets many. Sections of a part are
//!
//! ```text
//! part  | values [slots][value_stride] | indices [panels + 1] [blocks] | scales [slots][1 or 2] |
//!         words of a group's codes       first slot    first group       | scale f16 | zero | row | group |
//! ```
//! A slot holds a kept group; blocks of slots do not cross panels. The row is that inside the
//! panel; the group counts from the block's first, or has a word of its own where the bits left
//! are too few. Spare slots have scale 0, which nothing stored has. Slots that share their group
//! have their codes piece by piece: the first piece of each, then the second of each.

use super::{
    PartLayout,
    layout::{QUAD_WORDS, SECTION_WORDS, section, word_limit},
};
use crate::{
    caps::DeviceClass,
    error::{Error, Result},
    format::{Gqs, GroupPruning, Matrix, Quant, bits},
};
use std::ops::Range;

/// How the kept groups of a group-pruned weight lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panels {
    /// Rows of a panel, a power of two.
    pub rows: usize,
    /// Neighbouring slots that are of one group of columns.
    pub share: usize,
    /// Slots whose groups count from the same one.
    pub block: usize,
}

impl Panels {
    /// On a GPU neighbouring lanes meet the same x in the cache, and a panel's sums must be small
    /// enough for many workgroups at a time. On a CPU adapter a lane pays for every load: it
    /// takes eight slots to the x that it holds, and tall panels fill the eights.
    pub const fn of(class: DeviceClass) -> Self {
        match class {
            DeviceClass::Gpu => Self::with_rows(16),
            DeviceClass::Cpu => Self::with_rows(256),
        }
    }

    /// Those of a part whose panels have `rows`.
    pub const fn with_rows(rows: usize) -> Self {
        let (share, block) = if rows == 256 { (8, 8) } else { (1, 32) };
        Self { rows, share, block }
    }
}

/// Words of the codes of a kept group.
pub(super) fn group_words(quant: Quant, cols: usize) -> usize {
    bits::words_for(quant.group_cols(cols), quant.bits())
}

/// Words of the codes of a kept group that lie together where slots share their group: those of
/// 16 columns, or all.
pub(super) fn piece_words(quant: Quant, cols: usize) -> usize {
    let words = bits::words_for(16, quant.bits());
    if quant.group_cols(cols) % 16 == 0 && 16 * quant.bits() % 32 == 0 {
        words
    } else {
        group_words(quant, cols)
    }
}

/// Words of scale, zero, row and number of a kept group.
pub(super) fn scale_words(quant: Quant, pruning: GroupPruning, panels: Panels) -> usize {
    if panels.block == panels.share {
        return 1;
    }
    // Groups that a block spans, on average.
    let kept = 100 - pruning.percent() as usize;
    let span = (panels.block * 100).div_ceil(panels.rows * kept);
    1 + usize::from(4 * span > 1 << number_bits(quant, panels))
}

/// Bits of a group's number beside its scale, zero and row.
fn number_bits(quant: Quant, panels: Panels) -> u32 {
    16 - zero_bits(quant) - panels.rows.ilog2()
}

/// Bits of the zero beside a scale.
pub(super) fn zero_bits(quant: Quant) -> u32 {
    if quant.symmetric() { 0 } else { quant.bits() }
}

/// How a balanced weight of this shape is cut into parts of at most `max_bytes`.
///
/// # Errors
/// [`Error::Limit`] where one panel is larger.
pub(super) fn split(
    (quant, pruning): (Quant, GroupPruning),
    rows: usize,
    cols: usize,
    class: DeviceClass,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    let (panels, kept) = (Panels::of(class), pruning.kept(quant.groups(cols)));
    let slots = |panel: Range<usize>| (panel.len() * kept).next_multiple_of(panels.block);
    let meta = scale_words(quant, pruning, panels);
    cut((quant, panels, meta), rows, cols, slots, max_bytes)
}

/// How `w` is cut into parts of at most `max_bytes`.
///
/// # Errors
/// Those of [`split`].
pub(super) fn split_weight(w: &Gqs, class: DeviceClass, max_bytes: u64) -> Result<Vec<PartLayout>> {
    let (panels, quant) = (Panels::of(class), w.codes().quant());
    let slots = |panel| panel_slots(w, panels, panel).len();
    let meta = scale_words(quant, w.pruning(), panels);
    cut((quant, panels, meta), w.rows(), w.cols(), slots, max_bytes)
}

/// Kept groups of the heaviest panel over those of the mean one; 1 for other formats.
pub fn imbalance(weight: &Matrix, class: DeviceClass) -> f64 {
    let Matrix::Gqs(w) = weight else { return 1.0 };
    let panel = Panels::of(class).rows;
    let offsets = w.row_offsets();
    let held = |first: usize| offsets[w.rows().min(first + panel)] - offsets[first];
    let heaviest = (0..w.rows()).step_by(panel).map(held).max().unwrap_or(0);
    let mean = f64::from(*offsets.last().unwrap_or(&0)) * panel as f64 / w.rows() as f64;
    if mean > 0.0 {
        f64::from(heaviest) / mean
    } else {
        1.0
    }
}

/// A kept group of a panel: its row there, its number in the row, its place in the weight.
#[derive(Debug, Clone, Copy)]
struct Slot {
    row: usize,
    number: u32,
    from: usize,
}

/// The kept groups of the rows `panel` by columns, in whole blocks; `None` is a spare slot.
fn panel_slots(w: &Gqs, panels: Panels, panel: Range<usize>) -> Vec<Option<Slot>> {
    let mut kept: Vec<Slot> = panel
        .clone()
        .flat_map(|row| w.kept(row).map(move |from| (row, from)))
        .map(|(row, from)| Slot {
            row: row - panel.start,
            number: w.group_indices()[from],
            from,
        })
        .collect();
    kept.sort_by_key(|slot| (slot.number, slot.row));
    let quant = w.codes().quant();
    let block = panels.block;
    let reach = match scale_words(quant, w.pruning(), panels) {
        _ if block == panels.share => 1,
        1 => 1 << number_bits(quant, panels),
        _ => u32::MAX,
    };
    let mut slots: Vec<Option<Slot>> = Vec::with_capacity(kept.len().next_multiple_of(block));
    let mut first = 0;
    for slot in kept {
        if slots.len() % block != 0 && slot.number - first >= reach {
            slots.resize(slots.len().next_multiple_of(block), None);
        }
        if slots.len() % block == 0 {
            first = slot.number;
        }
        slots.push(Some(slot));
    }
    slots.resize(slots.len().next_multiple_of(block), None);
    slots
}

/// Cuts panels of which `slots` are known into parts of at most `max_bytes`.
fn cut(
    (quant, panels, meta): (Quant, Panels, usize),
    rows: usize,
    cols: usize,
    slots: impl Fn(Range<usize>) -> usize,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    let stride = group_words(quant, cols);
    let limit = word_limit(max_bytes);
    let layout = |row_base: usize, rows: usize, slots: usize| {
        let offsets = rows.div_ceil(panels.rows) + 1;
        let indices = section(slots * stride);
        let scales = indices + section(offsets + slots / panels.block);
        PartLayout {
            row_base: row_base as u32,
            rows: rows as u32,
            value_stride: stride as u32,
            indices: indices as u32,
            index_stride: offsets as u32,
            scales: scales as u32,
            scale_stride: meta as u32,
            words: (scales + section(slots * meta)) as u32,
            panel_rows: panels.rows as u32,
            factor: 1f32.to_bits(),
            ..PartLayout::default()
        }
    };
    // Three sections, each with less than a section of padding.
    let words = |offsets: usize, slots: usize| {
        let blocks = slots / panels.block;
        slots * (stride + meta) + blocks + offsets + 1 + 3 * (SECTION_WORDS + QUAD_WORDS)
    };
    let mut parts = vec![];
    let (mut row_base, mut held) = (0, 0);
    for first in (0..rows).step_by(panels.rows) {
        let here = slots(first..rows.min(first + panels.rows));
        if words(1, here) > limit {
            return Err(Error::Limit {
                what: "bytes of a panel of rows",
                value: words(1, here) as u64 * 4,
                limit: limit as u64 * 4,
            });
        }
        if words((first - row_base) / panels.rows + 1, held + here) > limit {
            parts.push(layout(row_base, first - row_base, held));
            (row_base, held) = (first, 0);
        }
        held += here;
    }
    if rows > row_base {
        parts.push(layout(row_base, rows - row_base, held));
    }
    Ok(parts)
}

/// Fills the words of one part of `w`.
pub(super) fn pack(w: &Gqs, part: &PartLayout, words: &mut [u32]) {
    let panels = Panels::with_rows(part.panel_rows as usize);
    let quant = w.codes().quant();
    let (stride, group) = (part.value_stride as usize, w.group());
    let piece = match panels.share {
        1 => stride,
        _ => piece_words(quant, w.cols()),
    };
    let (indices, offsets) = (part.indices as usize, part.index_stride as usize);
    let rows = part.row_base as usize..(part.row_base + part.rows) as usize;
    let row_at = 16 + zero_bits(quant);
    let mut codes = vec![0; stride];
    let mut to = 0;
    for (panel, first) in rows.clone().step_by(panels.rows).enumerate() {
        let slots = panel_slots(w, panels, first..rows.end.min(first + panels.rows));
        for block in slots.chunks(panels.block) {
            // Spare slots come last.
            let base = block[0].map_or(0, |slot| slot.number);
            words[indices + offsets + to / panels.block] = base;
            for (i, slot) in block.iter().enumerate() {
                let Some(slot) = slot else { continue };
                codes.fill(0);
                let of_group = &w.codes().codes()[slot.from * group..][..group];
                for (c, &code) in of_group.iter().enumerate() {
                    bits::set(&mut codes, quant.bits(), c, code.into());
                }
                let sharing = (to + i) / panels.share * panels.share;
                let at = part.values as usize + sharing * stride;
                for (p, codes) in codes.chunks(piece).enumerate() {
                    let at = at + (p * panels.share + i % panels.share) * piece;
                    words[at..at + piece].copy_from_slice(codes);
                }
                let scale = u32::from(w.codes().scales()[slot.from].to_bits());
                let zero = if quant.symmetric() {
                    0
                } else {
                    u32::from(w.codes().zero(slot.from)) << 16
                };
                let word = scale | zero | (slot.row as u32) << row_at;
                let at = part.scales as usize + (to + i) * part.scale_stride as usize;
                if part.scale_stride == 2 {
                    (words[at], words[at + 1]) = (word, slot.number);
                } else if panels.block > panels.share {
                    words[at] = word | (slot.number - base) << (row_at + panels.rows.ilog2());
                } else {
                    words[at] = word;
                }
            }
            to += block.len();
        }
        words[indices + panel + 1] = to as u32;
    }
}
