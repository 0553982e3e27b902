//! Models in several files, as llama.cpp's `gguf-split` makes them.
//!
//! ```text
//! NAME-00001-of-00003.gguf   split.no 0, split.count 3, split.tensors.count: those of all files
//! NAME-00002-of-00003.gguf   split.no 1, split.count 3
//! NAME-00003-of-00003.gguf   split.no 2, split.count 3
//! ```
//! The first file has the metadata of the model. Each has a table of its own tensors.

use super::{GgufFile, GgufMetadata};
use crate::error::{Error, Result, quoted};
use std::path::{Path, PathBuf};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Most files of a model: names have room for five digits.
const MAX_COUNT: u64 = 99_999;

/// The number of a file and how many there are; a model in one file is (0, 1).
fn place(metadata: &GgufMetadata) -> Result<(u64, u64)> {
    let number = metadata.find(NUMBER)?.unwrap_or(0);
    let count = metadata.find(COUNT)?.unwrap_or(1);
    // Files that were never split may have a count of 0.
    Ok((number, u64::max(count, 1)))
}

/// How the name of file `number` of `count` ends; numbers count from 0.
fn ending(number: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}

/// The paths of the files after the first, which is at `path`.
fn others(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let malformed = |reason| Error::Malformed {
        file: path.into(),
        reason,
    };
    if count > MAX_COUNT {
        let reason = format!("{COUNT} is {count}, the limit is {MAX_COUNT}");
        return Err(malformed(reason));
    }
    let first = ending(0, count);
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(stem) = name.and_then(|name| name.strip_suffix(&first)) else {
        let reason =
            format!("{COUNT} is {count}: others are found by the name of the first, …{first}");
        return Err(malformed(reason));
    };
    let others =
        (1..count).map(|number| path.with_file_name(stem.to_owned() + &ending(number, count)));
    Ok(others.collect())
}

impl GgufFile {
    /// Adds the tensors of the other files to this one, which is the first and was opened alone.
    pub(super) fn with_others(mut self) -> Result<Self> {
        let (number, count) = place(&self.metadata)?;
        let malformed = |file: &Path, reason| {
            Err(Error::Malformed {
                file: file.into(),
                reason,
            })
        };
        if number != 0 {
            let reason = format!(
                "it is file {} of {count} of a model, which is opened by the first, …{}",
                number + 1,
                ending(0, count)
            );
            return malformed(self.path(), reason);
        }
        if count == 1 {
            return Ok(self);
        }
        for (path, number) in others(self.path(), count)?.into_iter().zip(1..) {
            let mut other = Self::open_alone(&path)?;
            let found = place(&other.metadata)?;
            if found != (number, count) {
                let (found, of) = found;
                let reason = format!(
                    "{NUMBER} is {found} and {COUNT} {of}, expected {number} and {count} after the other files"
                );
                return malformed(&path, reason);
            }
            for stored in other.tensors.values_mut() {
                stored.shard = self.shards.len();
            }
            self.shards.append(&mut other.shards);
            for (name, stored) in other.tensors {
                let shown = quoted(&name);
                if self.tensors.insert(name, stored).is_some() {
                    let reason = format!("the tensor {shown} is in a file before it already");
                    return malformed(&path, reason);
                }
            }
        }
        let tensors = self.tensors.len() as u64;
        match self.metadata.find::<u64>(TENSORS)? {
            Some(expected) if expected != tensors => {
                let reason = format!("{TENSORS} is {expected}, the {count} files have {tensors}");
                malformed(self.path(), reason)
            }
            _ => Ok(self),
        }
    }
}
