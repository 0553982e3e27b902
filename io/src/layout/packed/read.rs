//! Reading `pack-quantized`.

use super::{G_IDX, PACKED, Packing, SCALE, SHAPE, ZERO_POINT};
use crate::{
    error::Result,
    layout::{
        Refusal, View,
        grid::{Grid, Groups, check_scales},
    },
    tensor::TensorDtype,
};
use lacuna::format::{Quant, Values};

/// Reads everything but the codes, and finds how they are packed.
pub(in crate::layout) fn grid(view: &View<'_>) -> Result<(Grid, Packing)> {
    let (rows, cols) = shape(view)?;
    let (bits, packing) = width(view, rows, cols)?;
    let (groups, scales) = scales(view, rows)?;
    let order = view.find(G_IDX).map(|_| G_IDX).filter(|_| groups > 1);
    let order = match order {
        Some(name) if view.words(name)?.iter().all(|&g| g == u32::MAX) => None,
        order => order,
    };
    let layout = Groups::find(view, SCALE, order, cols, groups)?;
    let zeros = zeros(view, rows, groups, bits, packing)?;
    let lies = match packing {
        Packing::Whole => ", whole ones in a word",
        Packing::Straddling if 32 % bits != 0 => ", across words",
        Packing::Straddling => "",
    };
    let signs = if zeros.is_some() { "with" } else { "without" };
    let evidence = vec![
        format!("weight_packed and weight_shape: {bits} bits{lies}, {signs} zero points"),
        layout.fact(),
    ];
    let grid = Grid {
        rows,
        cols,
        bits,
        groups: layout,
        scales,
        zeros,
        evidence,
        warnings: vec![],
    };
    Ok((grid, packing))
}

fn shape(view: &View<'_>) -> Result<(usize, usize)> {
    view.expect_shape(SHAPE, &[2], ", rows and columns")?;
    let sizes = view.sizes(SHAPE)?;
    Ok((sizes[0], sizes[1]))
}

/// Bits of a code and their packing, found from the words of a row. If several fit, `config.json`
/// decides, or, between 7 and 8 bits, what the words hold.
fn width(view: &View<'_>, rows: usize, cols: usize) -> Result<(u32, Packing)> {
    let [of_packed, words] = view.matrix_shape(PACKED, TensorDtype::I32, "I32")?;
    let shape = view.shown(SHAPE);
    if of_packed != rows {
        let expected = format!("{rows} rows, as {shape} has");
        return Err(view.wrong_shape(PACKED, &[of_packed, words], expected));
    }
    // A word holds at most 16 codes, of 2 bits. Checking that first keeps `words_for` from overflowing.
    let fitting = |bits: u32| {
        Packing::ALL.map(|packing| {
            let distinct = packing == Packing::Straddling || 32 % bits != 0;
            let fits = cols <= words * 16 && packing.words_for(cols, bits) == words;
            (distinct && fits).then_some((bits, packing))
        })
    };
    let all: Vec<_> = (Quant::MIN_BITS..=Quant::MAX_BITS)
        .flat_map(fitting)
        .flatten()
        .collect();
    let named = |(bits, _): &(u32, Packing)| view.config.bits.contains(&(*bits as usize));
    let named: Vec<_> = all.iter().copied().filter(named).collect();
    let said = view.config.version.and_then(Packing::of_version);
    match if named.is_empty() { all } else { named }[..] {
        [one] => Ok(one),
        // Within the first word both packings are the same.
        [(bits, _), (other, _)]
            if bits == other && (said.is_some() || cols <= (32 / bits) as usize) =>
        {
            Ok((bits, said.unwrap_or(Packing::Straddling)))
        }
        // Seven bits, whole ones in a word, always take as many words as eight, and leave four bits of each unused.
        [(7, Packing::Whole), eight] if is_of_eight_bits(view)? => Ok(eight),
        [] => {
            let expected = format!("[{rows}, words of {cols} codes of 2 to 8 bits], by {shape}");
            Err(view.wrong_shape(PACKED, &[of_packed, words], expected))
        }
        ref several => {
            let reading = |(bits, packing): &(u32, Packing)| match packing {
                Packing::Straddling => format!("{bits} bits"),
                Packing::Whole => format!("{bits} bits, whole ones in a word"),
            };
            let readings: Vec<String> = several.iter().map(reading).collect();
            let reading = format!(
                "{words} words hold {cols} codes of {}, and config.json does not decide it",
                readings.join(" or ")
            );
            Err(view.refuse(Refusal::Ambiguous { reading }))
        }
    }
}

