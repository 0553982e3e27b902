//! How a group-pruned weight lies in the memory of a CPU adapter.
//!
//! There a lane pays for every load, so lanes share what they can: of the [`ROWS`] rows of a
//! panel, those that keep a group of columns make a *run*. All of a run meets the same x, which a
//! workgroup loads once; its lanes take the kept groups of the run side by side, [`PAIR`] at a
//! time. Sections of a part are
//!
//! ```text
//! part  | values [slots][value_stride] | scales [slots]           | indices
//!         words of a group's codes       scale f16 | zero | row
//! indices: [panels · groups + 1]  first slot of each run, then all of them
//!          [panels + 1]           first piece of each panel, then all of them
//!          [pieces][4]            number of a piece, its first run, first slot, last slot + 1
//! ```
//! A run is filled up to whole pairs with spare slots of scale 0, which no stored group has.
//!
//! Pieces are for weights whose rows keep very different numbers of groups: a panel that holds a few times the
//! mean is cut into as many pieces, which hold about the same. That is GQSA's task-centric schedule with its row
//! starts computed here. CPU adapters give neighbouring workgroups to one thread, so pieces are stored in an
//! order that separates neighbours.

use super::{
    PartLayout,
    layout::section,
    panels::{self, Slot},
};
use crate::{
    error::Result,
    format::{Gqs, GroupPruning, Quant},
};
use std::ops::Range;

/// Rows of a panel.
pub(super) const ROWS: usize = 256;

/// Neighbouring slots that a lane takes.
pub(super) const PAIR: usize = 2;

/// Words of a piece in the indices.
const PIECE_WORDS: usize = 4;

/// How a balanced weight of this shape is cut into parts of at most `max_bytes`: with a spare
/// slot in every run, which is the most there can be.
///
/// # Errors
/// [`Error::Limit`](crate::Error::Limit) where one panel is larger.
pub(super) fn split(
    (quant, pruning): (Quant, GroupPruning),
    rows: usize,
    cols: usize,
    max_bytes: u64,
) -> Result<Vec<PartLayout>> {
    let (groups, kept) = (quant.groups(cols), pruning.kept(quant.groups(cols)));
    let slots = |panel: Range<usize>| (panel.len() * kept + groups).next_multiple_of(PAIR);
    panels::cut((rows, ROWS), slots, part(quant, cols), max_bytes)
}

/// How `w` is cut into parts of at most `max_bytes`.
///
/// # Errors
/// Those of [`split`].
pub(super) fn split_weight(w: &Gqs, max_bytes: u64) -> Result<Vec<PartLayout>> {
    let slots = |panel| run_lengths(w, panel).iter().sum();
    let part = part(w.codes().quant(), w.cols());
    let mut parts = panels::cut((w.rows(), ROWS), slots, part, max_bytes)?;
    for part in &mut parts {
        let slots: Vec<usize> = panels(part).map(slots).collect();
        let pieces = pieces(&slots);
        if pieces.iter().any(|&of_panel| of_panel > 1) {
            part.pieces = pieces.iter().sum::<usize>() as u32;
        }
    }
    Ok(parts)
}

/// The rows of the weight that each panel of a part holds.
fn panels(part: &PartLayout) -> impl Iterator<Item = Range<usize>> + use<> {
    let (first, end) = (part.row_base as usize, (part.row_base + part.rows) as usize);
    (first..end)
        .step_by(ROWS)
        .map(move |first| first..end.min(first + ROWS))
}

/// The part of so many rows and slots, and its words.
fn part(quant: Quant, cols: usize) -> impl Fn(usize, usize, usize) -> (PartLayout, usize) {
    let (stride, groups) = (panels::group_words(quant, cols), quant.groups(cols));
    move |row_base, rows, slots| {
        let panels = rows.div_ceil(ROWS);
        let scales = section(slots * stride);
        let indices = scales + section(slots);
        let offsets = panels * groups + 1 + panels + 1;
        let words = indices + section(offsets + most_pieces(panels) * PIECE_WORDS);
        let layout = PartLayout {
            row_base: row_base as u32,
            rows: rows as u32,
            value_stride: stride as u32,
            indices: indices as u32,
            index_stride: groups as u32,
            scales: scales as u32,
            scale_stride: 1,
            words: words as u32,
            panel_rows: ROWS as u32,
            factor: 1f32.to_bits(),
            ..PartLayout::default()
        };
        (layout, words)
    }
}

