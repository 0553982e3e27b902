//! Writing `pack-quantized`, as version 0.20 of the package reads it.

use super::{PACKED, Packing, SCALE, SHAPE, ZERO_POINT};
use crate::{
    sections::{Section, section},
    tensor::{TensorDtype, file_dtype},
};
use half::f16;
use lacuna::format::{Codes, Dtype, Format, Matrix, Quant, bits};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The version of the package that packs codes in this way.
const VERSION: &str = "0.20.0";

/// The scheme under which a weight of `cols` columns is written: its own, with the whole row as the group where
/// one covers it. `None` for what the package has no scheme for: weights without codes, zeros that are no codes, and
/// groups that do not divide the columns.
fn scheme(format: Format, cols: usize) -> Option<Quant> {
    let quant = format.quant().filter(|quant| !quant.real_zeros())?;
    match quant.group() {
        Some(group) if group >= cols => Quant::new(quant.bits(), None, quant.zero_point()).ok(),
        Some(group) if cols % group != 0 => None,
        _ => Some(quant),
    }
}

/// Whether weights of this format and so many columns can be written as `pack-quantized`: they have codes, zeros that
/// are codes too, and groups that divide the columns.
pub fn packs_quantized(format: Format, cols: usize) -> bool {
    scheme(format, cols).is_some()
}

/// What is written for a weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedWeight {
    quant: Quant,
    rows: usize,
    cols: usize,
    /// F16, or F32 if the scales have a factor.
    scale: Dtype,
}

impl PackedWeight {
    /// For a weight of codes, whether it keeps all columns or not. `None` where [`packs_quantized`] says no.
    pub fn new(format: Format, rows: usize, cols: usize, factor: f32) -> Option<Self> {
        #[allow(clippy::float_cmp, reason = "powers of two are exact")]
        let plain = factor == 1.0;
        Some(Self {
            quant: scheme(format, cols)?,
            rows,
            cols,
            scale: if plain { Dtype::F16 } else { Dtype::F32 },
        })
    }

    /// Its tensors.
    pub fn sections(&self) -> Vec<Section> {
        let Self { rows, cols, .. } = *self;
        let (width, groups) = (self.quant.bits(), self.quant.groups(cols));
        let packed = vec![rows, bits::words_for(cols, width)];
        let mut sections = vec![
            section(PACKED, TensorDtype::I32, packed),
            section(SCALE, file_dtype(self.scale), vec![rows, groups]),
            section(SHAPE, TensorDtype::I64, vec![2]),
        ];
        if !self.quant.symmetric() {
            let packed = vec![bits::words_for(rows, width), groups];
            sections.push(section(ZERO_POINT, TensorDtype::I32, packed));
        }
        sections
    }

    /// Whether `weight` is as declared.
    pub fn is_of(&self, weight: &Matrix) -> bool {
        let factor = weight.codes().map_or(1.0, Codes::factor);
        let of = Self::new(weight.format(), weight.rows(), weight.cols(), factor);
        of.is_some_and(|of| {
            (of.quant, of.rows, of.cols, of.scale) == (self.quant, self.rows, self.cols, self.scale)
        })
    }

    /// The bytes of its tensors, in the order of [`sections`](Self::sections). Where `weight` keeps
    /// nothing, the code is that of the zero.
    pub fn bytes(&self, weight: &Matrix) -> Vec<Vec<u8>> {
        let Self { rows, cols, .. } = *self;
        let (quant, groups) = (self.quant, self.quant.groups(cols));
        let whole = Whole::of(weight, weight.format().quant().unwrap_or(quant));
        let mut packed = vec![];
        for codes in whole.codes.chunks(cols) {
            packed.extend(words(codes.iter().copied(), quant.bits()));
        }
        let scale = |&scale: &f32| match self.scale {
            Dtype::F32 => scale.to_le_bytes().to_vec(),
            _ => f16::from_f32(scale).to_le_bytes().to_vec(),
        };
        let mut tensors = vec![
            bytes_of(&packed),
            whole.scales.iter().flat_map(scale).collect(),
            [rows as u64, cols as u64].map(u64::to_le_bytes).concat(),
        ];
        if !quant.symmetric() {
            let of_group = (0..groups).map(|group| {
                let zeros = (0..rows).map(|row| whole.zeros[row * groups + group]);
                words(zeros, quant.bits())
            });
            let of_groups: Vec<Vec<u32>> = of_group.collect();
            let of_words = 0..bits::words_for(rows, quant.bits());
            let packed: Vec<u32> = of_words
                .flat_map(|word| of_groups.iter().map(move |group| group[word]))
                .collect();
            tensors.push(bytes_of(&packed));
        }
        tensors
    }
}

