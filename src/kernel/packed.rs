//! A weight as it lies on a device, kept on the host.
//!
//! Packing reads every value of a weight. A host that loads the same model again and again packs
//! it once and stores the bytes:
//!
//! ```text
//! "LACUNAPK" | version | class | layout | max_bytes[2] | rows[2] | cols[2] | imbalance[2]
//!            | bytes of the format's name | the name, padded | parts | PartLayout[12] each
//!            | the words of each part
//! ```
//! All are little-endian words; numbers of 64 bits have two, the low one first.

use super::{Layout, PartLayout, bands, layout, panels, runs};
use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::{Format, Matrix},
};

const MAGIC: &[u8; 8] = b"LACUNAPK";

/// Changes with every change of a layout.
const VERSION: u32 = 2;

/// Words of a [`PartLayout`].
const LAYOUT_WORDS: usize = size_of::<PartLayout>() / 4;

/// The packed parts of a weight, for [`Gpu::upload_packed`](crate::Gpu::upload_packed).
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) format: Format,
    pub(crate) layout: Layout,
    pub(crate) class: DeviceClass,
    pub(crate) imbalance: f64,
    max_bytes: u64,
    pub(crate) parts: Vec<(PartLayout, Vec<u32>)>,
}

impl Packed {
    /// Packs `weight` for devices of the class and with the binding limit of `caps`.
    ///
    /// # Errors
    /// [`Error::Limit`] where the rows of one index set are larger than a binding,
    /// [`Error::Unfit`] for formats that do not lie so.
    pub fn new(weight: &Matrix, layout: Layout, caps: &Caps) -> Result<Self> {
        let max_bytes = caps.max_storage_bytes();
        let parts = layout.split(weight, caps.class, max_bytes)?;
        let packed = |part: PartLayout| (part, layout.pack(weight, &part));
        Ok(Self {
            rows: weight.rows(),
            cols: weight.cols(),
            format: weight.format(),
            layout,
            class: caps.class,
            imbalance: layout::imbalance(weight, caps.class),
            max_bytes,
            parts: parts.into_iter().map(packed).collect(),
        })
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Format, with its value type.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The bytes to store. Only an engine with the same version of this format reads them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let name = self.format.to_string();
        let mut words = vec![VERSION, class_word(self.class), layout_word(self.layout)];
        let sides = [self.max_bytes, self.rows as u64, self.cols as u64];
        for long in sides.into_iter().chain([self.imbalance.to_bits()]) {
            words.extend([long as u32, (long >> 32) as u32]);
        }
        words.push(name.len() as u32);
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, &words);
        bytes.extend_from_slice(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        put(&mut bytes, &[self.parts.len() as u32]);
        for (part, _) in &self.parts {
            put(&mut bytes, &bytemuck::cast::<_, [u32; LAYOUT_WORDS]>(*part));
        }
        for (_, words) in &self.parts {
            put(&mut bytes, words);
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave.
    ///
    /// Whatever the bytes are, no kernel reads outside of the weight or runs longer for them;
    /// whether the values are those that were packed is not checked.
    ///
    /// # Errors
    /// [`Error::Packed`] for anything else, and for bytes of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC);
        let mut reader = Reader(rest.ok_or_else(|| refused("it does not begin with LACUNAPK"))?);
        let version = reader.word()?;
        if version != VERSION {
            return Err(refused(format!(
                "version {version}, this engine reads {VERSION}"
            )));
        }
        let class = match reader.word()? {
            0 => DeviceClass::Gpu,
            1 => DeviceClass::Cpu,
            other => return Err(refused(format!("class {other}, the limit is 1"))),
        };
        let layout = match reader.word()? {
            0 => Layout::Rows,
            1 => Layout::Bands,
            other => return Err(refused(format!("layout {other}, the limit is 1"))),
        };
        let max_bytes = reader.long()?;
        let (rows, cols) = (reader.side("rows")?, reader.side("columns")?);
        let imbalance = f64::from_bits(reader.long()?);
        if imbalance.is_nan() || imbalance < 0.0 {
            return Err(refused(format!("an imbalance of {imbalance}")));
        }
        let name = reader.text()?;
        let format: Format = name
            .parse()
            .map_err(|e: Error| refused(format!("its format: {e}")))?;
        if format.to_string() != name {
            return Err(refused(format!("format {name:?}, which is {format}")));
        }

        let count = reader.word()? as usize;
        let mut layouts = vec![];
        for _ in 0..count {
            let words = reader.words(LAYOUT_WORDS)?;
            layouts.push(*bytemuck::from_bytes::<PartLayout>(bytemuck::cast_slice(
                &words,
            )));
        }
        let mut parts = vec![];
        for part in layouts {
            let words = reader.words(part.words as usize)?;
            parts.push((part, words));
        }
        if !reader.0.is_empty() {
            return Err(refused(format!("{} bytes too many", reader.0.len())));
        }
        let packed = Self {
            rows,
            cols,
            format,
            layout,
            class,
            imbalance,
            max_bytes,
            parts,
        };
        packed.check()?;
        Ok(packed)
    }

    /// Checks that the parts lie as this engine would have cut a weight of this shape.
    fn check(&self) -> Result<()> {
        let (rows, cols, format) = (self.rows, self.cols, self.format);
        // The work below is only bounded if the shape is. A value has at least 2 bits.
        let held: u64 = self.parts.iter().map(|(_, words)| words.len() as u64).sum();
        let by_rows =
            !matches!(format, Format::Gqs { pruning, .. } if pruning.ragged()) && cols > 0;
        if by_rows && rows as u64 > 16 * held || rows.checked_mul(cols.max(1)).is_none() {
            return Err(refused(format!("{rows} x {cols} in {held} words")));
        }
        let expected = match (format, self.layout) {
            (Format::Gqs { quant, pruning }, Layout::Rows)
                if self.class == DeviceClass::Cpu || pruning.ragged() =>
            {
                for (part, words) in &self.parts {
                    match self.class {
                        DeviceClass::Gpu => panels::check(quant, pruning, cols, part, words),
                        DeviceClass::Cpu => runs::check(quant, cols, part, words),
                    }
                    .map_err(refused)?;
                }
                return self.check_rows();
            }
            (_, Layout::Rows) => layout::split(format, rows, cols, self.class, self.max_bytes),
            (_, Layout::Bands) => bands::split(format, rows, cols, self.class, self.max_bytes),
        }
        .map_err(|e| refused(format!("its shape: {e}")))?;
        let found = self.parts.iter().map(|(part, _)| PartLayout {
            factor: 1f32.to_bits(),
            ..*part
        });
        if !found.eq(expected) {
            return Err(refused("its parts are not cut as its shape is"));
        }
        self.check_rows()
    }

    /// Checks that the parts hold all rows, in order, with one sound factor.
    fn check_rows(&self) -> Result<()> {
        let mut next = 0u64;
        for (part, _) in &self.parts {
            let factor = f32::from_bits(part.factor);
            if !factor.is_normal() || factor < 0.0 {
                return Err(refused(format!("a factor of {factor}")));
            }
            if u64::from(part.row_base) != next || part.factor != self.parts[0].0.factor {
                return Err(refused(format!("the part that begins at row {next}")));
            }
            next += u64::from(part.rows);
        }
        if next != self.rows as u64 {
            return Err(refused(format!(
                "its parts hold {next} rows of {}",
                self.rows
            )));
        }
        Ok(())
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Packed {
        reason: reason.into(),
    }
}

fn class_word(class: DeviceClass) -> u32 {
    match class {
        DeviceClass::Gpu => 0,
        DeviceClass::Cpu => 1,
    }
}

fn layout_word(layout: Layout) -> u32 {
    match layout {
        Layout::Rows => 0,
        Layout::Bands => 1,
    }
}

fn put(bytes: &mut Vec<u8>, words: &[u32]) {
    bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
}

/// Takes words off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(bytes) else {
            return Err(refused(format!(
                "it ends after {} of {bytes} bytes",
                self.0.len()
            )));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn words(&mut self, count: usize) -> Result<Vec<u32>> {
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let bytes = self.take(count.saturating_mul(4))?;
        Ok(bytes.chunks_exact(4).map(word).collect())
    }

    fn word(&mut self) -> Result<u32> {
        Ok(self.words(1)?[0])
    }

    fn long(&mut self) -> Result<u64> {
        let words = self.words(2)?;
        Ok(u64::from(words[0]) | u64::from(words[1]) << 32)
    }

    /// A side of a weight, which must fit 32 bits.
    fn side(&mut self, what: &str) -> Result<usize> {
        let long = self.long()?;
        u32::try_from(long)
            .map(|side| side as usize)
            .map_err(|_| refused(format!("{long} {what}, the limit is {}", u32::MAX)))
    }

    fn text(&mut self) -> Result<&'a str> {
        let len = self.word()? as usize;
        let padded = self.take(len.next_multiple_of(4))?;
        if padded[len..].iter().any(|&b| b != 0) {
            return Err(refused("its format is not padded by zeros"));
        }
        std::str::from_utf8(&padded[..len]).map_err(|_| refused("its format is no text"))
    }
}
