//! The case table: which formats are checked at which shapes, and in which ways.

use super::Case;
use crate::{
    caps::Caps,
    error::{Error, Result},
    format::{Dtype, Format, Precision},
    kernel::{self, Layout, Skip},
};

/// Formats whose cases are checked: both extremes of n and m, every width of a device
/// index, windows that divide nothing, index sets narrower, equal and wider than tiles; codes
/// that straddle words, groups shorter and longer than what a lane takes.
const FORMATS: &[&str] = &[
    "f32",
    "f16",
    "bf16",
    "2:4",
    "1:4@f16",
    "3:4@bf16",
    "1:8",
    "1:16@f16",
    "1:32",
    "3:5@f16",
    "1:1",
    "2:2",
    "31:32",
    "2:4x4",
    "2:4x8@f16",
    "1:8x16@bf16",
    "4:8x32",
    "2:7x3",
    "8:32x64@f16",
    "w4g128",
    "w4g16-sym",
    "w2g64",
    "w3g32",
    "w8row",
    "w5g24",
    "2:4+w4g64",
    "1:8x16+w3g16-sym",
    "2:4x2+w8g16-sym",
    "w4g32-real",
    "2:4+w3g16-real",
    "w4g16s50",
    "w8g128s30-sym",
    "w2g8s60-ragged",
    "w3g40s50-ragged",
    "w4g96s50",
];

/// `(rows, cols, batch)`: primes, tiles ± 1, more vectors than any tile. A ragged one first: the quick list meets
/// many a candidate once only.
const SHAPES: &[(usize, usize, usize)] = &[
    (67, 131, 1),
    (64, 128, 1),
    (33, 257, 3),
    (127, 64, 8),
    (65, 96, 9),
    (129, 61, 17),
    (31, 33, 67),
    (132, 160, 129),
];

/// Shapes at which little or nothing is computed: a wrong kernel may pass them.
const BARE_SHAPES: &[(usize, usize, usize)] = &[(1, 1, 1), (0, 5, 2), (5, 0, 2), (5, 5, 0)];

/// Formats of products that skip rows or columns, or whose weights lie so that they can.
const SKIPPING: &[&str] = &[
    "f32",
    "f16",
    "bf16",
    "w4g128",
    "w2g64",
    "w8row",
    "w4g16-sym",
    "w4g32-real",
];

/// What most products are.
const PLAIN: (Layout, Skip) = (Layout::Rows, Skip::Nothing);

/// What those products are.
const WAYS: &[(Layout, Skip)] = &[
    (Layout::Bands, Skip::Nothing),
    (Layout::Bands, Skip::Cols),
    (Layout::Rows, Skip::Rows),
];

/// Formats of products that take x in eight bits.
const QUANTIZING: &[&str] = &[
    "w4g128",
    "w2g64",
    "w8row",
    "w4g16-sym",
    "w8g24",
    "w4g32-real",
    "w8g16-real",
    "w4g16s50",
    "w4g64s50",
    "w8g24s30-sym",
    "w2g16s60-ragged",
    "w4g8s50",
];

/// Formats of products that take x in 24 bits.
const TRIPLES: &[&str] = &[
    "w4g128",
    "w8g16-sym",
    "w2g64",
    "w8row",
    "w4g8",
    "w8g32-real",
    "w4g64s50",
    "w2g16s60-ragged",
];

/// Formats of products that take x in f16.
const HALVES: &[&str] = &[
    "f16",
    "bf16",
    "2:4x16@f16",
    "1:8x32@bf16",
    "4:8x64@f16",
    "w4g128",
    "w4g32-real",
    "w3g40-sym",
    "1:8x16+w3g16-sym",
    "2:4@f16",
    "1:8x2@bf16",
    "3:4x8@f16",
    "2:4+w4g64",
    "w4g16s50",
    "w3g40s50-sym",
];

/// Shapes left to the thorough list, each with every fourth format.
const MORE_SHAPES: &[(usize, usize, usize)] = &[
    (1, 4096, 1),
    (4096, 1, 2),
    (63, 127, 4),
    (255, 1024, 5),
    (8, 8, 6),
    (512, 511, 7),
    (66, 260, 16),
    (128, 256, 64),
    (257, 515, 65),
    (70_001, 3, 1),
    (2, 3, 70_001),
];

/// The case table: the quick one, or the thorough one that contains it.
///
/// Thorough is every format at every shape of the first dozen, and at the other shapes every fourth format,
/// shifted from shape to shape. Quick takes each of the first eight shapes with every eighth format, so that every
/// format is met where there is something to compute, and the bare ones with a few formats; products that skip, or
/// take x in eight bits, are among them.
///
/// # Panics
/// Never: the table's formats are valid.
pub fn cases(quick: bool) -> impl Iterator<Item = Case> {
    let of = |formats: &'static [&str], (layout, skip), precision| {
        let parsed = |format: &&str| format.parse().expect("the table holds formats");
        let all = formats.iter().map(parsed);
        all.map(move |format| (layout, skip, precision, format))
    };
    let products = of(FORMATS, PLAIN, Precision::F32)
        .chain(
            WAYS.iter()
                .flat_map(|&way| of(SKIPPING, way, Precision::F32)),
        )
        .chain(of(QUANTIZING, PLAIN, Precision::I8))
        .chain(of(TRIPLES, PLAIN, Precision::I24))
        .chain(of(HALVES, PLAIN, Precision::F16));
    met(products.collect(), quick, SHAPES.len())
}

