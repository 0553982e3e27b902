//! Reading quantised weights: packed codes and zeros, scales, and where they belong.

use crate::{
    container::Declared,
    error::{Error, Result},
    file::WeightFile,
    sections::{CODES, GROUP_INDICES, INDICES, ROW_OFFSETS, SCALES, ZEROS},
};
use half::f16;
use lacuna::format::{
    Codes, Columns, Gqs, GroupPruning, Matrix, Pattern, Quant, Quantized, ZeroPoint, Zeros, bits,
};

impl WeightFile {
    /// Reads a weight of `N:M+wBgG` or `wBgG`.
    pub(crate) fn quantized(
        &self,
        name: &str,
        declared: Declared,
        pattern: Option<Pattern>,
        quant: Quant,
    ) -> Result<Matrix> {
        let Declared { rows, cols, .. } = declared;
        let columns = match pattern {
            None => None,
            Some(pattern) => {
                let indices = self.numbers(name, INDICES)?;
                let columns = Columns::from_parts(pattern, rows, cols, indices);
                Some(columns.map_err(|reason| self.wrong(name, reason))?)
            }
        };
        let slots = pattern.map_or(cols, |p| p.slots(cols));
        let codes = self.codes(name, declared, quant, slots, quant.groups(cols))?;
        Quantized::new(rows, cols, columns, codes)
            .map(Matrix::from)
            .map_err(|reason| self.wrong(name, reason))
    }

    /// Reads a weight of `wBgGsPP`.
    pub(crate) fn gqs(
        &self,
        name: &str,
        declared: Declared,
        quant: Quant,
        pruning: GroupPruning,
    ) -> Result<Matrix> {
        let Declared { rows, cols, .. } = declared;
        let row_offsets = self.numbers(name, ROW_OFFSETS)?;
        let group_indices = self.numbers(name, GROUP_INDICES)?;
        // Codes have one row for each kept group; zeros are one row for all of them.
        let (group, kept) = (quant.group_cols(cols), group_indices.len());
        let codes = self.codes(name, declared, quant, group, kept)?;
        Gqs::from_parts(rows, cols, pruning, row_offsets, group_indices, codes)
            .map(Matrix::from)
            .map_err(|reason| self.wrong(name, reason))
    }

    /// Reads codes in rows of `slots` and zeros in rows of `groups`.
    fn codes(
        &self,
        name: &str,
        declared: Declared,
        quant: Quant,
        slots: usize,
        groups: usize,
    ) -> Result<Codes> {
        let codes = self.fields(name, CODES, quant, slots)?;
        let scales = self.halves(name, SCALES)?;
        let zeros = match quant.zero_point() {
            ZeroPoint::Middle => Zeros::none(quant),
            ZeroPoint::Code => self.fields(name, ZEROS, quant, groups)?.into(),
            ZeroPoint::Real => self.halves(name, ZEROS)?.into(),
        };
        Codes::new(quant, codes, scales, zeros, declared.factor)
            .map_err(|reason| self.wrong(name, reason))
    }

    /// Reads an F16 section.
    fn halves(&self, name: &str, suffix: &str) -> Result<Vec<f16>> {
        let bytes = self.raw(&format!("{name}{suffix}"))?.bytes;
        let halves = bytes.as_chunks().0.iter();
        Ok(halves.map(|&half| f16::from_le_bytes(half)).collect())
    }

    /// Unpacks a section whose rows hold `of_row` fields each.
    fn fields(&self, name: &str, suffix: &str, quant: Quant, of_row: usize) -> Result<Vec<u8>> {
        let tensor = format!("{name}{suffix}");
        let bytes = self.raw(&tensor)?.bytes;
        let row_bytes = bits::bytes_for(of_row, quant.bits());
        let mut fields = vec![];
        for (row, packed) in bytes.chunks_exact(row_bytes.max(1)).enumerate() {
            let Some(unpacked) = bits::unpack(packed, quant.bits(), of_row) else {
                let last = packed[row_bytes - 1];
                let used = of_row * quant.bits() as usize % 8;
                return Err(Error::Tensor {
                    file: self.file_of(self.stored(&tensor)?),
                    tensor,
                    what: "last byte of a row",
                    got: format!("{last:#04x} in row {row}"),
                    expected: format!("zeros from bit {used} on"),
                });
            };
            fields.extend(unpacked);
        }
        Ok(fields)
    }

    /// Reads a section of U8, U16 or U32, widened to u32.
    fn numbers(&self, name: &str, suffix: &str) -> Result<Vec<u32>> {
        let section = self.raw(&format!("{name}{suffix}"))?;
        let widened = |bytes: &[u8]| {
            let shifted = |(i, &byte): (usize, &u8)| u32::from(byte) << (8 * i);
            bytes.iter().enumerate().map(shifted).sum()
        };
        let width = section.dtype.bitsize() / 8;
        Ok(section.bytes.chunks_exact(width).map(widened).collect())
    }

    pub(crate) fn wrong(&self, name: &str, reason: lacuna::Error) -> Error {
        Error::Weight {
            file: self.path().to_owned(),
            module: name.into(),
            reason,
        }
    }
}