/// Whether words hold what four codes of seven bits cannot, or zeros alone, which are the same of any width.
fn is_of_eight_bits(view: &View<'_>) -> Result<bool> {
    let words = view.words(PACKED)?;
    let zero = |words: &[u32]| words.iter().all(|&word| word == 0);
    let zeros = || view.words(ZERO_POINT).is_ok_and(|zeros| zero(&zeros));
    Ok(words.iter().any(|&word| word >> 28 != 0) || (zero(&words) && zeros()))
}

/// Scales `[rows][groups]`, and the number of groups.
fn scales(view: &View<'_>, rows: usize) -> Result<(usize, Values)> {
    let shape = view.stored(SCALE)?.shape.clone();
    let groups = match shape[..] {
        [of_scale, groups] if of_scale == rows && groups > 0 => groups,
        [of_scale] if of_scale == rows => 1,
        [] | [1] | [1, 1] => 1,
        _ => {
            let expected = format!("[{rows}, groups], [{rows}] or one number");
            return Err(view.wrong_shape(SCALE, &shape, expected));
        }
    };
    let scales = view.values(SCALE)?;
    check_scales(view, SCALE, &scales)?;
    let scales = if scales.len() == rows * groups {
        scales
    } else {
        match scales {
            Values::F32(v) => Values::F32(vec![v[0]; rows]),
            Values::F16(v) => Values::F16(vec![v[0]; rows]),
            Values::Bf16(v) => Values::Bf16(vec![v[0]; rows]),
        }
    };
    Ok((groups, scales))
}

/// Reads zeros, counted like codes, `[rows][groups]`; `None` if there are none.
fn zeros(
    view: &View<'_>,
    rows: usize,
    groups: usize,
    bits: u32,
    packing: Packing,
) -> Result<Option<Vec<u16>>> {
    let Some(stored) = view.find(ZERO_POINT) else {
        return Ok(None);
    };
    let middle = 1i16 << (bits - 1);
    if stored.dtype == TensorDtype::I8 {
        let shape = view.stored(SCALE)?.shape.clone();
        view.expect_shape(ZERO_POINT, &shape, ", as the scales have")?;
        let signed = view.signed(ZERO_POINT)?;
        let zero = |i: usize| {
            // One number may stand for all rows.
            let value = signed.get(i).copied().unwrap_or(signed[0]);
            let zero = i16::from(value) + middle;
            u16::try_from(zero)
                .ok()
                .filter(|&z| z < 1 << bits)
                .ok_or_else(|| {
                    let expected = format!("{} to {}", -middle, middle - 1);
                    view.wrong_content(ZERO_POINT, format!("element {i}"), &value, expected)
                })
        };
        return (0..rows * groups)
            .map(zero)
            .collect::<Result<_>>()
            .map(Some);
    }
    let words = packing.words_for(rows, bits);
    view.expect_shape(ZERO_POINT, &[words, groups], ", packed along the rows")?;
    let packed = view.words(ZERO_POINT)?;
    let mut zeros = vec![0; rows * groups];
    let mut of_group = vec![0; words];
    for group in 0..groups {
        for (word, &from) in of_group
            .iter_mut()
            .zip(packed[group..].iter().step_by(groups))
        {
            *word = from;
        }
        for row in 0..rows {
            zeros[row * groups + group] = packing.get(&of_group, bits, row).into();
        }
    }
    Ok(Some(zeros))
}

/// Reads the codes, `[rows][cols]`.
pub(in crate::layout) fn codes(view: &View<'_>, grid: &Grid, packing: Packing) -> Result<Vec<u8>> {
    let words = view.words(PACKED)?;
    let mut codes = Vec::with_capacity(grid.rows * grid.cols);
    for of_row in words.chunks(words.len() / grid.rows) {
        codes.extend((0..grid.cols).map(|col| packing.get(of_row, grid.bits, col)));
    }
    Ok(codes)
}
