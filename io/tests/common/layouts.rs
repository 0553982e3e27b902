//! Weights in the layouts of other programs, written bit by bit.

use super::Folder;
use lacuna::format::Matrix;
use lacuna_io::{Module, RawTensor, Reading, Result, TensorDtype, WeightFile, save};
use std::path::PathBuf;

/// A file of tensors under construction, and what lies beside it.
#[derive(Clone, Default)]
pub struct Checkpoint {
    pub tensors: Vec<(String, RawTensor)>,
    pub config: Option<String>,
}

impl Checkpoint {
    pub fn with(mut self, name: &str, tensor: RawTensor) -> Self {
        self.tensors.retain(|(other, _)| other != name);
        self.tensors.push((name.into(), tensor));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        let before = self.tensors.len();
        self.tensors.retain(|(other, _)| other != name);
        assert_eq!(self.tensors.len() + 1, before, "there is a {name}");
        self
    }

    /// Sets `quantization_config` of `config.json`.
    pub fn config(mut self, quantization: &str) -> Self {
        self.config = Some(format!(r#"{{"quantization_config":{quantization}}}"#));
        self
    }

    pub fn save(&self, folder: &Folder) -> PathBuf {
        if let Some(config) = &self.config {
            folder.put("config.json", config.as_bytes());
        }
        let path = folder.path("model.safetensors");
        save(&path, self.tensors.iter().map(|(n, t)| (n, t.clone()))).unwrap();
        path
    }

    pub fn open(&self) -> Result<WeightFile> {
        WeightFile::open(self.save(&Folder::new()))
    }

    pub fn open_as(&self, reading: Reading) -> Result<WeightFile> {
        WeightFile::open_as(self.save(&Folder::new()), reading)
    }

    /// The bytes of the file, without its configuration.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.save(&Folder::new())).unwrap()
    }
}

fn raw(dtype: TensorDtype, shape: &[usize], bytes: Vec<u8>) -> RawTensor {
    RawTensor {
        dtype,
        shape: shape.to_vec(),
        bytes,
    }
}

pub fn i32s(shape: &[usize], words: &[u32]) -> RawTensor {
    let bytes = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    raw(TensorDtype::I32, shape, bytes)
}

pub fn i64s(shape: &[usize], numbers: &[i64]) -> RawTensor {
    let bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    raw(TensorDtype::I64, shape, bytes)
}

/// An I64 tensor of numbers that are not negative.
pub fn sizes(shape: &[usize], numbers: &[usize]) -> RawTensor {
    let bytes = numbers.iter().flat_map(|&n| (n as u64).to_le_bytes());
    raw(TensorDtype::I64, shape, bytes.collect())
}

pub fn u8s(shape: &[usize], bytes: &[u8]) -> RawTensor {
    raw(TensorDtype::U8, shape, bytes.to_vec())
}

pub fn i8s(shape: &[usize], numbers: &[i8]) -> RawTensor {
    let bytes = numbers.iter().map(|&n| n as u8).collect();
    raw(TensorDtype::I8, shape, bytes)
}

pub fn f16s(shape: &[usize], values: &[f32]) -> RawTensor {
    let half = |v: &f32| half::f16::from_f32(*v).to_le_bytes();
    raw(
        TensorDtype::F16,
        shape,
        values.iter().flat_map(half).collect(),
    )
}

pub fn bf16s(shape: &[usize], values: &[f32]) -> RawTensor {
    let half = |v: &f32| half::bf16::from_f32(*v).to_le_bytes();
    raw(
        TensorDtype::BF16,
        shape,
        values.iter().flat_map(half).collect(),
    )
}

/// Packs fields bit by bit, one after the other, into words.
pub fn stream(fields: &[u32], width: usize) -> Vec<u32> {
    let mut words = vec![0u32; (fields.len() * width).div_ceil(32)];
    for (i, &field) in fields.iter().enumerate() {
        for bit in 0..width {
            let at = i * width + bit;
            words[at / 32] |= (field >> bit & 1) << (at % 32);
        }
    }
    words
}

/// Packs fields into words so that no field is in two of them.
pub fn whole(fields: &[u32], width: usize) -> Vec<u32> {
    let words = fields.chunks(32 / width);
    words.map(|fields| stream(fields, width)[0]).collect()
}

/// Codes with scales and zeros, and what they stand for; everything is `[rows][…]`.
#[derive(Clone, Debug)]
pub struct Coded {
    pub rows: usize,
    pub cols: usize,
    pub bits: usize,
    pub groups: usize,
    /// Group of each column.
    pub order: Vec<u32>,
    pub codes: Vec<u32>,
    pub scales: Vec<f32>,
    pub zeros: Vec<u32>,
}

impl Coded {
    /// Random codes in groups of `group` columns, with zeros from 0 to the last code.
    pub fn random(rows: usize, cols: usize, bits: usize, group: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        let groups = cols.div_ceil(group);
        Self {
            rows,
            cols,
            bits,
            groups,
            order: (0..cols).map(|col| (col / group) as u32).collect(),
            codes: (0..rows * cols).map(|_| next() >> (32 - bits)).collect(),
            scales: (0..rows * groups)
                .map(|_| ((next() >> 25) as f32 - 64.5) / 1024.0)
                .collect(),
            zeros: (0..rows * groups).map(|_| next() >> (32 - bits)).collect(),
        }
    }

