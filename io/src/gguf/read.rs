//! Reading tensors out of an open GGUF file.

use super::{
    GgufFile,
    blocks::{Coded, Group},
    table::Stored,
    types::READABLE,
};
use crate::{
    error::{Error, Result},
    scales::nearest_halves,
};
use half::f16;
use lacuna::format::{Codes, Quant, Values, Zeros};
use std::{ops::Range, path::Path};

/// Bytes read at once, which bounds the memory that a tensor needs beside its f32 values.
const CHUNK: usize = 1 << 20;

/// Codes in the largest group.
const MOST_CODES: usize = 128;

impl GgufFile {
    /// Reads a tensor as f32, row-major.
    ///
    /// # Errors
    /// [`Error::NoTensor`], [`Error::Tensor`] if its type cannot be read, and the errors of reading.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let rows = self.stored(name)?.info(name).rows();
        self.read_rows_f32(name, 0..rows)
    }

    /// Reads some rows of a tensor as f32.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `rows` is not a range of its rows, and those of [`Self::read_f32`].
    pub fn read_rows_f32(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let stored = self.stored(name)?;
        let ggml_type = stored.ggml_type;
        if !ggml_type.is_readable() {
            return Err(self.unfit(name, "type", ggml_type.to_string(), READABLE.into()));
        }
        self.check_rows(name, &rows)?;
        let len = rows.len() * stored.info(name).cols();
        let mut values = self.reserved(name, len)?;
        values.resize(len, 0.0);
        self.blocks(name, rows, |bytes, part| {
            ggml_type.decode(bytes, &mut values[part]);
        })?;
        Ok(values)
    }

    /// The codes that a tensor is stored as. Scales and zeros become halves: exactly for blocks with one
    /// scale and no minimum, otherwise rounded to the nearest, as decoding to f16 rounds values.
    ///
    /// `None` if the engine has no such codes ([`GgmlType::quant`](super::GgmlType::quant)), if no
    /// common factor makes the scales normal halves, if a zero is too large for a half, or if a ternary
    /// code is out of range.
    ///
    /// # Errors
    /// [`Error::NoTensor`], and the errors of reading.
    pub fn read_codes(&self, name: &str) -> Result<Option<Codes>> {
        let rows = self.stored(name)?.info(name).rows();
        self.read_rows_codes(name, 0..rows)
    }

    /// [`read_codes`](Self::read_codes) of some rows. Their factor may be another than that of the whole, and rows
    /// may have codes where the whole has none.
    ///
    /// # Errors
    /// [`Error::Tensor`] where `rows` is no range of its rows, and those of [`read_codes`](Self::read_codes).
    pub fn read_rows_codes(&self, name: &str, rows: Range<usize>) -> Result<Option<Codes>> {
        let stored = self.stored(name)?;
        self.check_rows(name, &rows)?;
        let Some(coded) = stored.ggml_type.coded() else {
            return Ok(None);
        };
        let mut codes = self.reserved(name, rows.len() * stored.info(name).cols())?;
        let grids = self.grids(name, rows, coded, |group| codes.extend_from_slice(group))?;
        let Some((scales, zeros, factor)) = grids.halves() else {
            return Ok(None);
        };
        let codes = Codes::new(coded.quant, codes, scales, zeros, factor);
        codes.map(Some).map_err(|reason| self.wrong(name, reason))
    }

    /// The format in which [`read_codes`](Self::read_codes) would give a tensor, if it would. The codes
    /// are read to find out, but not kept.
    ///
    /// # Errors
    /// Those of [`read_codes`](Self::read_codes).
    pub fn quant(&self, name: &str) -> Result<Option<Quant>> {
        let stored = self.stored(name)?;
        let Some(coded) = stored.ggml_type.coded() else {
            return Ok(None);
        };
        let grids = self.grids(name, 0..stored.info(name).rows(), coded, |_| ())?;
        Ok(grids.halves().map(|_| coded.quant))
    }

    /// Scales and least values of all groups of some rows. `see` is called with the codes of each.
    fn grids(
        &self,
        name: &str,
        rows: Range<usize>,
        coded: Coded,
        mut see: impl FnMut(&[u8]),
    ) -> Result<Grids> {
        let quant = coded.quant;
        let groups = rows.len() * quant.groups(self.stored(name)?.info(name).cols());
        let mut grids = Grids {
            quant,
            most: 0,
            scales: self.reserved(name, groups)?,
            least: self.reserved(name, if quant.real_zeros() { groups } else { 0 })?,
        };
        self.blocks(name, rows, |bytes, _| {
            coded.apart(bytes, |group| match grids.add(group) {
                Some(code) => see(&[code; MOST_CODES][..group.codes.len()]),
                None => see(group.codes),
            });
        })?;
        Ok(grids)
    }

    /// Calls `see` with the blocks of some rows, a chunk at a time, and the range of their values.
    fn blocks(
        &self,
        name: &str,
        rows: Range<usize>,
        mut see: impl FnMut(&[u8], Range<usize>),
    ) -> Result<()> {
        let stored = self.stored(name)?;
        let shard = &self.shards[stored.shard];
        let (ggml_type, cols) = (stored.ggml_type, stored.info(name).cols());
        let bytes_of = |values: usize| (values / ggml_type.block * ggml_type.bytes) as u64;
        let mut at = stored.range.start + bytes_of(rows.start * cols);
        let (chunk, len) = (CHUNK / ggml_type.bytes * ggml_type.block, rows.len() * cols);
        for first in (0..len).step_by(chunk) {
            let part = first..(first + chunk).min(len);
            let end = at + bytes_of(part.len());
            see(&shard.read(name, &(at..end))?, part);
            at = end;
        }
        Ok(())
    }

    /// An empty vector with room for `len` elements.
    fn reserved<T>(&self, name: &str, len: usize) -> Result<Vec<T>> {
        let mut values = Vec::new();
        match values.try_reserve_exact(len) {
            Ok(()) => Ok(values),
            Err(_) => Err(Error::OutOfMemory {
                file: self.file_of(name).into(),
                tensor: name.into(),
                bytes: (len as u64).saturating_mul(size_of::<T>() as u64),
            }),
        }
    }

    /// Reads a tensor in its own type if that is F32, F16 or BF16, otherwise as f32.
    ///
    /// # Errors
    /// Those of [`Self::read_f32`].
    pub fn read_values(&self, name: &str) -> Result<Values> {
        let stored = self.stored(name)?;
        let Some(dtype) = stored.ggml_type.dtype() else {
            return self.read_f32(name).map(Values::F32);
        };
        let bytes = self.shards[stored.shard].read(name, &stored.range)?;
        Values::from_le_bytes(dtype, &bytes).map_err(|reason| self.wrong(name, reason))
    }

    fn check_rows(&self, name: &str, rows: &Range<usize>) -> Result<()> {
        let all = self.stored(name)?.info(name).rows();
        if rows.start <= rows.end && rows.end <= all {
            return Ok(());
        }
        let expected = format!("a range within 0..{all}");
        Err(self.unfit(name, "range of rows", format!("{rows:?}"), expected))
    }

    fn unfit(&self, name: &str, what: &'static str, got: String, expected: String) -> Error {
        Error::Tensor {
            file: self.file_of(name).into(),
            tensor: name.into(),
            what,
            got,
            expected,
        }
    }

    fn wrong(&self, name: &str, reason: lacuna::Error) -> Error {
        Error::Weight {
            file: self.file_of(name).into(),
            module: name.into(),
            reason,
        }
    }

    /// The file that a tensor is in.
    fn file_of(&self, name: &str) -> &Path {
        let stored = self.tensors.get(name);
        stored.map_or(self.path(), |stored| &self.shards[stored.shard].path)
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| Error::NoTensor {
            file: self.path().into(),
            tensor: name.into(),
        })
    }
}

