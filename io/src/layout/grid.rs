//! Codes with scales and zero points of any program → the engine's codes, or f32 values.
//!
//! ```text
//! value[row][col] = scale[row][g] · (code[row][col] − zero[row][g])     g = group of col
//! ```
//! | what the file has | what becomes of it |
//! |---|---|
//! | groups of 8, 16 … 128 columns, or one | as they are |
//! | longer groups | several groups of the same scale and zero |
//! | a zero of 2^bits, one past the last code | the codes get one more bit |
//! | scales below 2⁻¹⁴, or bf16 | halves and a common factor, where that is exact |
//! | a scale of 0 | codes that equal the zero |
//! | other groups, groups in another order, other scales | f32 values |

use super::{Look, Refusal, View};
use crate::{container::Declared, error::Result, scales::exact_halves};
use half::f16;
use lacuna::format::{
    Codes, Dense, Dtype, Format, Matrix, Quant, Quantized, Values, ZeroPoint, Zeros,
};

/// Everything of a quantised weight but its codes.
#[derive(Debug)]
pub(super) struct Grid {
    pub rows: usize,
    pub cols: usize,
    pub bits: u32,
    pub groups: Groups,
    /// Scales, `[rows][groups]`, finite.
    pub scales: Values,
    /// Zeros, `[rows][groups]`, up to 2^bits; `None` if all are 2^(bits − 1).
    pub zeros: Option<Vec<u16>>,
    pub evidence: Vec<String>,
    pub warnings: Vec<String>,
}

/// Which group a column belongs to.
#[derive(Debug)]
pub(super) enum Groups {
    /// Groups of this many consecutive columns.
    Even(usize),
    /// The group of each column.
    Listed(Vec<u32>),
}

impl Groups {
    /// Finds the groups of `cols` columns, of which there are `groups`, from the tensor `listed` if it
    /// is given. `scales` is the tensor that has as many groups, for messages.
    pub fn find(
        view: &View<'_>,
        scales: &str,
        listed: Option<&str>,
        cols: usize,
        groups: usize,
    ) -> Result<Self> {
        let even = view.config.group_cols(cols, groups);
        let Some(listed) = listed else {
            return even.map(Self::Even).ok_or_else(|| {
                let got = view.find(scales).map_or(&[][..], |s| &s.shape);
                view.wrong_shape(
                    scales,
                    got,
                    format!("groups that {cols} columns divide into"),
                )
            });
        };
        let order = order(view, listed, cols, groups)?;
        if groups > 1 && order.iter().all(|&g| g == order[0]) {
            // Some programs fill the list with zeros where there is no order, and then read it so.
            return match even {
                Some(group) if order[0] == 0 && view.config.reordered == Some(false) => {
                    Ok(Self::Even(group))
                }
                _ => Err(view.refuse(Refusal::Ambiguous {
                    reading: format!(
                        "tensor {} puts every column into group {}, though there are {groups}: some \
                         programs take that as written, others as no order at all (which \
                         \"desc_act\": false in its configuration would say)",
                        view.shown(listed),
                        order[0]
                    ),
                })),
            };
        }
        let follows = |group: &usize| {
            let mut columns = order.iter().enumerate();
            columns.all(|(col, &g)| col / group == g as usize)
        };
        Ok(match even.filter(follows) {
            Some(group) => Self::Even(group),
            None => Self::Listed(order),
        })
    }

    /// A description for the evidence.
    pub fn fact(&self) -> String {
        match self {
            Self::Even(group) => format!("groups of {group} columns"),
            Self::Listed(_) => "g_idx puts columns into groups in another order (desc_act)".into(),
        }
    }

    fn of(&self, col: usize) -> usize {
        match self {
            Self::Even(group) => col / group,
            Self::Listed(order) => order[col] as usize,
        }
    }
}

/// Reads the group of each column from a tensor.
fn order(view: &View<'_>, suffix: &str, cols: usize, groups: usize) -> Result<Vec<u32>> {
    view.expect_shape(suffix, &[cols], ", a group for each column")?;
    let order = view.words(suffix)?;
    let wrong = |&(_, &g): &(usize, &u32)| g as usize >= groups;
    if let Some((col, &g)) = order.iter().enumerate().find(wrong) {
        let what = format!("group of column {col}");
        let expected = format!("0 to {}", groups - 1);
        return Err(view.wrong_content(suffix, what, &g.cast_signed(), expected));
    }
    Ok(order)
}

/// Scales and zeros as [`Codes`] holds them.
struct Repacked {
    quant: Quant,
    scales: Vec<f16>,
    zeros: Zeros,
    factor: f32,
}

impl Grid {
    /// Groups of a row.
    fn count(&self) -> usize {
        self.scales.len() / self.rows.max(1)
    }

    fn middle(&self) -> u16 {
        1 << (self.bits - 1)
    }

    fn zero(&self, index: usize) -> u16 {
        let zeros = self.zeros.as_ref();
        zeros.map_or(self.middle(), |zeros| zeros[index])
    }

    pub fn look(self, view: &View<'_>) -> Result<Look> {
        let (rows, cols) = (self.rows, self.cols);
        let repacked = self.repacked();
        let (format, factor) = match &repacked {
            Ok(r) => (
                Format::Quantized {
                    pattern: None,
                    quant: r.quant,
                },
                r.factor,
            ),
            Err(_) => (Format::Dense(Dtype::F32), 1.0),
        };
        // Every weight in a file must obey these limits.
        Declared::new(format, rows, cols)
            .map_err(|reason| view.refuse(Refusal::Limit { reason }))?;
        let mut evidence = self.evidence;
        evidence.extend(repacked.err().map(|why| format!("decoded to f32: {why}")));
        Ok(Look {
            format,
            rows,
            cols,
            factor,
            evidence,
            warnings: self.warnings,
        })
    }