    /// Sets every zero to the middle.
    pub fn symmetric(mut self) -> Self {
        self.zeros.fill(1 << (self.bits - 1));
        self
    }

    /// Changes the zeros.
    pub fn zeros(mut self, change: impl Fn(u32) -> u32) -> Self {
        self.zeros = self.zeros.into_iter().map(change).collect();
        self
    }

    /// Multiplies the scales by 2^`exponent`.
    pub fn scaled(mut self, exponent: i32) -> Self {
        let factor = (exponent as f32).exp2();
        self.scales = self.scales.into_iter().map(|s| s * factor).collect();
        self
    }

    pub fn values(&self) -> Vec<f32> {
        let value = |i: usize| {
            let group = i / self.cols * self.groups + self.order[i % self.cols] as usize;
            self.scales[group] * (self.codes[i] as f32 - self.zeros[group] as f32)
        };
        (0..self.rows * self.cols).map(value).collect()
    }

    /// A column of `[rows][per_row]`.
    fn column<T: Copy>(values: &[T], per_row: usize, column: usize) -> Vec<T> {
        values
            .iter()
            .skip(column)
            .step_by(per_row)
            .copied()
            .collect()
    }

    fn flipped<T: Copy>(values: &[T], per_row: usize) -> Vec<T> {
        let columns = (0..per_row).map(|column| Self::column(values, per_row, column));
        columns.flatten().collect()
    }

    /// As GPTQ: `minus` is subtracted from zeros, which is 1 for v1 and 0 for v2.
    pub fn gptq(&self, minus: u32) -> Checkpoint {
        let (rows, cols, bits) = (self.rows, self.cols, self.bits);
        let of_rows: Vec<Vec<u32>> = self.codes.chunks(cols).map(|c| stream(c, bits)).collect();
        let words = of_rows[0].len();
        let qweight: Vec<u32> = (0..words)
            .flat_map(|w| of_rows.iter().map(move |r| r[w]))
            .collect();
        let mask = (1 << bits) - 1;
        let stored: Vec<u32> = self
            .zeros
            .iter()
            .map(|z| z.wrapping_sub(minus) & mask)
            .collect();
        let of_group = |g| stream(&Self::column(&stored, self.groups, g), bits);
        let qzeros: Vec<u32> = (0..self.groups).flat_map(of_group).collect();
        let scales = Self::flipped(&self.scales, self.groups);
        Checkpoint::default()
            .with("P.qweight", i32s(&[words, rows], &qweight))
            .with(
                "P.qzeros",
                i32s(&[self.groups, qzeros.len() / self.groups], &qzeros),
            )
            .with("P.scales", f16s(&[self.groups, rows], &scales))
            .with("P.g_idx", i32s(&[cols], &self.order))
    }

