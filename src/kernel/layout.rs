//! How a weight lies in GPU memory: one buffer a part, sections at 256-byte boundaries.
//!
//! ```text
//! part  | values [rows][value_stride] | indices [sets / interleave][index_stride] |
//!         words, rows padded to 32 B    words
//!       | scales [rows / 8][groups][8] |
//!         words: | scale f16 | zero |
//! ```
//! Rows are row-major and start on 32 bytes, so that they can be read as `vec4<u32>` or
//! `vec4<u64>`; padding is zero. Values are f32, f16, bf16 or codes of a row side by side.
//!
//! Index fields are widened to a power of two bits, so that none straddles a word.
//! A word holds four slots of 8 / bits consecutive index sets, which is what a tile of
//! rows needs when it has loaded 16 bytes of values of each: one load of indices serves
//! them all. Scales of eight rows lie together for the same reason.
//!
//! ```text
//! 2 bits:  word w of sets 4g … 4g+3 = | set 4g: slots 4w…4w+3 | set 4g+1 | set 4g+2 | set 4g+3 |
//! ```
//! Group-pruned weights have no rows of one length. Their kept groups lie by [`Panels`] of rows,
//! inside a panel by columns, so that the same x meets many. Sections are
//!
//! ```text
//! part  | values [slots][value_stride] | indices [panels + 1] [blocks] | scales [slots][1 or 2] |
//!         words of a group's codes       first slot    first group       | scale f16 | zero | row | group |
//! ```
//! A slot holds a kept group; blocks of slots do not cross panels. The row is that inside the
//! panel; the group counts from the block's first, or has a word of its own where the bits left
//! are too few. Spare slots have scale 0, which nothing stored has. Slots that share their group
//! have their codes piece by piece: the first piece of each, then the second of each.
//!
//! The same part serves GEMV and GEMM: a weight is resident once.

use crate::{
    caps::DeviceClass,
    error::{Error, Result},
    format::{Codes, Format, Gqs, GroupPruning, Matrix, Quant, Values, bits},
};
use std::ops::Range;

const SECTION_WORDS: usize = 64;
const ROW_WORDS: usize = 8;
const QUAD_WORDS: usize = 4;
/// Slots of one index set in a word of indices.
pub(super) const SLOTS_PER_WORD: usize = 4;

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

/// Rows whose scales lie together.
pub(super) const SCALE_ROWS: usize = 8;

/// Where the sections of one part lie. Offsets and strides are in words of four bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PartLayout {
    /// First row of the weight that this part holds.
    pub row_base: u32,
    /// Rows held.
    pub rows: u32,
    /// Offset of the values.
    pub values: u32,
    /// Words from one row of values, or kept group of codes, to the next.
    pub value_stride: u32,
    /// Offset of the indices, or of the row offsets.
    pub indices: u32,
    /// Words from one group of interleaved index sets to the next.
    pub index_stride: u32,
    /// Offset of the scales.
    pub scales: u32,
    /// Words from the scales of one row or eight to those of the next.
    pub scale_stride: u32,
    /// Words of the whole part.
    pub words: u32,
    /// Rows of a panel of kept groups.
    pub panel_rows: u32,
    /// The bits of the f32 that every scale is multiplied with.
    pub factor: u32,
}

/// Stored values of one row in `format`; of a group-pruned weight, the mean.
pub fn slots(format: Format, cols: usize) -> usize {
    match format {
        Format::Gqs { quant, pruning } => pruning.kept(quant.groups(cols)) * quant.group_cols(cols),
        _ => format.pattern().map_or(cols, |p| p.slots(cols)),
    }
}

/// Bits of one stored value.
pub fn value_bits(format: Format) -> usize {
    match format.quant() {
        Some(quant) => quant.bits() as usize,
        None => 8 * format.dtype().map_or(4, crate::format::Dtype::size),
    }
}

