//! Reads the words of a packed weight as kernels do, but only by the documentation of
//! `kernel/packed.rs`, `layout.rs`, `bands.rs`, `even.rs`, `panels.rs` and `runs.rs`. Every position is
//! checked: one outside of its part panics.

use half::{bf16, f16};
use lacuna::format::{Dtype, Format, Quant, bits};

/// Values of the largest weight that is walked.
const MOST_VALUES: usize = 1 << 20;

/// Rows whose scales lie together.
const SCALE_ROWS: usize = 8;
/// Slots of one index set in a word.
const SLOTS_PER_WORD: usize = 4;
/// On GPUs, the slots of panels that count groups from a common one, and the rows of a panel.
const BLOCK: usize = 32;
const PANEL_ROWS: usize = 16;
/// On GPUs, rows whose scales lie together if all rows keep equally many groups.
const EVEN_ROWS: usize = 4;

/// The weight that valid bytes hold, row-major; `None` if it is large. If kernels find kept groups in
/// two ways, `by_columns` chooses one.
pub(crate) fn dense(bytes: &[u8], by_columns: bool) -> Option<Vec<f32>> {
    let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let words: Vec<u32> = bytes.chunks_exact(4).map(word).collect();
    let [bands, rows, cols, len] = [4, 7, 9, 13].map(|at| words[at] as usize);
    let name = str::from_utf8(&bytes[56..56 + len]).expect("the name is text");
    let format: Format = name.parse().expect("the name is a format");
    if rows.max(1).saturating_mul(cols.max(1)) > MOST_VALUES {
        return None;
    }

    let at = 14 + len.div_ceil(4);
    let (layouts, mut rest) = words[at + 1..].split_at(12 * words[at] as usize);
    let mut values = vec![0.0; rows * cols];
    for layout in layouts.chunks_exact(12) {
        let (held, after) = rest.split_at(layout[8] as usize);
        rest = after;
        let part = Part {
            format,
            cols,
            at: layout,
            words: held,
        };
        let rows = part.number(ROW_BASE)..part.number(ROW_BASE) + part.number(ROWS);
        let of_part = &mut values[rows.start * cols..rows.end * cols];
        match format {
            _ if bands == 1 => part.bands(of_part),
            Format::Gqs { quant, .. } if part.number(PANEL) == PANEL_ROWS => {
                part.panels(quant, of_part);
            }
            Format::Gqs { quant, .. } if part.number(PANEL) == 0 => {
                part.even(quant, by_columns, of_part);
            }
            Format::Gqs { quant, .. } => part.runs(quant, of_part),
            _ => part.rows(of_part),
        }
    }
    Some(values)
}

/// One part of a weight.
struct Part<'a> {
    format: Format,
    cols: usize,
    /// The words that describe its layout.
    at: &'a [u32],
    words: &'a [u32],
}

/// Positions among the words of a layout.
const ROW_BASE: usize = 0;
const ROWS: usize = 1;
const VALUES: usize = 2;
const VALUE_STRIDE: usize = 3;
const INDICES: usize = 4;
const INDEX_STRIDE: usize = 5;
const SCALES: usize = 6;
const SCALE_STRIDE: usize = 7;
const PANEL: usize = 9;
const FACTOR: usize = 11;