/// The codes of every column, kept or not.
struct Whole {
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<u8>,
}

impl Whole {
    fn of(weight: &Matrix, quant: Quant) -> Self {
        let (rows, cols) = (weight.rows(), weight.cols());
        let (groups, group) = (quant.groups(cols), quant.group_cols(cols));
        // What is not kept is exactly 0 with code and zero 0; without zeros, nearly so with the smallest scale.
        let sizes = weight.codes().into_iter().flat_map(|codes| {
            let size = |scale: &f16| codes.factor() * scale.to_f32().abs();
            codes.scales().iter().map(size)
        });
        let zero = if quant.symmetric() { quant.middle() } else { 0 };
        let mut whole = Self {
            codes: vec![0; rows * cols],
            scales: vec![sizes.reduce(f32::min).unwrap_or(1.0); rows * groups],
            zeros: vec![zero; rows * groups],
        };
        for row in 0..rows {
            match weight {
                Matrix::Quantized(w) => {
                    for at in row * groups..(row + 1) * groups {
                        whole.set(at, w.codes(), at);
                    }
                    whole.clear(row, cols, group);
                    for slot in 0..w.slots() {
                        let (col, code) = (
                            w.column(row, slot),
                            w.codes().codes()[row * w.slots() + slot],
                        );
                        if col < cols {
                            whole.codes[row * cols + col] = code;
                        }
                    }
                }
                Matrix::Gqs(w) => {
                    let kept = w.kept(row);
                    for index in kept.clone() {
                        whole.set(
                            row * groups + w.group_indices()[index] as usize,
                            w.codes(),
                            index,
                        );
                    }
                    whole.clear(row, cols, group);
                    for index in kept {
                        let first = w.group_indices()[index] as usize * group;
                        let codes = &w.codes().codes()[index * group..(index + 1) * group];
                        let columns = row * cols + first..row * cols + cols.min(first + group);
                        let len = columns.len();
                        whole.codes[columns].copy_from_slice(&codes[..len]);
                    }
                }
                _ => {}
            }
        }
        whole
    }

    fn set(&mut self, at: usize, codes: &Codes, index: usize) {
        self.scales[at] = codes.factor() * codes.scales()[index].to_f32();
        self.zeros[at] = codes.zero(index) as u8;
    }

    /// Sets every code of `row` to the zero of its group.
    fn clear(&mut self, row: usize, cols: usize, group: usize) {
        let groups = cols.div_ceil(group);
        for col in 0..cols {
            self.codes[row * cols + col] = self.zeros[row * groups + col / group];
        }
    }
}

fn words(fields: impl ExactSizeIterator<Item = u8>, width: u32) -> Vec<u32> {
    let mut words = vec![0; Packing::Straddling.words_for(fields.len(), width)];
    for (i, field) in fields.enumerate() {
        bits::set(&mut words, width, i, field.into());
    }
    words
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The `quantization_config` for the `config.json` beside a file of `weights`, which are names, formats and numbers of
/// columns. It declares those that are written so ([`packs_quantized`]), and lists the others as ignored.
pub fn pack_quantized_config<'a>(
    weights: impl IntoIterator<Item = (&'a str, Format, usize)>,
) -> Value {
    let mut targets: BTreeMap<String, (Quant, Vec<&str>)> = BTreeMap::new();
    let mut ignore = vec![];
    for (name, format, cols) in weights {
        match scheme(format, cols) {
            None => ignore.push(name),
            Some(quant) => {
                let key = format!("{quant} {}", quant.symmetric());
                let entry = targets.entry(key).or_insert_with(|| (quant, vec![]));
                entry.1.push(name);
            }
        }
    }
    let groups: Map<String, Value> = targets
        .into_values()
        .enumerate()
        .map(|(i, (quant, targets))| {
            let (strategy, size) = match quant.group() {
                Some(group) => ("group", json!(group)),
                None => ("channel", Value::Null),
            };
            let group = json!({
                "targets": targets,
                "weights": {
                    "num_bits": quant.bits(),
                    "type": "int",
                    "symmetric": quant.symmetric(),
                    "strategy": strategy,
                    "group_size": size,
                },
            });
            (format!("group_{i}"), group)
        })
        .collect();
    json!({
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "version": VERSION,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignore,
    })
}
