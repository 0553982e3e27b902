//! AWQ, version GEMM: four bits, packed along the outputs.
//!
//! ```text
//! qweight I32 [cols, rows / 8]     nibble i of word j is output 8j + ORDER[i]
//! qzeros  I32 [groups, rows / 8]   the same
//! scales  F16 [groups, rows]
//!
//! value[r][c] = scales[c / group][r] · (code − zero)
//! ```

use super::{
    View,
    grid::{Grid, Groups, check_scales, transposed_values},
};
use crate::{error::Result, tensor::TensorDtype};
use lacuna::format::bits;

const QWEIGHT: &str = ".qweight";
const QZEROS: &str = ".qzeros";
const SCALES: &str = ".scales";

const BITS: u32 = 4;

/// Which of eight outputs each nibble of a word holds.
const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Reads everything but the codes.
pub(super) fn grid(view: &View<'_>) -> Result<Grid> {
    let [cols, words] = view.matrix_shape(QWEIGHT, TensorDtype::I32, "I32")?;
    let rows = words * ORDER.len();
    let scales = view.stored(SCALES)?;
    let groups = match *scales.shape {
        [groups, of_scales] if of_scales == rows && groups > 0 => groups,
        ref other => return Err(view.wrong_shape(SCALES, other, format!("[groups, {rows}]"))),
    };
    let layout = Groups::find(view, SCALES, None, cols, groups)?;
    view.expect_shape(QZEROS, &[groups, words], ", nibbles as in qweight")?;
    let scales = view.values(SCALES)?;
    check_scales(view, SCALES, &scales)?;
    let zeros = outputs_first(&view.words(QZEROS)?, groups, words);
    Ok(Grid {
        rows,
        cols,
        bits: BITS,
        scales: transposed_values(&scales, groups, rows),
        zeros: Some(zeros.into_iter().map(u16::from).collect()),
        evidence: vec![
            "qweight, qzeros and scales: 8 outputs a word".into(),
            layout.fact(),
        ],
        groups: layout,
        warnings: vec![],
    })
}

/// Reads the codes, `[rows][cols]`.
pub(super) fn codes(view: &View<'_>, grid: &Grid) -> Result<Vec<u8>> {
    let words = view.words(QWEIGHT)?;
    Ok(outputs_first(&words, grid.cols, grid.rows / ORDER.len()))
}

/// Unpacks the nibbles of `[outer][words]` into `[8 · words][outer]`.
fn outputs_first(from: &[u32], outer: usize, words: usize) -> Vec<u8> {
    let mut nibbles = vec![0; from.len() * ORDER.len()];
    for word in 0..words {
        for o in 0..outer {
            let packed = [from[o * words + word]];
            for (i, output) in ORDER.into_iter().enumerate() {
                let row = word * ORDER.len() + output;
                nibbles[row * outer + o] = bits::get(&packed, BITS, i) as u8;
            }
        }
    }
    nibbles
}