impl Part<'_> {
    fn number(&self, what: usize) -> usize {
        self.at[what] as usize
    }

    /// Bits of a stored value.
    fn width(&self) -> u32 {
        let size = |dtype: Option<Dtype>| 8 * dtype.map_or(4, Dtype::size) as u32;
        self.format
            .quant()
            .map_or(size(self.format.dtype()), Quant::bits)
    }

    /// What a field stands for; for codes, `scale` is the word of its group.
    fn value(&self, field: u32, scale: u32) -> f32 {
        match (self.format.quant(), self.format.dtype()) {
            (Some(quant), _) => {
                let zero = match self.format {
                    // Here other numbers follow the zero, or stand in its place.
                    Format::Gqs { .. } if quant.symmetric() => quant.middle().into(),
                    Format::Gqs { .. } => (scale >> 16 & u32::from(quant.max_code())) as f32,
                    _ if quant.real_zeros() => half_of(scale >> 16),
                    _ => (scale >> 16) as f32,
                };
                f32::from_bits(self.at[FACTOR]) * (half_of(scale) * (field as f32 - zero))
            }
            (None, Some(Dtype::F16)) => f16::from_bits(field as u16).to_f32(),
            (None, Some(Dtype::Bf16)) => bf16::from_bits(field as u16).to_f32(),
            _ => f32::from_bits(field),
        }
    }

    /// Reads rows that are stored row by row: all columns, or what a pattern keeps of them.
    fn rows(&self, values: &mut [f32]) {
        let (format, cols) = (self.format, self.cols);
        let (stride, scale_stride) = (self.number(VALUE_STRIDE), self.number(SCALE_STRIDE));
        let slots = format.pattern().map_or(cols, |p| p.slots(cols));
        for row in 0..self.number(ROWS) {
            let of_row = &self.words[self.number(VALUES) + row * stride..][..stride];
            for slot in 0..slots {
                let col = format.pattern().map_or(slot, |pattern| {
                    let width = pattern.index_bits().max(1).next_power_of_two();
                    let interleave = 8 / width as usize;
                    let set = row / pattern.v();
                    let at = self.number(INDICES)
                        + set / interleave * self.number(INDEX_STRIDE)
                        + slot / SLOTS_PER_WORD;
                    let field = set % interleave * SLOTS_PER_WORD + slot % SLOTS_PER_WORD;
                    let index = bits::get(&self.words[at..=at], width, field);
                    slot / pattern.n() * pattern.m() + index as usize
                });
                let scale = format.quant().map_or(0, |quant| {
                    let whole = quant.group_cols(cols);
                    let group = slot / format.pattern().map_or(whole, |p| p.slots(whole));
                    let of_rows = self.number(SCALES) + row / SCALE_ROWS * scale_stride;
                    self.words[of_rows + group * SCALE_ROWS + row % SCALE_ROWS]
                });
                // A spare slot has no column.
                if col < cols {
                    let field = bits::get(of_row, self.width(), slot);
                    values[row * cols + col] = self.value(field, scale);
                }
            }
        }
    }

    /// Reads bands of rows, which are stored column by column.
    fn bands(&self, values: &mut [f32]) {
        let (cols, band, stride) = (self.cols, self.number(PANEL), self.number(VALUE_STRIDE));
        for row in 0..self.number(ROWS) {
            for col in 0..cols {
                let run = self.number(VALUES) + (row / band * cols + col) * stride;
                let field = bits::get(&self.words[run..run + stride], self.width(), row % band);
                let scale = self.format.quant().map_or(0, |quant| {
                    let group = row / band * quant.groups(cols) + col / quant.group_cols(cols);
                    self.words[self.number(SCALES) + group * band + row % band]
                });
                values[row * cols + col] = self.value(field, scale);
            }
        }
    }

    /// Reads rows that keep equally many groups, for GPUs: slot by slot, as GEMV does, or column by column,
    /// as GEMM does, which looks up the bits that say what is kept.
    fn even(&self, quant: Quant, by_columns: bool, values: &mut [f32]) {
        let (groups, size) = (quant.groups(self.cols), quant.group_cols(self.cols));
        let zero_bits = if quant.symmetric() { 0 } else { quant.bits() };
        let numbered = 1 + usize::from(groups > 1 << (16 - zero_bits));
        let slots = self.number(SCALE_STRIDE) / (EVEN_ROWS * numbered);
        let stride = (size * quant.bits() as usize).div_ceil(32);
        for row in 0..self.number(ROWS) {
            let of_row = self.number(SCALES) + row / EVEN_ROWS * self.number(SCALE_STRIDE);
            let mut take = |slot: usize, number: Option<usize>| {
                let at = of_row + slot * numbered * EVEN_ROWS + row % EVEN_ROWS;
                let word = self.words[at];
                let told = match numbered {
                    2 => self.words[at + EVEN_ROWS],
                    _ => word >> (16 + zero_bits),
                };
                let first = number.unwrap_or(told as usize) * size;
                let at = self.number(VALUES) + row * self.number(VALUE_STRIDE) + slot * stride;
                let codes = &self.words[at..at + stride];
                for col in first..self.cols.min(first + size) {
                    if half_of(word) != 0.0 {
                        let field = bits::get(codes, quant.bits(), col - first);
                        values[row * self.cols + col] = self.value(field, word);
                    }
                }
            };
            if !by_columns {
                (0..slots).for_each(|slot| take(slot, None));
                continue;
            }
            for number in 0..groups {
                let at = self.number(INDICES) + row * self.number(INDEX_STRIDE) + number / 32 * 2;
                let (kept, before) = (self.words[at], self.words[at + 1] as usize);
                let below = (kept & ((1 << (number % 32)) - 1)).count_ones() as usize;
                if kept >> (number % 32) & 1 == 1 {
                    let rank = before.saturating_add(below).min(slots - 1);
                    let moves = at - number / 32 * 2 + groups.div_ceil(32) * 2;
                    let moved = (self.words[moves + rank / 4] >> (rank % 4 * 8)) as u8;
                    let slot = rank.wrapping_add_signed(isize::from(moved.cast_signed()));
                    take(slot.min(slots - 1), Some(number));
                }
            }
        }
    }

    /// Reads rows that keep different numbers of groups, in panels of rows, for GPUs.
    fn panels(&self, quant: Quant, values: &mut [f32]) {
        let (indices, stride) = (self.number(INDICES), self.number(SCALE_STRIDE));
        let row_at = 16 + if quant.symmetric() { 0 } else { quant.bits() };
        for panel in 0..self.number(ROWS).div_ceil(PANEL_ROWS) {
            let slots = self.words[indices + panel]..self.words[indices + panel + 1];
            for slot in slots.start as usize..slots.end as usize {
                let at = self.number(SCALES) + slot * stride;
                let word = self.words[at];
                let first = self.words[indices + self.number(INDEX_STRIDE) + slot / BLOCK];
                let number = if stride == 2 {
                    self.words[at + 1]
                } else {
                    first.wrapping_add(word >> (row_at + PANEL_ROWS.ilog2()))
                };
                let row = panel * PANEL_ROWS + (word >> row_at) as usize % PANEL_ROWS;
                self.group(quant, slot, row, number as usize, values);
            }
        }
    }

    /// Reads runs, each the rows of a panel that keep one group of columns, for CPU adapters.
    fn runs(&self, quant: Quant, values: &mut [f32]) {
        let (groups, panel_rows) = (quant.groups(self.cols), self.number(PANEL));
        let row_at = 16 + if quant.symmetric() { 0 } else { quant.bits() };
        for run in 0..self.number(ROWS).div_ceil(panel_rows) * groups {
            let at = self.number(INDICES) + run;
            for slot in self.words[at] as usize..self.words[at + 1] as usize {
                let word = self.words[self.number(SCALES) + slot];
                let row = run / groups * panel_rows + (word >> row_at) as usize % panel_rows;
                self.group(quant, slot, row, run % groups, values);
            }
        }
    }

    /// Reads the codes of a kept group; a scale of 0 says that there is none.
    fn group(&self, quant: Quant, slot: usize, row: usize, number: usize, values: &mut [f32]) {
        let scale = self.words[self.number(SCALES) + slot * self.number(SCALE_STRIDE)];
        let (size, stride) = (quant.group_cols(self.cols), self.number(VALUE_STRIDE));
        let codes = &self.words[self.number(VALUES) + slot * stride..][..stride];
        for within in 0..size {
            let field = bits::get(codes, quant.bits(), within);
            let col = number * size + within;
            if half_of(scale) != 0.0 && row < self.number(ROWS) && col < self.cols {
                values[row * self.cols + col] = self.value(field, scale);
            }
        }
    }
}

/// The scale in the lower half of a word.
fn half_of(word: u32) -> f32 {
    f16::from_bits(word as u16).to_f32()
}
