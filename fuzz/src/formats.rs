//! Weights put together from sections, as every reader of files does it.
//!
//! ```text
//! w3g8s50 2 28            the format, rows and columns; two more sizes are those that are claimed
//! bytes of the sections   columns, codes, zeros, scales, factor; or values
//! ```
//! Where the bytes end, zeros follow, and zeros alone make a valid weight: whatever is counted, chosen
//! or scaled is stored as its difference from that weight.

use crate::{matrix, safetensors::check_words};
use half::f16;
use lacuna::{
    Result,
    format::{
        Codes, Columns, Dense, Dtype, Format, Gqs, GroupPruning, Matrix, Nm, Pattern, Quant,
        Quantized, Values, ZeroPoint, Zeros, bits,
    },
};

/// Most rows, columns or values of a weight; no target needs more.
const MOST_BYTES: usize = 1 << 16;

/// `data` is a line and the bytes of sections. A weight that is accepted must unpack, multiply and pack.
pub fn formats(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n');
    let (line, sections) = data.split_at(end.unwrap_or(data.len()));
    let Ok(line) = str::from_utf8(line) else {
        return;
    };
    let mut words = line.split(' ');
    let format: Format = match words.next().unwrap_or_default().parse() {
        Ok(format) => format,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(format.to_string().parse(), Ok(format));
    let mut sides = words.map_while(|word| word.parse::<usize>().ok());
    let (Some(rows), Some(cols)) = (sides.next(), sides.next()) else {
        return;
    };
    let claimed = (sides.next().unwrap_or(rows), sides.next().unwrap_or(cols));
    if rows > MOST_BYTES || cols > MOST_BYTES {
        return;
    }
    // A group has all its codes, however few of its columns exist.
    let group = format.quant().and_then(Quant::group).unwrap_or(1);
    if rows * cols.next_multiple_of(group) > MOST_BYTES {
        return;
    }
    let sections = Sections(sections.get(1..).unwrap_or_default());
    match weight(format, (rows, cols), claimed, sections) {
        Ok(weight) => matrix::check(&weight),
        Err(error) => check_words(&error.to_string()),
    }
}

/// The bytes that are left; zeros follow them.
struct Sections<'a>(&'a [u8]);

impl Sections<'_> {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        let mut bytes = taken.to_vec();
        bytes.resize(count, 0);
        bytes
    }

    fn words(&mut self, count: usize) -> Vec<u32> {
        let bytes = self.bytes(4 * count);
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        bytes.chunks_exact(4).map(word).collect()
    }

    fn values(&mut self, dtype: Dtype, count: usize) -> Result<Values> {
        Values::from_le_bytes(dtype, &self.bytes(count * dtype.size()))
    }

    /// The packed indices that keep the first columns of each window, changed by the next bytes.
    fn indices(&mut self, pattern: Pattern, rows: usize, cols: usize) -> Result<Vec<u32>> {
        let sound = Columns::select(pattern, rows, cols, |_, _, _| {})?;
        let changes = self.words(sound.indices().len());
        let pairs = sound.indices().iter().zip(changes);
        Ok(pairs.map(|(word, change)| word ^ change).collect())
    }

    /// Halves, which are 1 where there are no bytes.
    fn halves(&mut self, count: usize) -> Vec<f16> {
        let bytes = self.bytes(2 * count);
        let bits = bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b));
        bits.map(|bits| f16::from_bits(bits ^ f16::ONE.to_bits()))
            .collect()
    }

    fn codes(&mut self, quant: Quant, codes: usize, groups: usize) -> Result<Codes> {
        let fields = |bytes: Vec<u8>, count| bits::unpack(&bytes, quant.bits(), count);
        let packed = |count| bits::bytes_for(count, quant.bits());
        let codes = fields(self.bytes(packed(codes)), codes).unwrap_or_default();
        let zeros = match quant.zero_point() {
            ZeroPoint::Middle => Zeros::none(quant),
            ZeroPoint::Code => fields(self.bytes(packed(groups)), groups)
                .unwrap_or_default()
                .into(),
            ZeroPoint::Real => self.halves(groups).into(),
        };
        let scales = self.halves(groups);
        let factor = f32::from_bits(self.words(1)[0] ^ 1f32.to_bits());
        Codes::new(quant, codes, scales, zeros, factor)
    }
}

/// The weight `[rows, cols]` of these sections, as if it had the sides `claimed`.
fn weight(
    format: Format,
    (rows, cols): (usize, usize),
    claimed: (usize, usize),
    mut sections: Sections,
) -> Result<Matrix> {
    match format {
        Format::Dense(dtype) => {
            let values = sections.values(dtype, rows * cols)?;
            Dense::new(claimed.0, claimed.1, values).map(Matrix::from)
        }
        Format::Nm { pattern, dtype } => {
            let indices = sections.indices(pattern, rows, cols)?;
            let dtype = dtype.unwrap_or(Dtype::F32);
            let values = sections.values(dtype, rows * pattern.slots(cols))?;
            Nm::from_parts(pattern, claimed.0, claimed.1, values, indices).map(Matrix::from)
        }
        Format::Quantized { pattern, quant } => {
            let columns = match pattern {
                None => None,
                Some(pattern) => {
                    let indices = sections.indices(pattern, rows, cols)?;
                    Some(Columns::from_parts(pattern, rows, cols, indices)?)
                }
            };
            let slots = columns.as_ref().map_or(cols, Columns::slots);
            let codes = sections.codes(quant, rows * slots, rows * quant.groups(cols))?;
            Quantized::new(claimed.0, claimed.1, columns, codes).map(Matrix::from)
        }
        Format::Gqs { quant, pruning } => {
            let groups = quant.groups(cols);
            let (offsets, indices) = kept(&mut sections, pruning, rows, groups);
            let kept = indices.len();
            let codes = sections.codes(quant, kept * quant.group_cols(cols), kept)?;
            Gqs::from_parts(claimed.0, claimed.1, pruning, offsets, indices, codes)
                .map(Matrix::from)
        }
        other => unreachable!("{other} is not among the formats that have sections"),
    }
}

/// Row offsets and group indices that keep the first groups of each row, changed by the next bytes.
fn kept(
    sections: &mut Sections,
    pruning: GroupPruning,
    rows: usize,
    groups: usize,
) -> (Vec<u32>, Vec<u32>) {
    let all = if pruning.ragged() {
        pruning.kept(rows * groups)
    } else {
        rows * pruning.kept(groups)
    };
    let sound: Vec<usize> = (0..=rows).map(|row| row * all / rows.max(1)).collect();
    let changes = sections.words(rows + 1);
    let offsets = sound.iter().zip(changes);
    let offsets = offsets
        .map(|(&offset, change)| offset as u32 ^ change)
        .collect();
    let of_rows = sound.windows(2).flat_map(|row| 0..row[1] - row[0]);
    let changes = sections.bytes(all);
    let indices = of_rows.zip(changes);
    let indices = indices
        .map(|(index, change)| index as u32 ^ u32::from(change))
        .collect();
    (offsets, indices)
}
