//! The work folder `OUT.recovery`: which job it belongs to, and what is done.

use crate::{
    compress::job::{self, JOB},
    error::{Error, Result},
};
use lacuna_io::{is_leftover, printable, sha256};
use lacuna_recover::Journal;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Everything that decides the result; no paths, which differ between machines.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// The version of this program, as others may give other results.
    lacuna: String,
    /// Fingerprints of the models' files.
    dense: Vec<String>,
    packed: Vec<String>,
    /// SHA-256 of the tokens.
    windows: String,
    context: usize,
    options: String,
}

impl Record {
    pub fn new(
        dense: Vec<String>,
        packed: Vec<String>,
        windows: &[Vec<u32>],
        options: String,
    ) -> Self {
        let ids = windows.iter().flatten();
        let bytes: Vec<u8> = ids.flat_map(|id| id.to_le_bytes()).collect();
        Self {
            lacuna: env!("CARGO_PKG_VERSION").into(),
            dense,
            packed,
            windows: sha256(&bytes),
            context: windows.first().map_or(0, Vec::len),
            options,
        }
    }
}

/// A work folder.
pub struct Work {
    folder: PathBuf,
    /// SHA-256 of the record.
    id: String,
}

impl Work {
    /// Creates the work folder of an output, or continues one with the same record.
    pub fn create(output: &Path, record: &Record) -> Result<Self> {
        let mut name = output.as_os_str().to_owned();
        name.push(".recovery");
        let folder = PathBuf::from(name);
        job::claim(&folder, record, |file| {
            let text = fs::read_to_string(file).map_err(|reason| lacuna_io::Error::Read {
                file: file.into(),
                reason,
            })?;
            serde_json::from_str(&text).map_err(|e| Error::Shard {
                file: printable(&file.to_string_lossy()),
                reason: format!("it is no job: {}", printable(&e.to_string())),
            })
        })?;
        Ok(Self {
            folder,
            id: sha256(job::to_text(record).as_bytes()),
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn journal(&self) -> Journal {
        Journal::new(&self.folder, &self.id)
    }

    /// Removes the folder if it holds nothing but the job.
    pub fn remove_if_nothing_is_done(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let of_nothing = |name: OsString| name == JOB || is_leftover(&name);
        if entries
            .into_iter()
            .all(|entry| of_nothing(entry.file_name()))
        {
            self.remove(0);
        }
    }

    /// Removes all files of the work, and the folder if it is then empty.
    pub fn remove(&self, blocks: usize) {
        self.journal().remove(blocks);
        job::remove(&self.folder);
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.folder.to_string_lossy()))
    }
}