/// Checks that `words` lie as `found` says: the starts of runs ascend to the last slot, and pieces end there.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check(
    quant: Quant,
    cols: usize,
    found: &PartLayout,
    words: &[u32],
) -> std::result::Result<(), String> {
    let panels = (found.rows as usize).div_ceil(ROWS);
    let runs = panels * quant.groups(cols);
    let at = found.indices as usize;
    let slots = panels::check_starts(words, at, runs + 1)?;
    let (expected, needed) = part(quant, cols)(found.row_base as usize, found.rows as usize, slots);
    let (pieces, factor) = (found.pieces, found.factor);
    let expected = PartLayout {
        pieces,
        factor,
        ..expected
    };
    if needed > words.len() || *found != expected {
        return Err("a part does not lie as its rows and kept groups do".into());
    }
    let at = at + runs + 1;
    let count = panels::check_starts(words, at, panels + 1)?;
    if count > most_pieces(panels) || pieces != 0 && pieces as usize != count {
        return Err(format!("{count} pieces, its part says {pieces}"));
    }
    let records = words[at + panels + 1..].chunks_exact(PIECE_WORDS);
    for piece in records.take(count) {
        let [number, run, begin, end] = [0, 1, 2, 3].map(|i| piece[i] as usize);
        if number >= count || run >= runs || begin > end || end > slots {
            return Err(format!(
                "piece {number} of {count} from slot {begin} to {end} of {slots}"
            ));
        }
    }
    Ok(())
}

/// Slots of each run of the rows `panel`, spare ones with them.
fn run_lengths(w: &Gqs, panel: Range<usize>) -> Vec<usize> {
    let mut lengths = vec![0usize; w.row_groups()];
    for row in panel {
        for from in w.kept(row) {
            lengths[w.group_indices()[from] as usize] += 1;
        }
    }
    for length in &mut lengths {
        *length = length.next_multiple_of(PAIR);
    }
    lengths
}

/// Most pieces that so many panels are cut into: [`pieces`] makes each about as large as the mean panel.
const fn most_pieces(panels: usize) -> usize {
    2 * panels
}

/// How many pieces each panel is cut into, given its slots: its size in mean panels, rounded, and at least one if
/// it holds anything.
fn pieces(slots: &[usize]) -> Vec<usize> {
    let all: usize = slots.iter().sum();
    let of = |&n: &usize| {
        let rounded = (2 * n * slots.len() + all) / (2 * all).max(1);
        rounded.max(n.min(1))
    };
    slots.iter().map(of).collect()
}

/// Fills the words of one part of `w`.
pub(super) fn pack(w: &Gqs, part: &PartLayout, words: &mut [u32]) {
    let (stride, groups) = (part.value_stride as usize, w.row_groups());
    let mut starts = vec![0];
    for panel in panels(part) {
        let lengths = run_lengths(w, panel.clone());
        let mut kept = panels::by_columns(w, panel).into_iter().peekable();
        for (number, length) in lengths.into_iter().enumerate() {
            let begin = starts[starts.len() - 1];
            let in_run = |slot: &Slot| slot.number as usize == number;
            for to in begin.. {
                let Some(slot) = kept.next_if(in_run) else {
                    break;
                };
                let at = part.values as usize + to * stride;
                panels::pack_codes(w, slot.from, &mut words[at..at + stride]);
                words[part.scales as usize + to] =
                    panels::scale_word(w.codes(), slot.from, slot.row);
            }
            starts.push(begin + length);
        }
    }
    let indices = &mut words[part.indices as usize..];
    for (to, &start) in indices.iter_mut().zip(&starts) {
        *to = start as u32;
    }
    let of_panel = |panel| (starts[panel * groups], starts[(panel + 1) * groups]);
    let bounds: Vec<_> = (0..panels(part).count()).map(of_panel).collect();
    pack_pieces(&starts, &bounds, &mut indices[starts.len()..]);
}

/// Writes the pieces of panels whose slots lie in `bounds` and whose runs begin at `starts`.
fn pack_pieces(starts: &[usize], bounds: &[(usize, usize)], words: &mut [u32]) {
    let slots: Vec<usize> = bounds.iter().map(|b| b.1 - b.0).collect();
    let mut table = vec![];
    for (panel, count) in pieces(&slots).into_iter().enumerate() {
        words[panel] = table.len() as u32;
        let cut = |i: usize| bounds[panel].0 + (slots[panel] * i / count).next_multiple_of(PAIR);
        for i in 0..count {
            let run = starts.partition_point(|&start| start <= cut(i)) - 1;
            table.push([table.len(), run, cut(i), cut(i + 1)].map(|n| n as u32));
        }
    }
    let count = table.len();
    words[bounds.len()] = count as u32;
    let step = coprime(count);
    let records = words[bounds.len() + 1..].chunks_exact_mut(PIECE_WORDS);
    for (i, to) in records.take(count).enumerate() {
        to.copy_from_slice(&table[i * step % count]);
    }
}

/// A step that visits all of `n` things and puts neighbours far apart: coprime to `n`, near its golden section.
fn coprime(n: usize) -> usize {
    let golden = (n as f64 * 0.618) as usize;
    (golden..=n)
        .find(|&step| super::packet::gcd(step, n) == 1)
        .unwrap_or(1)
}
