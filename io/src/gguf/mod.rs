//! GGUF files: the format of llama.cpp, read and decoded.
//!
//! ```text
//! | "GGUF" | u32 version | u64 tensors | u64 entries |
//! | entries:  key, type, value                        |
//! | tensors:  name, dimensions, type, offset          |
//! | padding to general.alignment, which is 32 unless said otherwise |
//! | tensor data, each at a multiple of the alignment  |
//! ```
//!
//! All numbers are little-endian. The specification is
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod blocks;
mod cursor;
mod metadata;
mod read;
mod split;
mod table;
mod types;

pub use metadata::{FromGguf, GgufMetadata, GgufValue};
pub use table::GgufTensor;
pub use types::GgmlType;

use crate::{
    error::Result,
    header::MAX_HEADER,
    shard::{Shard, open_regular},
};
use cursor::Cursor;
use std::{collections::BTreeMap, path::Path};
use table::Stored;

/// The magic number that a file begins with.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");

/// Version 1 had 32-bit counts and lived for days.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// The bytes that hold the number of tensors, after the magic number and the version.
const COUNT_OF_TENSORS: std::ops::Range<usize> = 8..16;

const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT: u64 = 32;

/// A GGUF file, or the files of a model that was split, open for reading.
///
/// Opening reads and checks the headers; tensors are read and decoded when asked for.
#[derive(Debug)]
pub struct GgufFile {
    /// The file, and those that follow it.
    shards: Vec<Shard>,
    metadata: GgufMetadata,
    /// Where the metadata end and the tensor table begins.
    metadata_end: u64,
    tensors: BTreeMap<String, Stored>,
}

impl GgufFile {
    /// Opens a little-endian file of version 2 or 3. A model in several files, as `gguf-split` makes
    /// them, is opened by the first, `…-00001-of-00003.gguf`; the others must lie beside it.
    ///
    /// A file with tensors of unreadable types opens; only reading those tensors fails.
    ///
    /// # Errors
    /// Only of [`Kind::Input`](crate::Kind::Input): a file cannot be read, or it contradicts its
    /// header.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_alone(path.as_ref())?.with_others()
    }

    /// Opens one file alone, for its metadata, wherever the tensors of the model are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_alone(path: &Path) -> Result<Self> {
        let (file, len) = open_regular(path)?;
        let mut cursor = Cursor::new(path, &file, len.min(MAX_HEADER));
        check_version(&mut cursor)?;
        let tensors = cursor.count(table::MIN_ENTRY, "the number of tensors")?;
        let entries = cursor.count(metadata::MIN_ENTRY, "the number of metadata entries")?;
        let metadata = GgufMetadata::read(path, &mut cursor, entries)?;
        let metadata_end = cursor.at();
        let alignment = metadata.find(ALIGNMENT_KEY)?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(cursor.malformed(format!(
                "{ALIGNMENT_KEY} is {alignment}, expected a power of two"
            )));
        }
        let tensors = table::read(path, &mut cursor, tensors)?;
        // A file without tensors may end before the padding would.
        let data_start = cursor.at().checked_next_multiple_of(alignment);
        let data_start = data_start.unwrap_or(len).min(len);
        table::check(path, &tensors, alignment, len - data_start)?;
        Ok(Self {
            shards: vec![Shard::new(path, file, data_start)],
            metadata,
            metadata_end,
            tensors,
        })
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        &self.shards[0].path
    }

    /// The paths of all its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// The keys and values of the header.
    pub const fn metadata(&self) -> &GgufMetadata {
        &self.metadata
    }

    /// The bytes of a file with the same metadata and no tensors, which llama.cpp calls a vocabulary.
    ///
    /// # Errors
    /// The errors of reading.
    pub fn without_tensors(&self) -> Result<Vec<u8>> {
        let mut bytes = self.shards[0].read_at("metadata", &(0..self.metadata_end))?;
        bytes[COUNT_OF_TENSORS].fill(0);
        Ok(bytes)
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = GgufTensor<'_>> {
        self.tensors.iter().map(|(name, stored)| stored.info(name))
    }

    /// What the header says of one tensor.
    pub fn tensor(&self, name: &str) -> Option<GgufTensor<'_>> {
        let (name, stored) = self.tensors.get_key_value(name)?;
        Some(stored.info(name))
    }
}

fn check_version(cursor: &mut Cursor) -> Result<()> {
    let magic = cursor.u32(format_args!("the magic number"))?;
    if magic != MAGIC {
        return Err(cursor.malformed(format!(
            "the magic number is {magic:#010x}, that of GGUF is {MAGIC:#010x}"
        )));
    }
    let version = cursor.u32(format_args!("the version"))?;
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    let (first, last) = VERSIONS.into_inner();
    let reason = if VERSIONS.contains(&version.swap_bytes()) {
        "the file is big-endian, only little-endian files are read".into()
    } else {
        format!("the GGUF version is {version}, the versions read are {first} and {last}")
    };
    Err(cursor.malformed(reason))
}
