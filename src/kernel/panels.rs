//! How a ragged group-pruned weight lies in GPU memory.
//!
//! Its rows have no common length. Kept groups lie by panels of [`ROWS`] rows, inside a panel by columns, so that
//! many meet the same x. Sections of a part are
//!
//! ```text
//! part  | values [slots][value_stride] | indices [panels + 1] [blocks] | scales [slots][1 or 2] |
//!         words of a group's codes       first slot    first group       | scale f16 | zero | row | group |
//! ```
//! A slot holds a kept group; blocks of [`BLOCK`] slots do not cross panels. The row counts from the panel's
//! first, the group from the block's first; where too few bits are left, the group has a word of its own. Spare
//! slots have scale 0, which no stored group has.
//!
//! CPU adapters have another layout: `runs`.

use super::{
    Config, PartLayout,
    layout::{section, word_limit},
    problem::unfit,
};
use crate::{
    error::{Error, Result},
    format::{Codes, Gqs, GroupPruning, Quant, bits},
};
use std::ops::Range;

/// Rows of a panel, a power of two: enough for neighbouring lanes to meet the same x in the cache, few enough for
/// the sums of many workgroups to fit at a time.
pub(super) const ROWS: usize = 16;

/// Slots of a block, whose groups count from the same one.
pub(super) const BLOCK: usize = 32;

/// Refuses parts that are not laid out in panels of as many rows as `config` sums.
pub(super) fn check_panels(parts: &[PartLayout], config: &Config) -> Result<()> {
    match parts.iter().find(|p| p.panel_rows != config.rows) {
        None => Ok(()),
        Some(part) => {
            let needed = "those that the candidate sums";
            Err(unfit("rows of a panel", part.panel_rows as usize, needed))
        }
    }
}

/// Words of the codes of a kept group.
pub(super) fn group_words(quant: Quant, cols: usize) -> usize {
    bits::words_for(quant.group_cols(cols), quant.bits())
}

/// Words of codes that a lane loads at a time: `words` where they are whole groups, or whole pieces of one in
/// whole chunks of 8 columns; else a group.
pub(super) fn load_words(quant: Quant, cols: usize, words: u32) -> u32 {
    let group = group_words(quant, cols) as u32;
    let pieces = group % words == 0 && words * 32 % (8 * quant.bits()) == 0;
    if words % group.max(1) == 0 || pieces {
        words
    } else {
        group
    }
}

/// Columns of a group that meet a load of `words` words: all, or a piece.
pub(super) fn piece(quant: Quant, cols: usize, words: usize) -> usize {
    let group = group_words(quant, cols);
    quant.group_cols(cols) * words.min(group) / group.max(1)
}

/// Words of scale, zero, row and number of a kept group.
pub(super) fn scale_words(quant: Quant, pruning: GroupPruning) -> usize {
    // Groups that a block spans, on average.
    let kept = 100 - pruning.percent() as usize;
    let span = (BLOCK * 100).div_ceil(ROWS * kept);
    1 + usize::from(4 * span > 1 << number_bits(quant))
}

/// Bits of a group's number beside its scale, zero and row.
fn number_bits(quant: Quant) -> u32 {
    16 - zero_bits(quant) - ROWS.ilog2()
}

/// Bits of the zero beside a scale.
pub(super) fn zero_bits(quant: Quant) -> u32 {
    if quant.symmetric() { 0 } else { quant.bits() }
}

/// Scale and zero of the kept group `from`, with its row above them.
pub(super) fn scale_word(codes: &Codes, from: usize, row: usize) -> u32 {
    let quant = codes.quant();
    let zero = if quant.symmetric() {
        0
    } else {
        u32::from(codes.zero_field(from)) << 16
    };
    u32::from(codes.scales()[from].to_bits()) | zero | (row as u32) << (16 + zero_bits(quant))
}

/// How a balanced weight of this shape is cut into parts of at most `max_bytes`.
///
/// # Errors
/// [`Error::Limit`] where one panel is larger.
pub(super) fn split(
    (quant, pruning): (Quant, GroupPruning),
    rows: usize,
    cols: usize,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    let kept = pruning.kept(quant.groups(cols));
    let slots = |panel: Range<usize>| (panel.len() * kept).next_multiple_of(BLOCK);
    cut((rows, ROWS), slots, part(quant, pruning, cols), max_bytes)
}

/// How `w` is cut into parts of at most `max_bytes`.
///
/// # Errors
/// Those of [`split`].
pub(super) fn split_weight(w: &Gqs, max_bytes: u64) -> Result<Vec<PartLayout>> {
    let part = part(w.codes().quant(), w.pruning(), w.cols());
    let slots = |panel| panel_slots(w, panel).len();
    cut((w.rows(), ROWS), slots, part, max_bytes)
}

/// The part of so many rows and slots, and its words.
fn part(
    quant: Quant,
    pruning: GroupPruning,
    cols: usize,
) -> impl Fn(usize, usize, usize) -> (PartLayout, usize) {
    let (stride, meta) = (group_words(quant, cols), scale_words(quant, pruning));
    move |row_base, rows, slots| {
        let offsets = rows.div_ceil(ROWS) + 1;
        let indices = section(slots * stride);
        let scales = indices + section(offsets + slots / BLOCK);
        let words = scales + section(slots * meta);
        let layout = PartLayout {
            row_base: row_base as u32,
            rows: rows as u32,
            value_stride: stride as u32,
            indices: indices as u32,
            index_stride: offsets as u32,
            scales: scales as u32,
            scale_stride: meta as u32,
            words: words as u32,
            panel_rows: ROWS as u32,
            factor: 1f32.to_bits(),
            ..PartLayout::default()
        };
        (layout, words)
    }
}