/// Scales of groups and, if zeros are real, their least values.
struct Grids {
    quant: Quant,
    /// The largest code in groups whose scale is not 0.
    most: u8,
    scales: Vec<f32>,
    least: Vec<f32>,
}

impl Grids {
    /// Adds a group. The engine has no scale of 0: if the group has one, all its codes must become the
    /// code that is returned.
    fn add(&mut self, group: Group<'_>) -> Option<u8> {
        let middle = self.quant.middle();
        // A group of zeros has any scale: MXFP4's is then the smallest, 2^-128.
        let zeros = !self.quant.real_zeros()
            && group.scale.is_finite()
            && group.codes.iter().all(|&code| code == middle);
        let constant = group.scale == 0.0 || zeros;
        if !constant {
            self.most = group.codes.iter().copied().fold(self.most, u8::max);
        }
        if !self.quant.real_zeros() {
            self.scales.push(if constant { 0.0 } else { group.scale });
            return constant.then_some(middle);
        }
        // For a scale of 0, the magnitude of the least value serves as scale, and code 0 stands for it.
        let scale = if constant {
            group.least.abs()
        } else {
            group.scale
        };
        self.scales.push(scale);
        self.least.push(group.least);
        constant.then_some(0)
    }

    /// Scales, zeros, and the factor of the scales. `None` if they do not fit halves or a code is too
    /// large.
    fn halves(&self) -> Option<(Vec<f16>, Zeros, f32)> {
        if self.most > self.quant.max_code() {
            return None;
        }
        let (scales, factor) = nearest_halves(&self.scales)?;
        if !self.quant.real_zeros() {
            return Some((scales, Zeros::none(self.quant), factor));
        }
        let zero = |(scale, least): (&f16, &f32)| {
            let zero = Codes::real_zero(-least / (factor * scale.to_f32()));
            zero.is_finite().then_some(zero)
        };
        let zeros: Option<Vec<f16>> = scales.iter().zip(&self.least).map(zero).collect();
        Some((scales, zeros?.into(), factor))
    }
}
