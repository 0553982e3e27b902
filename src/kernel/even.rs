//! How a balanced group-pruned weight lies in GPU memory.
//!
//! All rows keep equally many groups, so they lie like the rows of any weight, but hold kept groups alone:
//!
//! ```text
//! part  | values [rows][value_stride]  | indices [rows][index_stride] | scales [rows / 4][kept][1 or 2][4] |
//!         codes of kept groups, whole    words                          scale f16 | zero | number of the
//!         words each, padded to 32 B                                    group
//!
//! indices: [groups / 32][2]  a bit for each group that is kept, and how many before these 32 are
//!          [kept]            of each of those, in bytes, how far from its place it stands
//! ```
//! GEMV walks along the kept groups and looks up their columns. Lanes side by side should then read x from
//! different banks of workgroup memory, so the groups of a row are reordered for that, as far as possible, inside
//! windows of some 2048 columns; the windows themselves ascend. GEMM walks along columns, and the indices say
//! whether a group is kept, and where it stands.
//!
//! Where too few bits are left beside scale and zero, the number of a group has a word of its own, next to those of
//! the other three rows. Spare groups fill up the last load of 16 bytes: they have scale 0, which no stored group
//! has, and the number of the last group.
//!
//! Ragged weights lie in `panels`; CPU adapters have another layout, `runs`.

use super::{
    Const, PartLayout, held,
    panels::{group_words, pack_codes, scale_word, zero_bits},
    problem::unfit,
};
use crate::{
    error::Result,
    format::{Format, Gqs, GroupPruning, Quant},
};

/// Rows whose scales lie together: those of a tile.
pub(super) const ROWS: usize = held::ROWS as usize;

/// Words of a load, which spare groups fill up.
const LOAD_WORDS: usize = held::WORDS as usize;

/// Lanes that read 16 bytes each at a time, best from as many different banks.
const BANKS: usize = 8;

/// Most columns, and most groups, of a window: a signed byte says how far a group has moved.
const WINDOW_COLS: usize = 2048;
const WINDOW_GROUPS: usize = 128;

/// The codes and groups of `format`, if that is a balanced group-pruned one.
pub(super) fn balanced(format: Format) -> Option<(Quant, GroupPruning)> {
    match format {
        Format::Gqs { quant, pruning } if !pruning.ragged() => Some((quant, pruning)),
        _ => None,
    }
}

/// Refuses parts of a group-pruned weight that lie in panels or runs.
pub(super) fn check(parts: &[PartLayout]) -> Result<()> {
    match parts.iter().find(|p| p.panel_rows != 0) {
        None => Ok(()),
        Some(part) => {
            let needed = "none: a weight that lies by rows";
            Err(unfit("rows of a panel", part.panel_rows as usize, needed))
        }
    }
}

/// Kept groups of a row, with the spare ones.
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
        bit_words(quant, cols) + slots.div_ceil(4),
        slots * scale_words(quant, cols) * ROWS,
    ]
}

/// Words of a row that say what is kept.
fn bit_words(quant: Quant, cols: usize) -> usize {
    quant.groups(cols).div_ceil(32) * 2
}

/// Groups of a window.
fn window_groups(quant: Quant, cols: usize) -> usize {
    (WINDOW_COLS / quant.group_cols(cols).max(1)).clamp(1, WINDOW_GROUPS)
}

/// Columns of a window. Where x is held in parts, each part covers whole windows.
pub(super) fn window_cols(quant: Quant, cols: usize) -> usize {
    window_groups(quant, cols) * quant.group_cols(cols)
}

