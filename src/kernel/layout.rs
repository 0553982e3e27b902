//! How a weight lies in GPU memory: one buffer a part, sections at 256-byte boundaries.
//!
//! ```text
//! part  | values [rows][value_stride] | indices [sets / interleave][index_stride] |
//!         words, rows padded to 32 B    words
//!       | scales [rows / 8][groups][8] |
//!         words: | scale f16 | zero, a whole number or an f16 |
//! ```
//! Rows are row-major and start on 32 bytes, so that they can be read as `vec4<u32>` or `vec4<u64>`; padding is
//! zero. For CPU adapters rows of a multiple of 2 KiB are a cache line longer: else the rows of a tile would fall
//! into few sets of a processor's caches. Values are f32, f16, bf16 or codes of a row side by side.
//!
//! Index fields are widened to a power of two bits, so that none straddles a word.
//! A word holds four slots of 8 / bits consecutive index sets, which is what a tile of
//! rows needs when it has loaded 16 bytes of values of each: one load of indices serves
//! them all. Scales of eight rows lie together for the same reason.
//!
//! ```text
//! 2 bits:  word w of sets 4g … 4g+3 = | set 4g: slots 4w…4w+3 | set 4g+1 | set 4g+2 | set 4g+3 |
//! ```
//!
//! Group-pruned weights: `even` lays out balanced ones for GPUs, `panels` those whose rows have no common
//! length, `runs` all of them for CPU adapters.
//!
//! The same part serves GEMV and GEMM: a weight is resident once.

use super::{bands, even, panels, runs};
use crate::{
    caps::DeviceClass,
    error::{Error, Result},
    format::{Codes, Format, Matrix, Values, bits},
};

pub(super) const SECTION_WORDS: usize = 64;
const ROW_WORDS: usize = 8;
/// Words of a line of a processor's caches.
const LINE_WORDS: usize = 16;
/// Rows a multiple of so many words apart fall into few sets of a processor's first-level cache.
const ALIASED_WORDS: usize = 512;
pub(super) const QUAD_WORDS: usize = 4;
/// Slots of one index set in a word of indices.
pub(super) const SLOTS_PER_WORD: usize = 4;

/// Rows whose scales lie together.
pub(super) const SCALE_ROWS: usize = 8;

/// How a weight lies on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Layout {
    /// By rows, or by what a format keeps of them, for every product that does not skip columns.
    #[default]
    Rows,
    /// By columns in bands of rows, for products that skip columns, and for whole products.
    Bands,
}

impl Layout {
    /// How `weight` is cut into parts of at most `max_bytes` for devices of `class`.
    ///
    /// # Errors
    /// [`Error::Limit`] where even the rows that share words are larger, [`Error::Unfit`] for
    /// formats that do not lie so.
    pub fn split(
        self,
        weight: &Matrix,
        class: DeviceClass,
        max_bytes: u64,
    ) -> Result<Vec<PartLayout>> {
        match self {
            Self::Rows => split_weight(weight, class, max_bytes),
            Self::Bands => bands::split_weight(weight, class, max_bytes),
        }
    }

    /// The words of one part of `weight`.
    pub fn pack(self, weight: &Matrix, part: &PartLayout) -> Vec<u32> {
        match self {
            Self::Rows => pack(weight, part),
            Self::Bands => bands::pack(weight, part),
        }
    }
}

/// Where the sections of one part lie. Offsets and strides are in words of four bytes.
/// Packed weights store the fields as words, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
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
    /// Words from the scales of one tile of rows, which lie together, to those of the next.
    pub scale_stride: u32,
    /// Words of the whole part.
    pub words: u32,
    /// Rows of a panel of kept groups, or of a band.
    pub panel_rows: u32,
    /// Pieces that the panels are cut into where rows keep very different numbers of groups; 0
    /// where no panel needs to be cut.
    pub pieces: u32,
    /// The bits of the f32 that every scale is multiplied by.
    pub factor: u32,
}

impl PartLayout {
    /// Words from the start of each section to that of the next.
    fn rooms(&self) -> [u32; 3] {
        let mut starts = [self.values, self.indices, self.scales, self.words];
        starts.sort_unstable();
        [0, 1, 2].map(|i| starts[i + 1] - starts[i])
    }

    /// Pieces that the part's table has at most: where no panel is cut, one for each that keeps anything.
    pub(crate) fn most_pieces(&self) -> u32 {
        match self.pieces {
            0 if self.panel_rows > 0 => self.rows.div_ceil(self.panel_rows),
            pieces => pieces,
        }
    }