/// Bits of one index on the device: the next power of two of what the format needs.
pub fn device_index_bits(format: Format) -> u32 {
    format
        .pattern()
        .map_or(0, |p| p.index_bits().max(1).next_power_of_two())
}

/// Index sets that share the words of their indices.
pub fn interleave(format: Format) -> usize {
    match device_index_bits(format) {
        0 => 1,
        bits => 8 / bits as usize,
    }
}

/// Rows that share an index set; 1 for a weight without.
pub fn sharing(format: Format) -> usize {
    format.pattern().map_or(1, crate::format::Pattern::v)
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

fn section(words: usize) -> usize {
    // A lane may look past the last row by less than a quad; it must find memory there.
    (words + QUAD_WORDS).next_multiple_of(SECTION_WORDS)
}

/// Cuts a weight into parts of at most `max_bytes`, at rows that no word crosses.
///
/// Group-pruned weights are taken to be balanced; [`split_weight`] knows better.
///
/// # Errors
/// [`Error::Limit`] where even the rows that share words are larger than `max_bytes`.
pub fn split(
    format: Format,
    rows: usize,
    cols: usize,
    class: DeviceClass,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    match format {
        Format::Gqs { quant, pruning } => {
            let kept = pruning.kept(quant.groups(cols));
            let panels = Panels::of(class);
            let slots = |panel: Range<usize>| (panel.len() * kept).next_multiple_of(panels.block);
            let meta = scale_words(quant, pruning, panels);
            split_groups((quant, panels, meta), rows, cols, slots, max_bytes)
        }
        _ => split_rows(format, rows, cols, max_bytes),
    }
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
    let mut parts = match weight {
        Matrix::Gqs(w) => {
            let panels = Panels::of(class);
            let slots = |panel| panel_slots(w, panels, panel).len();
            let quant = w.codes().quant();
            let meta = scale_words(quant, w.pruning(), panels);
            split_groups((quant, panels, meta), rows, cols, slots, max_bytes)
        }
        _ => split_rows(weight.format(), rows, cols, max_bytes),
    }?;
    if let Some(codes) = weight.codes() {
        let factor = codes.factor().to_bits();
        for part in &mut parts {
            part.factor = factor;
        }
    }
    Ok(parts)
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

/// u32 offsets address at most 2^32 words.
fn word_limit(max_bytes: u64) -> usize {
    usize::try_from(max_bytes / 4)
        .unwrap_or(usize::MAX)
        .min(u32::MAX as usize)
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

fn split_groups(
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

fn split_rows(format: Format, rows: usize, cols: usize, max_bytes: u64) -> Result<Vec<PartLayout>> {
    let slots = slots(format, cols);
    let value_stride = (slots * value_bits(format))
        .div_ceil(32)
        .next_multiple_of(ROW_WORDS);
    let index_stride = match format.pattern() {
        None => 0,
        Some(_) => slots.div_ceil(SLOTS_PER_WORD),
    };
    let scale_stride = format
        .quant()
        .map_or(0, |quant| quant.groups(cols) * SCALE_ROWS);
    // Parts are cut where neither an index set nor a word of indices nor eight scales are.
    let mut group = sharing(format) * interleave(format);
    if scale_stride > 0 {
        group *= SCALE_ROWS >> group.trailing_zeros().min(SCALE_ROWS.trailing_zeros());
    }
    let part = |row_base: usize, rows: usize| {
        let some = |words: usize| if words == 0 { 0 } else { section(words) };
        let indices = section(rows * value_stride);
        let sets = rows.div_ceil(sharing(format) * interleave(format));
        let scales = indices + some(sets * index_stride);
        let words = scales + some(rows.div_ceil(SCALE_ROWS) * scale_stride);
        let layout = PartLayout {
            row_base: row_base as u32,
            rows: rows as u32,
            values: 0,
            value_stride: value_stride as u32,
            indices: indices as u32,
            index_stride: index_stride as u32,
            scales: scales as u32,
            scale_stride: scale_stride as u32,
            words: words as u32,
            panel_rows: 0,
            factor: 1f32.to_bits(),
        };
        (layout, words)
    };

    let limit = word_limit(max_bytes);
    let groups = rows.div_ceil(group);
    let words = |groups: usize| part(0, (groups * group).min(rows)).1;
    if groups > 0 && words(1) > limit {
        return Err(Error::Limit {
            what: "bytes of the rows that share index words",
            value: words(1) as u64 * 4,
            limit: limit as u64 * 4,
        });
    }
    let mut per_part = groups.max(1);
    if words(per_part) > limit {
        // Largest count that fits, rounded down to 64 rows where that leaves any: tiles stay whole.
        let (mut low, mut high) = (1, per_part);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if words(middle) <= limit {
                low = middle;
            } else {
                high = middle;
            }
        }
        let whole = 64usize.div_ceil(group);
        per_part = if low > whole { low - low % whole } else { low };
    }
    let rows_per_part = per_part * group;
    Ok((0..rows)
        .step_by(rows_per_part.max(1))
        .map(|row_base| part(row_base, rows_per_part.min(rows - row_base)).0)
        .collect())
}

/// The words of one part of `weight`.
pub fn pack(weight: &Matrix, part: &PartLayout) -> Vec<u32> {
    let mut words = vec![0; part.words as usize];
    let rows = part.row_base as usize..(part.row_base + part.rows) as usize;
    let slots = slots(weight.format(), weight.cols());
    let row_words = |row: usize| {
        let to = part.values as usize + (row - rows.start) * part.value_stride as usize;
        to..to + part.value_stride as usize
    };
    let pack_values = |values: &Values, words: &mut [u32]| {
        for row in rows.clone() {
            values.pack_into(row * slots..(row + 1) * slots, &mut words[row_words(row)]);
        }
    };
    match weight {
        Matrix::Dense(w) => pack_values(w.values(), &mut words),
        Matrix::Nm(w) => pack_values(w.values(), &mut words),
        Matrix::Quantized(w) => {
            let codes = w.codes();
            for row in rows.clone() {
                let to = &mut words[row_words(row)];
                for (slot, &code) in codes.codes()[row * slots..][..slots].iter().enumerate() {
                    bits::set(to, codes.quant().bits(), slot, code.into());
                }
                let local = row - rows.start;
                let at = part.scales as usize
                    + local / SCALE_ROWS * part.scale_stride as usize
                    + local % SCALE_ROWS;
                for group in 0..w.groups() {
                    words[at + group * SCALE_ROWS] = scale_word(codes, row * w.groups() + group);
                }
            }
        }
        Matrix::Gqs(w) => pack_groups(w, part, &mut words),
    }
    let columns = match weight {
        Matrix::Nm(w) => Some(w.columns()),
        Matrix::Quantized(w) => w.columns(),
        Matrix::Dense(_) | Matrix::Gqs(_) => None,
    };
    if let Some(columns) = columns {
        let (share, width) = (columns.pattern().v(), device_index_bits(weight.format()));
        let interleave = interleave(weight.format());
        let first_set = rows.start / share;
        for set in 0..rows.len().div_ceil(share) {
            let at = part.indices as usize + set / interleave * part.index_stride as usize;
            for slot in 0..slots {
                let field = set % interleave * SLOTS_PER_WORD + slot % SLOTS_PER_WORD;
                words[at + slot / SLOTS_PER_WORD] |=
                    columns.index(first_set + set, slot) << (field as u32 * width);
            }
        }
    }
    words
}

/// Scale and zero of a group.
fn scale_word(codes: &Codes, group: usize) -> u32 {
    u32::from(codes.scales()[group].to_bits()) | u32::from(codes.zero(group)) << 16
}

fn pack_groups(w: &Gqs, part: &PartLayout, words: &mut [u32]) {
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