/// The order in which the kept groups of a row are stored, as indices into their `numbers`.
fn order(numbers: &[u32], quant: Quant, cols: usize) -> Vec<usize> {
    let words = group_words(quant, cols);
    // A load holds several groups, or a group takes several loads.
    let of_load = (LOAD_WORDS / words).max(1);
    let pieces = (words / LOAD_WORDS).max(1);
    let banks = (BANKS / pieces).max(1);
    let bank = |place: usize| numbers[place] as usize % banks;
    let of_window = window_groups(quant, cols);
    let window = |place: &usize| numbers[*place] as usize / of_window;
    let places: Vec<usize> = (0..numbers.len()).collect();
    let mut order = Vec::with_capacity(places.len());
    let mut left: [Vec<usize>; BANKS] = Default::default();
    for places in places.chunk_by(|a, b| window(a) == window(b)) {
        for &place in places.iter().rev() {
            left[bank(place)].push(place);
        }
        for _ in places {
            // What other lanes read at the same time as this group, counted by bank.
            let (item, within) = (order.len() / of_load, order.len() % of_load);
            let first = item / banks * banks * of_load + within;
            let mut met = [0; BANKS];
            for &place in order.iter().skip(first).step_by(of_load) {
                met[bank(place)] += 1;
            }
            // The bank read least so far; among equals, the one with the most groups left.
            let open = (0..banks).filter(|&b| !left[b].is_empty());
            let best = open.min_by_key(|&b| (met[b], usize::MAX - left[b].len()));
            order.extend(best.and_then(|b| left[b].pop()));
        }
    }
    order
}

/// Consts of shaders that read such a weight.
pub(super) fn consts(quant: Quant, cols: usize) -> [(&'static str, Const); 5] {
    [
        ("GROUP_WORDS", Const::U32(group_words(quant, cols) as u32)),
        ("SCALE_WORDS", Const::U32(scale_words(quant, cols) as u32)),
        ("MOVES", Const::U32(bit_words(quant, cols) as u32)),
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
    let order = order(numbers, quant, w.cols());
    for (slot, &place) in order.iter().enumerate() {
        put(
            slot,
            scale_word(w.codes(), kept.start + place, 0),
            numbers[place],
        );
    }
    if let Some(&last) = numbers.last() {
        let all = slots(quant, w.pruning(), w.cols());
        (order.len()..all).for_each(|spare| put(spare, 0, last));
    }
    let moves = indices + bit_words(quant, w.cols());
    for (slot, &place) in order.iter().enumerate() {
        let at = values + slot * stride;
        pack_codes(w, kept.start + place, &mut words[at..at + stride]);
        let number = numbers[place] as usize;
        words[indices + number / 32 * 2] |= 1 << (number % 32);
        let moved = (slot as u32).wrapping_sub(place as u32) & 0xff;
        words[moves + place / 4] |= moved << (place % 4 * 8);
    }
    for at in (indices..moves).step_by(2).skip(1) {
        words[at + 1] = words[at - 1] + words[at - 2].count_ones();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in the busiest bank when lanes side by side load 16 bytes each, on average.
    fn meetings(numbers: &[u32], order: &[usize], of_load: usize, banks: usize) -> f64 {
        let rounds = order
            .chunks(BANKS * of_load)
            .flat_map(|round| (0..of_load).map(move |g| round.iter().skip(g).step_by(of_load)));
        let most = rounds.map(|round| {
            let mut met = vec![0; banks];
            round.for_each(|&place| met[numbers[place] as usize % banks] += 1);
            met.into_iter().max().unwrap_or(0)
        });
        let most: Vec<i32> = most.collect();
        f64::from(most.iter().sum::<i32>()) / most.len() as f64
    }

    #[test]
    fn groups_stand_where_neighbours_meet_other_banks_and_never_far_from_their_place() {
        let quant = Quant::new(4, Some(16), crate::format::ZeroPoint::Code).unwrap();
        let mut random = 9u32;
        let half = |_: &u32| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random >> 31 == 0
        };
        let numbers: Vec<u32> = (0..896).filter(half).collect();
        let order = order(&numbers, quant, 14_336);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..numbers.len()));
        for (slot, &place) in order.iter().enumerate() {
            assert!(slot.abs_diff(place) < 128);
            // Windows ascend.
            let window = |slot: usize| numbers[order[slot]] / 128;
            assert!(slot == 0 || window(slot - 1) <= window(slot));
        }
        let ascending: Vec<usize> = (0..numbers.len()).collect();
        let (before, after) = (
            meetings(&numbers, &ascending, 2, 8),
            meetings(&numbers, &order, 2, 8),
        );
        assert!(before > 2.0 && after < 1.5, "{before} {after}");
    }
}