    /// Whether a part that lies as `other` says can be packed as this says instead: its sections have room, and
    /// everything that a recorded launch relies on is the same.
    pub(crate) fn takes(&self, other: &Self) -> bool {
        // Launches over pieces compute as many as this has; those over panels need none.
        let pieces = self.pieces == 0 || other.most_pieces() <= self.pieces;
        let same = Self {
            indices: self.indices,
            scales: self.scales,
            words: self.words,
            pieces: self.pieces,
            ..*other
        };
        let rooms = self.rooms().into_iter().zip(other.rooms());
        pieces && same == *self && rooms.into_iter().all(|(own, needed)| needed <= own)
    }
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

pub(super) fn section(words: usize) -> usize {
    // A lane may look past the last row by less than a quad; it must find memory there.
    (words + QUAD_WORDS).next_multiple_of(SECTION_WORDS)
}

/// Cuts a weight into parts of at most `max_bytes`, at rows that no word crosses.
///
/// Ragged group-pruned weights are treated as balanced; [`Layout::split`] cuts them as they are.
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
    match (format, class) {
        (Format::Gqs { quant, pruning }, DeviceClass::Cpu) => {
            runs::split((quant, pruning), rows, cols, max_bytes)
        }
        (Format::Gqs { quant, pruning }, DeviceClass::Gpu) if pruning.ragged() => {
            panels::split((quant, pruning), rows, cols, max_bytes)
        }
        _ => split_rows(format, rows, cols, class, max_bytes),
    }
}

/// How `weight` is cut into parts of at most `max_bytes`.
///
/// # Errors
/// Those of [`split`].
fn split_weight(weight: &Matrix, class: DeviceClass, max_bytes: u64) -> Result<Vec<PartLayout>> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let mut parts = match (weight, class) {
        (Matrix::Gqs(w), DeviceClass::Cpu) => runs::split_weight(w, max_bytes),
        (Matrix::Gqs(w), DeviceClass::Gpu) if w.pruning().ragged() => {
            panels::split_weight(w, max_bytes)
        }
        _ => split_rows(weight.format(), rows, cols, class, max_bytes),
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
pub(crate) fn imbalance(weight: &Matrix, class: DeviceClass) -> f64 {
    match (weight, class) {
        (Matrix::Gqs(w), DeviceClass::Gpu) => panels::imbalance(w, panels::ROWS),
        (Matrix::Gqs(w), DeviceClass::Cpu) => panels::imbalance(w, runs::ROWS),
        _ => 1.0,
    }
}

/// u32 offsets address at most 2^32 words.
pub(super) fn word_limit(max_bytes: u64) -> usize {
    usize::try_from(max_bytes / 4)
        .unwrap_or(usize::MAX)
        .min(u32::MAX as usize)
}

fn split_rows(
    format: Format,
    rows: usize,
    cols: usize,
    class: DeviceClass,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    let slots = slots(format, cols);
    let kept = even::balanced(format).map(|(quant, pruning)| even::words(quant, pruning, cols));
    let values = kept.map_or((slots * value_bits(format)).div_ceil(32), |[values, ..]| {
        values
    });
    let mut value_stride = values.next_multiple_of(ROW_WORDS);
    if class == DeviceClass::Cpu && value_stride > 0 && value_stride % ALIASED_WORDS == 0 {
        value_stride += LINE_WORDS;
    }
    let index_stride = match (kept, format.pattern()) {
        (Some([_, indices, _]), _) => indices,
        (None, Some(_)) => slots.div_ceil(SLOTS_PER_WORD),
        (None, None) => 0,
    };
    let (scale_rows, scale_stride) = match (kept, format.quant()) {
        (Some([.., scales]), _) => (even::ROWS, scales),
        (None, Some(quant)) => (SCALE_ROWS, quant.groups(cols) * SCALE_ROWS),
        (None, None) => (SCALE_ROWS, 0),
    };
    // Parts are cut only where that splits no index set, no word of indices and no scales that lie together.
    let mut group = sharing(format) * interleave(format);
    if scale_stride > 0 {
        group *= scale_rows >> group.trailing_zeros().min(scale_rows.trailing_zeros());
    }
    let part = |row_base: usize, rows: usize| {
        let some = |words: usize| if words == 0 { 0 } else { section(words) };
        let indices = section(rows * value_stride);
        let sets = rows.div_ceil(sharing(format) * interleave(format));
        let scales = indices + some(sets * index_stride);
        let words = scales + some(rows.div_ceil(scale_rows) * scale_stride);
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
            factor: 1f32.to_bits(),
            ..PartLayout::default()
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
fn pack(weight: &Matrix, part: &PartLayout) -> Vec<u32> {
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
        Matrix::Gqs(w) if part.panel_rows as usize == runs::ROWS => runs::pack(w, part, &mut words),
        Matrix::Gqs(w) if w.pruning().ragged() => panels::pack(w, part, &mut words),
        Matrix::Gqs(w) => even::pack(w, part, &mut words),
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
pub(super) fn scale_word(codes: &Codes, group: usize) -> u32 {
    u32::from(codes.scales()[group].to_bits()) | u32::from(codes.zero_field(group)) << 16
}
