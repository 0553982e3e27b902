//! How a balanced group-pruned weight lies in GPU memory.
//!
//! All rows keep equally many groups, so they lie like those of any weight, with what is kept alone:
//!
//! ```text
//! part  | values [rows][value_stride]  | indices [rows][groups / 32][2] | scales [rows / 4][kept][1 or 2][4] |
//!         codes of kept groups, whole    a bit for each that is kept,     scale f16 | zero | number of the
//!         words each, padded to 32 B     kept before the 32               group
//! ```
//! Groups ascend. GEMV goes through what is kept and asks for its columns; GEMM goes through columns, and
//! the indices say whether they are kept, and where. A number has a word of its own, beside the other three rows', where the bits left are
//! too few. Loads of 16 bytes may end with spare groups: of scale 0, which nothing stored has, and the
//! number of the last.
//!
//! Ragged weights lie in `panels`; CPU adapters have another layout, `runs`.

use super::{
    Const, PartLayout,
    panels::{group_words, pack_codes, scale_word, zero_bits},
};
use crate::format::{Format, Gqs, GroupPruning, Quant};

/// Rows whose scales lie together.
pub(super) const ROWS: usize = 4;

/// Words of a load, which spare groups fill up.
const LOAD_WORDS: usize = 4;

/// The codes and groups of `format`, if that is a balanced group-pruned one.
pub(super) fn balanced(format: Format) -> Option<(Quant, GroupPruning)> {
    match format {
        Format::Gqs { quant, pruning } if !pruning.ragged() => Some((quant, pruning)),
        _ => None,
    }
}

/// Kept groups of a row, spare ones among them.
pub(super) fn slots(quant: Quant, pruning: GroupPruning, cols: usize) -> usize {
    let (kept, words) = (pruning.kept(quant.groups(cols)), group_words(quant, cols));
    (kept * words)
        .next_multiple_of(LOAD_WORDS)
        .div_ceil(words.max(1))
}

/// Words of scale, zero and number of a kept group.
pub(super) fn scale_words(quant: Quant, cols: usize) -> usize {
    1 + usize::from(quant.groups(cols) > 1 << (16 - zero_bits(quant)))
}

/// Words of the codes of a row, of its indices, and of the scales of [`ROWS`] rows.
pub(super) fn words(quant: Quant, pruning: GroupPruning, cols: usize) -> [usize; 3] {
    let slots = slots(quant, pruning, cols);
    [
        slots * group_words(quant, cols),
        quant.groups(cols).div_ceil(32) * 2,
        slots * scale_words(quant, cols) * ROWS,
    ]
}

/// What shaders ask for that read such a weight.
pub(super) fn consts(quant: Quant, cols: usize) -> [(&'static str, Const); 4] {
    [
        ("GROUP_WORDS", Const::U32(group_words(quant, cols) as u32)),
        ("SCALE_WORDS", Const::U32(scale_words(quant, cols) as u32)),
        ("ZERO_BITS", Const::U32(zero_bits(quant))),
        ("MIDDLE", Const::F32(f32::from(quant.middle()))),
    ]
}

/// Fills the words of one part of `w`.
pub(super) fn pack(w: &Gqs, part: &PartLayout, words: &mut [u32]) {
    for row in 0..part.rows as usize {
        pack_row(w, row, part, words);
    }
}

/// Fills the words of row `row` of a part.
fn pack_row(w: &Gqs, row: usize, part: &PartLayout, words: &mut [u32]) {
    let quant = w.codes().quant();
    let (stride, numbered) = (group_words(quant, w.cols()), scale_words(quant, w.cols()));
    let values = part.values as usize + row * part.value_stride as usize;
    let indices = part.indices as usize + row * part.index_stride as usize;
    let scales = part.scales as usize + row / ROWS * part.scale_stride as usize + row % ROWS;
    let mut put = |slot: usize, word: u32, number: u32| {
        let at = scales + slot * numbered * ROWS;
        if numbered == 2 {
            (words[at], words[at + ROWS]) = (word, number);
        } else {
            words[at] = word | number << (16 + zero_bits(quant));
        }
    };
    let kept = w.kept(part.row_base as usize + row);
    let numbers = &w.group_indices()[kept.clone()];
    for (slot, (from, &number)) in kept.zip(numbers).enumerate() {
        put(slot, scale_word(w.codes(), from, 0), number);
    }
    if let Some(&last) = numbers.last() {
        let all = slots(quant, w.pruning(), w.cols());
        (numbers.len()..all).for_each(|spare| put(spare, 0, last));
    }
    for (slot, from) in w.kept(part.row_base as usize + row).enumerate() {
        let at = values + slot * stride;
        pack_codes(w, from, &mut words[at..at + stride]);
        let number = numbers[slot] as usize;
        words[indices + number / 32 * 2] |= 1 << (number % 32);
    }
    for at in (indices..indices + part.index_stride as usize)
        .step_by(2)
        .skip(1)
    {
        words[at + 1] = words[at - 1] + words[at - 2].count_ones();
    }
}