/// Checks that `words` lie as `found` says, with offsets of panels that ascend to the last slot.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check(
    quant: Quant,
    pruning: GroupPruning,
    cols: usize,
    found: &PartLayout,
    words: &[u32],
) -> std::result::Result<(), String> {
    let offsets = (found.rows as usize).div_ceil(ROWS) + 1;
    let slots = check_starts(words, found.indices as usize, offsets)?;
    let of = part(quant, pruning, cols);
    let (expected, needed) = of(found.row_base as usize, found.rows as usize, slots);
    let factor = found.factor;
    if needed > words.len() || *found != (PartLayout { factor, ..expected }) {
        return Err("a part does not lie as its rows and kept groups do".into());
    }
    Ok(())
}

/// The last of `count` numbers from word `at` on; checks that they ascend from zero.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_starts(
    words: &[u32],
    at: usize,
    count: usize,
) -> std::result::Result<usize, String> {
    let starts = at.checked_add(count).and_then(|end| words.get(at..end));
    let starts = starts.ok_or("the starts of kept groups end past their part")?;
    if starts.first() != Some(&0) || !starts.is_sorted() {
        return Err("the starts of kept groups do not ascend from 0".into());
    }
    Ok(starts[count - 1] as usize)
}

/// Kept groups of the heaviest panel of `panel` rows over those of the mean one.
pub(super) fn imbalance(w: &Gqs, panel: usize) -> f64 {
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
pub(super) struct Slot {
    pub row: usize,
    pub number: u32,
    pub from: usize,
}

/// The kept groups of the rows `panel` by columns, in whole blocks; `None` is a spare slot.
fn panel_slots(w: &Gqs, panel: Range<usize>) -> Vec<Option<Slot>> {
    let reach = match scale_words(w.codes().quant(), w.pruning()) {
        1 => 1 << number_bits(w.codes().quant()),
        _ => u32::MAX,
    };
    let mut slots: Vec<Option<Slot>> = vec![];
    let mut first = 0;
    for slot in by_columns(w, panel) {
        if slots.len() % BLOCK != 0 && slot.number - first >= reach {
            slots.resize(slots.len().next_multiple_of(BLOCK), None);
        }
        if slots.len() % BLOCK == 0 {
            first = slot.number;
        }
        slots.push(Some(slot));
    }
    slots.resize(slots.len().next_multiple_of(BLOCK), None);
    slots
}

/// The kept groups of the rows `panel`, by columns.
pub(super) fn by_columns(w: &Gqs, panel: Range<usize>) -> Vec<Slot> {
    let of_row = |row| {
        w.kept(row).map(move |from| Slot {
            row: row - panel.start,
            number: w.group_indices()[from],
            from,
        })
    };
    let mut kept: Vec<Slot> = panel.clone().flat_map(of_row).collect();
    kept.sort_by_key(|slot| (slot.number, slot.row));
    kept
}

/// Cuts `rows` rows into parts of at most `max_bytes`, in whole panels, whose slots `slots` counts.
pub(super) fn cut(
    (rows, panel_rows): (usize, usize),
    slots: impl Fn(Range<usize>) -> usize,
    part: impl Fn(usize, usize, usize) -> (PartLayout, usize),
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    let limit = word_limit(max_bytes);
    let mut parts = vec![];
    let (mut row_base, mut held) = (0, 0);
    for first in (0..rows).step_by(panel_rows) {
        let end = rows.min(first + panel_rows);
        let here = slots(first..end);
        let alone = part(first, end - first, here).1;
        if alone > limit {
            return Err(Error::Limit {
                what: "bytes of a panel of rows",
                value: alone as u64 * 4,
                limit: limit as u64 * 4,
            });
        }
        if part(row_base, end - row_base, held + here).1 > limit {
            parts.push(part(row_base, first - row_base, held).0);
            (row_base, held) = (first, 0);
        }
        held += here;
    }
    if rows > row_base {
        parts.push(part(row_base, rows - row_base, held).0);
    }
    Ok(parts)
}

/// Writes the codes of a kept group, zeros until now, to `to`.
pub(super) fn pack_codes(w: &Gqs, from: usize, to: &mut [u32]) {
    let of_group = &w.codes().codes()[from * w.group()..][..w.group()];
    for (c, &code) in of_group.iter().enumerate() {
        bits::set(to, w.codes().quant().bits(), c, code.into());
    }
}

/// Fills the words of one part of `w`.
pub(super) fn pack(w: &Gqs, part: &PartLayout, words: &mut [u32]) {
    let stride = part.value_stride as usize;
    let (indices, offsets) = (part.indices as usize, part.index_stride as usize);
    let rows = part.row_base as usize..(part.row_base + part.rows) as usize;
    let number_at = 16 + zero_bits(w.codes().quant()) + ROWS.ilog2();
    let mut to = 0;
    for (panel, first) in rows.clone().step_by(ROWS).enumerate() {
        for block in panel_slots(w, first..rows.end.min(first + ROWS)).chunks(BLOCK) {
            // Spare slots come last.
            let base = block[0].map_or(0, |slot| slot.number);
            words[indices + offsets + to / BLOCK] = base;
            for (i, slot) in block.iter().enumerate() {
                let Some(slot) = slot else { continue };
                let at = part.values as usize + (to + i) * stride;
                pack_codes(w, slot.from, &mut words[at..at + stride]);
                let word = scale_word(w.codes(), slot.from, slot.row);
                let at = part.scales as usize + (to + i) * part.scale_stride as usize;
                if part.scale_stride == 2 {
                    (words[at], words[at + 1]) = (word, slot.number);
                } else {
                    words[at] = word | (slot.number - base) << number_at;
                }
            }
            to += block.len();
        }
        words[indices + panel + 1] = to as u32;
    }
}