/// The same for any one format, in every way in which weights like it can be multiplied: thorough at
/// the shapes of [`cases`], quick with every third way at each, and with fewer at the bare ones.
///
/// # Errors
/// Those of laying its weights out.
pub fn cases_of(format: Format, quick: bool) -> Result<impl Iterator<Item = Case>> {
    let format = format.or_dtype(Dtype::F32);
    let precisions = [Precision::I8, Precision::I24, Precision::F16];
    let precisions = precisions.into_iter().filter(|p| p.changes(format));
    let all = std::iter::once((PLAIN, Precision::F32))
        .chain(WAYS.iter().map(|&way| (way, Precision::F32)))
        .chain(precisions.map(|precision| (PLAIN, precision)));
    let mut ways = vec![];
    for ((layout, skip), precision) in all {
        // The weights of some formats do not lie in bands, others have no rows to be skipped.
        let case = Case::new(8, 128, 1, format, false).skipping(layout, skip);
        let problem = case.taking(precision).problem;
        match kernel::survey(&problem, &Caps::PORTABLE) {
            Ok(candidates) => {
                // Devices may have what these least caps lack, but none skips what no kernel skips.
                let legal = candidates.iter().any(|(_, legal)| legal.is_ok());
                if legal || (skip == Skip::Nothing && !candidates.is_empty()) {
                    ways.push((layout, skip, precision, format));
                }
            }
            Err(Error::Unfit { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(met(ways, quick, 3))
}

/// A format, how its weight lies, what is skipped, and how x is taken.
type Product = (Layout, Skip, Precision, Format);

/// Products at shapes: each shape of the first dozen with all products or, where `quick`, with every
/// `quick_every`-th, and with a third of those where it is bare; unless `quick`, also the other shapes. Every other
/// product at a shape has a bias.
fn met(products: Vec<Product>, quick: bool, quick_every: usize) -> impl Iterator<Item = Case> {
    let [every, bare_every] = if quick {
        [1, 3].map(|n| n * quick_every)
    } else {
        [1, 1]
    };
    let products: Vec<_> = products.into_iter().enumerate().collect();
    let first = SHAPES.iter().map(move |shape| (shape, every));
    let bare = BARE_SHAPES.iter().map(move |shape| (shape, bare_every));
    let more = if quick { &[] } else { MORE_SHAPES };
    let shapes = first.chain(bare).chain(more.iter().map(|shape| (shape, 4)));
    let pairs = shapes.enumerate().flat_map(move |(i, (shape, every))| {
        let products = products.clone().into_iter();
        let pairs = products.map(move |(j, product)| (i + j, every, shape, product));
        pairs.filter(|(n, every, ..)| n % every == 0)
    });
    pairs.map(
        |(n, every, &(rows, cols, batch), (layout, skip, precision, format))| {
            let case = Case::new(rows, cols, batch, format, n / every % 2 == 1);
            case.skipping(layout, skip).taking(precision)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Problem;
    use std::collections::BTreeSet;

    #[test]
    fn the_quick_list_computes_something_of_every_product_and_has_both_biases_at_every_shape() {
        // What a product is, without its shape and its bias.
        let product = |case: &Case| {
            let Problem {
                format,
                layout,
                skip,
                precision,
                ..
            } = case.problem;
            format!("{format} {layout:?} {skip:?} {precision:?}")
        };
        let all: BTreeSet<_> = cases(false).map(|case| product(&case)).collect();
        let bare = |case: &Case| case.x.len() < 2 || case.gate.len() < 2;
        let computed: Vec<_> = cases(true).filter(|case| !bare(case)).collect();
        let met: BTreeSet<_> = computed.iter().map(product).collect();
        assert_eq!(met, all);
        for &(rows, cols, batch) in SHAPES {
            let here = |case: &&Case| {
                let Problem {
                    rows: r,
                    cols: c,
                    batch: b,
                    ..
                } = case.problem;
                (r, c, b) == (rows, cols, batch)
            };
            let biases: BTreeSet<_> = computed
                .iter()
                .filter(here)
                .map(|case| case.problem.bias)
                .collect();
            assert_eq!(biases.len(), 2, "{rows}x{cols} batch {batch}");
        }
    }

    #[test]
    fn any_format_is_met_in_every_way_that_it_has() {
        for (format, ways) in [
            ("w4g64-real", 7),
            ("w6g16-sym", 3),
            ("w4g16s70", 4),
            ("2:4x8@f16", 2),
            ("2:4", 1),
        ] {
            let format = format.parse::<Format>().unwrap().or_dtype(Dtype::F32);
            let met = cases_of(format, true).unwrap();
            let mut met: Vec<_> = met
                .map(|case| {
                    assert_eq!(case.problem.format, case.weight.format());
                    let Problem {
                        layout,
                        skip,
                        precision,
                        ..
                    } = case.problem;
                    format!("{layout:?} {skip:?} {precision:?}")
                })
                .collect();
            met.sort();
            met.dedup();
            assert_eq!(met.len(), ways, "{format}: {met:?}");
        }
    }
}