    /// The weight with the codes `[rows][cols]`.
    pub fn matrix(&self, view: &View<'_>, mut codes: Vec<u8>) -> Result<Matrix> {
        let Ok(repacked) = self.repacked() else {
            return self.decoded(&codes).map_err(|e| view.refuse(e));
        };
        // The engine has no scale of 0: it gets a scale of 1, and codes that equal the zero.
        if (0..self.scales.len()).any(|i| self.scales.get(i) == 0.0) {
            for (i, code) in codes.iter_mut().enumerate() {
                let index = i / self.cols * self.count() + self.groups.of(i % self.cols);
                if self.scales.get(index) == 0.0 {
                    *code = self.zero(index) as u8;
                }
            }
        }
        let Repacked {
            quant,
            scales,
            zeros,
            factor,
        } = repacked;
        Codes::new(quant, codes, scales, zeros, factor)
            .and_then(|codes| Quantized::new(self.rows, self.cols, None, codes))
            .map(Matrix::from)
            .map_err(|e| view.refuse(e))
    }

    fn decoded(&self, codes: &[u8]) -> lacuna::Result<Matrix> {
        let of_col: Vec<usize> = (0..self.cols).map(|col| self.groups.of(col)).collect();
        let mut values = Vec::with_capacity(codes.len());
        for (row, codes) in codes.chunks(self.cols).enumerate() {
            values.extend(codes.iter().zip(&of_col).map(|(&code, group)| {
                let index = row * self.count() + group;
                let steps = i32::from(code) - i32::from(self.zero(index));
                self.scales.get(index) * steps as f32
            }));
        }
        Dense::from_f32(self.rows, self.cols, values).map(Matrix::from)
    }

    /// Scales and zeros for the engine, or the reason why it has no such format.
    fn repacked(&self) -> Result<Repacked, String> {
        let Groups::Even(of_file) = self.groups else {
            return Err("groups are in another order than columns".into());
        };
        let last = self.zeros.iter().flatten().copied().max().unwrap_or(0);
        let bits = (self.bits..=Quant::MAX_BITS).find(|&bits| last >> bits == 0);
        let bits = bits.ok_or_else(|| format!("a zero point of {last} needs more than 8 bits"))?;
        let symmetric = (0..self.scales.len()).all(|i| self.zero(i) == 1 << (bits - 1));
        let group = engine_group(of_file, self.cols)?;
        let zero_point = if symmetric {
            ZeroPoint::Middle
        } else {
            ZeroPoint::Code
        };
        let quant = Quant::new(bits, group, zero_point).map_err(|e| e.to_string())?;
        let (halves, factor) = exact_halves(&self.scales.to_f32())
            .ok_or("no common factor makes its scales normal halves without rounding")?;

        // A group of the file may become several of the engine's, which share its scale and zero.
        let of_engine = quant.groups(self.cols);
        let from = |i: usize| {
            let first = i % of_engine * quant.group_cols(self.cols);
            i / of_engine * self.count() + first / of_file
        };
        let all = 0..self.rows * of_engine;
        Ok(Repacked {
            quant,
            scales: all.clone().map(|i| halves[from(i)]).collect(),
            zeros: Zeros::Codes(if symmetric {
                vec![]
            } else {
                all.map(|i| self.zero(from(i)) as u8).collect()
            }),
            factor,
        })
    }
}

/// The engine's group size for groups of `group` columns: the largest that divides them, or `None`
/// for the whole row.
fn engine_group(group: usize, cols: usize) -> Result<Option<usize>, String> {
    let steps = 1..=Quant::MAX_GROUP / Quant::GROUP_STEP;
    let mut sizes = steps.rev().map(|steps| steps * Quant::GROUP_STEP);
    match sizes.find(|size| group % size == 0) {
        Some(size) if size == group || group < cols => Ok(Some(size)),
        _ if group >= cols => Ok(None),
        _ => Err(format!("groups of {group} columns")),
    }
}

/// Refuses a scale that is not finite.
pub(super) fn check_scales(view: &View<'_>, suffix: &str, scales: &Values) -> Result<()> {
    match (0..scales.len()).find(|&i| !scales.get(i).is_finite()) {
        None => Ok(()),
        Some(i) => Err(view.wrong_content(
            suffix,
            format!("element {i}"),
            &scales.get(i),
            "a finite scale",
        )),
    }
}

/// `[outer][inner]` as `[inner][outer]`.
pub(super) fn transposed<T: Copy>(values: &[T], outer: usize, inner: usize) -> Vec<T> {
    (0..inner)
        .flat_map(|i| (0..outer).map(move |o| values[o * inner + i]))
        .collect()
}

/// [`transposed`] for values of any type.
pub(super) fn transposed_values(values: &Values, outer: usize, inner: usize) -> Values {
    match values {
        Values::F32(v) => Values::F32(transposed(v, outer, inner)),
        Values::F16(v) => Values::F16(transposed(v, outer, inner)),
        Values::Bf16(v) => Values::Bf16(transposed(v, outer, inner)),
    }
}
