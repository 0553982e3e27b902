//! Which tensors each format stores a weight in, and their bytes.

use crate::{
    container::{DENSE_SUFFIX, Declared},
    tensor::{TensorDtype, file_dtype},
};
use half::f16;
use lacuna::format::{
    Columns, Dtype, Format, Gqs, GroupPruning, Matrix, Pattern, Quant, ZeroPoint, Zeros, bits,
};

pub(crate) const VALUES: &str = ".values";
pub(crate) const INDICES: &str = ".indices";
pub(crate) const ROW_OFFSETS: &str = ".row_offsets";
pub(crate) const GROUP_INDICES: &str = ".group_indices";
pub(crate) const CODES: &str = ".codes";
pub(crate) const SCALES: &str = ".scales";
pub(crate) const ZEROS: &str = ".zeros";

/// Every suffix that the specification gives to sections.
pub(crate) const SUFFIXES: [&str; 7] = [
    VALUES,
    INDICES,
    ROW_OFFSETS,
    GROUP_INDICES,
    CODES,
    SCALES,
    ZEROS,
];

/// One tensor of a weight.
pub(crate) struct Section {
    /// What follows the module's name, dot included.
    pub suffix: &'static str,
    pub dtype: TensorDtype,
    pub shape: Vec<usize>,
}

pub(crate) const fn section(
    suffix: &'static str,
    dtype: TensorDtype,
    shape: Vec<usize>,
) -> Section {
    Section {
        suffix,
        dtype,
        shape,
    }
}

impl Declared {
    /// The tensors of the weight, in the order of the specification.
    pub fn sections(&self) -> Result<Vec<Section>, String> {
        let Self {
            format, rows, cols, ..
        } = *self;
        match format {
            Format::Dense(dtype) => Ok(vec![section(
                DENSE_SUFFIX,
                file_dtype(dtype),
                vec![rows, cols],
            )]),
            Format::Nm {
                pattern,
                dtype: Some(dtype),
            } => Ok(nm(pattern, dtype, rows, cols)),
            Format::Quantized { pattern, quant } => Ok(quantized(pattern, quant, rows, cols)),
            Format::Gqs { quant, pruning } => gqs(quant, pruning, rows, cols),
            Format::Nm { dtype: None, .. } => Err(format!(
                "format {format} names no value type, as in {format}@f16"
            )),
            _ => Err(format!("format {format} has no sections")),
        }
    }
}

fn indices(pattern: Pattern, rows: usize, cols: usize) -> Section {
    let words = bits::words_for(pattern.slots(cols), pattern.index_bits());
    section(INDICES, TensorDtype::U32, vec![pattern.sets(rows), words])
}

fn nm(pattern: Pattern, dtype: Dtype, rows: usize, cols: usize) -> Vec<Section> {
    let values = vec![rows, pattern.slots(cols)];
    vec![
        section(VALUES, file_dtype(dtype), values),
        indices(pattern, rows, cols),
    ]
}

fn quantized(pattern: Option<Pattern>, quant: Quant, rows: usize, cols: usize) -> Vec<Section> {
    let slots = pattern.map_or(cols, |p| p.slots(cols));
    let groups = quant.groups(cols);
    let packed = |count| vec![rows, bits::bytes_for(count, quant.bits())];
    let mut sections = vec![
        section(CODES, TensorDtype::U8, packed(slots)),
        section(SCALES, TensorDtype::F16, vec![rows, groups]),
    ];
    match quant.zero_point() {
        ZeroPoint::Middle => {}
        ZeroPoint::Code => sections.push(section(ZEROS, TensorDtype::U8, packed(groups))),
        ZeroPoint::Real => sections.push(section(ZEROS, TensorDtype::F16, vec![rows, groups])),
    }
    sections.extend(pattern.map(|pattern| indices(pattern, rows, cols)));
    sections
}

fn gqs(
    quant: Quant,
    pruning: GroupPruning,
    rows: usize,
    cols: usize,
) -> Result<Vec<Section>, String> {
    if quant.real_zeros() {
        return Err("kept groups have no real zeros".into());
    }
    let groups = quant.groups(cols);
    let kept = if pruning.ragged() {
        rows.checked_mul(groups).map(|all| pruning.kept(all))
    } else {
        rows.checked_mul(pruning.kept(groups))
    };
    let limit = u32::MAX as usize;
    let kept = kept.filter(|&kept| kept <= limit).ok_or_else(|| {
        format!("{rows} rows of {groups} groups keep more than {limit}, the limit of row offsets")
    })?;
    let group_bytes = bits::bytes_for(quant.group_cols(cols), quant.bits());
    let mut sections = vec![
        section(ROW_OFFSETS, TensorDtype::U32, vec![rows + 1]),
        section(GROUP_INDICES, index_dtype(groups), vec![kept]),
        section(CODES, TensorDtype::U8, vec![kept, group_bytes]),
        section(SCALES, TensorDtype::F16, vec![kept]),
    ];
    if !quant.symmetric() {
        let bytes = bits::bytes_for(kept, quant.bits());
        sections.push(section(ZEROS, TensorDtype::U8, vec![bytes]));
    }
    Ok(sections)
}

const fn index_dtype(groups: usize) -> TensorDtype {
    match Gqs::index_bytes(groups) {
        1 => TensorDtype::U8,
        2 => TensorDtype::U16,
        _ => TensorDtype::U32,
    }
}

/// The bytes of each section of `weight`, in the order of [`Declared::sections`].
pub(crate) fn section_bytes(weight: &Matrix) -> Vec<Vec<u8>> {
    let mut sections = match weight {
        Matrix::Dense(w) => vec![w.values().to_le_bytes()],
        Matrix::Nm(w) => vec![w.values().to_le_bytes(), words(w.columns().indices())],
        Matrix::Quantized(w) => vec![packed(weight, w.codes().codes(), w.slots())],
        Matrix::Gqs(w) => {
            let width = Gqs::index_bytes(w.row_groups());
            let narrow = |index: &u32| index.to_le_bytes().into_iter().take(width);
            vec![
                words(w.row_offsets()),
                w.group_indices().iter().flat_map(narrow).collect(),
                packed(weight, w.codes().codes(), w.group()),
            ]
        }
        _ => vec![],
    };
    if let Some(codes) = weight.codes() {
        sections.push(halves(codes.scales()));
        match codes.zeros() {
            Zeros::Codes(zeros) if codes.quant().symmetric() => {}
            Zeros::Codes(zeros) => {
                let of_row = match weight {
                    Matrix::Quantized(w) => w.groups(),
                    _ => zeros.len(),
                };
                sections.push(packed(weight, zeros, of_row));
            }
            Zeros::Real(zeros) => sections.push(halves(zeros)),
        }
    }
    if let Matrix::Quantized(w) = weight {
        sections.extend(w.columns().map(Columns::indices).map(words));
    }
    sections
}

/// Fields packed in rows of `of_row`, each of which begins on a byte.
fn packed(weight: &Matrix, fields: &[u8], of_row: usize) -> Vec<u8> {
    let bits = weight.codes().map_or(8, |codes| codes.quant().bits());
    fields
        .chunks(of_row.max(1))
        .flat_map(|row| bits::pack(row, bits))
        .collect()
}

fn halves(halves: &[f16]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
