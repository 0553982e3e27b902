//! How a weight lies in GPU memory: one buffer a part, sections at 256-byte boundaries.
//!
//! ```text
//! part  | values [rows][value_stride] | indices [sets / interleave][index_stride] |
//!         words, rows padded to 32 B    words
//! ```
//! Rows are row-major and start on 32 bytes, so that they can be read as `vec4<u32>` or
//! `vec4<u64>`; padding is zero.
//!
//! Index fields are widened to a power of two bits, so that none straddles a word.
//! A word holds four slots of 8 / bits consecutive index sets, which is what a tile of
//! rows needs when it has loaded 16 bytes of values of each: one load of indices serves
//! them all.
//!
//! ```text
//! 2 bits:  word w of sets 4g … 4g+3 = | set 4g: slots 4w…4w+3 | set 4g+1 | set 4g+2 | set 4g+3 |
//! ```
//! The same part serves GEMV and GEMM: a weight is resident once.

use crate::{
    error::{Error, Result},
    format::{Format, Matrix},
};

const SECTION_WORDS: usize = 64;
const ROW_WORDS: usize = 8;
const QUAD_WORDS: usize = 4;
/// Slots of one index set in a word of indices.
pub(super) const SLOTS_PER_WORD: usize = 4;

/// Where the sections of one part lie. Offsets and strides are in words of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartLayout {
    /// First row of the weight that this part holds.
    pub row_base: u32,
    /// Rows held.
    pub rows: u32,
    /// Offset of the values.
    pub values: u32,
    /// Words from one row of values to the next.
    pub value_stride: u32,
    /// Offset of the indices.
    pub indices: u32,
    /// Words from one group of interleaved index sets to the next.
    pub index_stride: u32,
    /// Words of the whole part.
    pub words: u32,
}

/// Value slots of one row in `format`.
pub fn slots(format: Format, cols: usize) -> usize {
    match format {
        Format::Dense(_) => cols,
        Format::Nm { pattern, .. } => pattern.slots(cols),
    }
}

/// Bits of one index on the device: the next power of two of what the format needs.
pub fn device_index_bits(format: Format) -> u32 {
    match format {
        Format::Dense(_) => 0,
        Format::Nm { pattern, .. } => pattern.index_bits().max(1).next_power_of_two(),
    }
}

/// Index sets that share the words of their indices.
pub fn interleave(format: Format) -> usize {
    match format {
        Format::Dense(_) => 1,
        Format::Nm { .. } => 8 / device_index_bits(format) as usize,
    }
}

/// Rows that share an index set; 1 for dense.
pub fn sharing(format: Format) -> usize {
    match format {
        Format::Dense(_) => 1,
        Format::Nm { pattern, .. } => pattern.v(),
    }
}

/// Values in one word of the format's storage type.
pub fn values_per_word(format: Format) -> usize {
    4 / format.dtype().map_or(4, crate::format::Dtype::size)
}

/// Cuts a weight into parts of at most `max_bytes`, at rows that no index word crosses.
///
/// # Errors
/// [`Error::Limit`] where even the rows that share index words are larger than `max_bytes`.
pub fn split(format: Format, rows: usize, cols: usize, max_bytes: u64) -> Result<Vec<PartLayout>> {
    let slots = slots(format, cols);
    let value_stride = slots
        .div_ceil(values_per_word(format))
        .next_multiple_of(ROW_WORDS);
    let index_stride = slots.div_ceil(SLOTS_PER_WORD);
    // Parts are cut where neither an index set nor a word of indices is.
    let group = sharing(format) * interleave(format);
    let section = |words: usize| (words + QUAD_WORDS).next_multiple_of(SECTION_WORDS);
    let index_words = |rows: usize| match format {
        Format::Dense(_) => 0,
        // A lane may look past the last set by less than a quad; it must find memory there.
        Format::Nm { .. } => section(rows.div_ceil(group) * index_stride),
    };
    let words = |rows: usize| section(rows * value_stride) + index_words(rows);

    // u32 offsets address at most 2^32 words.
    let limit = usize::try_from(max_bytes / 4)
        .unwrap_or(usize::MAX)
        .min(u32::MAX as usize);
    let groups = rows.div_ceil(group);
    let fits = |groups: usize| words((groups * group).min(rows)) <= limit;
    if groups > 0 && !fits(1) {
        return Err(Error::Limit {
            what: "bytes of the rows that share index words",
            value: words(group.min(rows)) as u64 * 4,
            limit: limit as u64 * 4,
        });
    }
    let mut per_part = groups.max(1);
    if !fits(per_part) {
        // Largest count that fits, rounded down to 64 rows where that leaves any: tiles stay whole.
        let (mut low, mut high) = (1, per_part);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if fits(middle) {
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
        .map(|row_base| {
            let held = rows_per_part.min(rows - row_base);
            PartLayout {
                row_base: row_base as u32,
                rows: held as u32,
                values: 0,
                value_stride: value_stride as u32,
                indices: section(held * value_stride) as u32,
                index_stride: index_stride as u32,
                words: words(held) as u32,
            }
        })
        .collect())
}

/// The words of one part of `weight`.
pub fn pack(weight: &Matrix, part: &PartLayout) -> Vec<u32> {
    let mut words = vec![0; part.words as usize];
    let slots = slots(weight.format(), weight.cols());
    let values = match weight {
        Matrix::Dense(w) => w.values(),
        Matrix::Nm(w) => w.values(),
    };
    for row in 0..part.rows as usize {
        let from = (part.row_base as usize + row) * slots;
        let to = part.values as usize + row * part.value_stride as usize;
        values.pack_into(
            from..from + slots,
            &mut words[to..to + part.value_stride as usize],
        );
    }
    if let Matrix::Nm(w) = weight {
        let (share, width) = (w.pattern().v(), device_index_bits(weight.format()));
        let interleave = interleave(weight.format());
        let first_set = part.row_base as usize / share;
        for set in 0..(part.rows as usize).div_ceil(share) {
            let at = part.indices as usize + set / interleave * part.index_stride as usize;
            for slot in 0..slots {
                let field = set % interleave * SLOTS_PER_WORD + slot % SLOTS_PER_WORD;
                words[at + slot / SLOTS_PER_WORD] |=
                    w.index(first_set + set, slot) << (field as u32 * width);
            }
        }
    }
    words
}