    /// As AWQ, version GEMM; codes must have four bits.
    pub fn awq(&self) -> Checkpoint {
        let word = |outputs: &[u32]| {
            let order = [0, 2, 4, 6, 1, 3, 5, 7];
            stream(&order.map(|output: usize| outputs[output]), 4)[0]
        };
        let packed = |values: &[u32], per_row| {
            let inputs = (0..per_row).map(|column| Self::column(values, per_row, column));
            inputs
                .flat_map(|o| o.chunks(8).map(word).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        let words = self.rows / 8;
        let scales = Self::flipped(&self.scales, self.groups);
        Checkpoint::default()
            .with(
                "P.qweight",
                i32s(&[self.cols, words], &packed(&self.codes, self.cols)),
            )
            .with(
                "P.qzeros",
                i32s(&[self.groups, words], &packed(&self.zeros, self.groups)),
            )
            .with("P.scales", f16s(&[self.groups, self.rows], &scales))
    }

    /// As `pack-quantized`, packed by `pack`, with zero points unless all are in the middle.
    pub fn pack_quantized(&self, pack: fn(&[u32], usize) -> Vec<u32>) -> Checkpoint {
        let (rows, cols, bits) = (self.rows, self.cols, self.bits);
        let packed: Vec<u32> = self
            .codes
            .chunks(cols)
            .flat_map(|c| pack(c, bits))
            .collect();
        let file = Checkpoint::default()
            .with(
                "P.weight_packed",
                i32s(&[rows, packed.len() / rows], &packed),
            )
            .with("P.weight_scale", bf16s(&[rows, self.groups], &self.scales))
            .with("P.weight_shape", sizes(&[2], &[rows, cols]));
        if self.zeros.iter().all(|&zero| zero == 1 << (bits - 1)) {
            return file;
        }
        let columns =
            (0..self.groups).map(|g| pack(&Self::column(&self.zeros, self.groups, g), bits));
        let columns: Vec<Vec<u32>> = columns.collect();
        let words = columns[0].len();
        let zeros: Vec<u32> = (0..words)
            .flat_map(|w| columns.iter().map(move |c| c[w]))
            .collect();
        file.with("P.weight_zero_point", i32s(&[words, self.groups], &zeros))
    }
}

/// `sparse-24-bitmask` or, with `offsets`, `sparse-bitmask` of f32 values. Only those in `kept` are
/// stored.
pub fn bitmask(
    rows: usize,
    cols: usize,
    values: &[f32],
    kept: &[bool],
    offsets: bool,
) -> Checkpoint {
    let stored: Vec<f32> = values
        .iter()
        .zip(kept)
        .filter(|(_, k)| **k)
        .map(|(v, _)| *v)
        .collect();
    let mut mask = vec![];
    let mut counts = vec![];
    let mut count = 0;
    for row in kept.chunks(cols) {
        counts.push(count);
        count += row.iter().filter(|k| **k).count();
        let byte = |bits: &[bool]| {
            bits.iter()
                .enumerate()
                .map(|(i, &b)| u8::from(b) << i)
                .sum::<u8>()
        };
        mask.extend(row.chunks(8).map(byte));
    }
    let file = Checkpoint::default().with("P.bitmask", u8s(&[rows, cols.div_ceil(8)], &mask));
    if offsets {
        file.with(
            "P.compressed",
            RawTensor::from_f32(&[stored.len()], &stored),
        )
        .with("P.row_offsets", sizes(&[rows], &counts))
        .with("P.shape", sizes(&[2], &[rows, cols]))
    } else {
        file.with(
            "P.compressed",
            RawTensor::from_f32(&[rows, cols / 2], &stored),
        )
        .with("P.shape", sizes(&[2, 1], &[rows, cols]))
    }
}

/// Two of every four columns, chosen by `seed`.
pub fn two_of_four(rows: usize, cols: usize, seed: u64) -> Vec<bool> {
    let pairs = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];
    let windows =
        (0..rows * cols / 4).map(|i| pairs[(seed.wrapping_mul(i as u64 + 1) >> 13) as usize % 6]);
    windows
        .flat_map(|pair| [0, 1, 2, 3].map(|c| pair.contains(&c)))
        .collect()
}

impl Checkpoint {
    /// Renames the tensors of bitmasks as the documentation has them.
    pub fn long_names(mut self) -> Self {
        for (name, _) in &mut self.tensors {
            *name = name.replace("P.", "P.weight.");
        }
        self
    }
}

/// What a file says of its weight `P`, the weight, and its values.
pub fn read(checkpoint: &Checkpoint) -> (Module, Matrix, Vec<f32>) {
    read_from(&checkpoint.open().unwrap())
}

pub fn read_from(file: &WeightFile) -> (Module, Matrix, Vec<f32>) {
    assert_eq!(file.refused().next().map(|r| r.reason().to_string()), None);
    assert_eq!(
        file.plain_tensors().count(),
        0,
        "all tensors are the weight's"
    );
    let module = file.module("P").unwrap().clone();
    let matrix = file.weight("P").unwrap();
    let shape = (module.format(), module.rows(), module.cols());
    assert_eq!((matrix.format(), matrix.rows(), matrix.cols()), shape);
    let stored: u64 = file.tensors().map(|tensor| tensor.bytes).sum();
    assert_eq!(module.bytes(), stored);
    let values = matrix.to_dense().values().to_f32();
    (module, matrix, values)
}
