//! The work folder `OUT.recovery`: which job it belongs to, and what is done.

use crate::{
    compress::job::check_same,
    error::{Error, Result},
};
use lacuna_io::{printable, sha256, write_file};
use lacuna_recover::Journal;
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

const JOB: &str = "job.json";

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

    fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are always JSON") + "\n"
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
        let file = folder.join(JOB);
        let text = record.to_text();
        match fs::read_to_string(&file) {
            Ok(found) => {
                let found = serde_json::from_str(&found).map_err(|e| Error::Shard {
                    file: printable(&file.to_string_lossy()),
                    reason: format!("it is no job: {}", printable(&e.to_string())),
                })?;
                check_same(&folder, record, &found)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let write = |reason| lacuna_io::Error::Write {
                    file: folder.clone(),
                    reason,
                };
                let others =
                    folder.exists() && fs::read_dir(&folder).map_err(write)?.next().is_some();
                if others {
                    let reason = "it exists and is no work folder: it holds files, but no job.json";
                    return Err(lacuna_io::Error::Refused {
                        file: folder,
                        reason,
                    }
                    .into());
                }
                fs::create_dir_all(&folder).map_err(write)?;
                write_file(&file, text.as_bytes())?;
            }
            Err(reason) => return Err(lacuna_io::Error::Read { file, reason }.into()),
        }
        Ok(Self {
            folder,
            id: sha256(text.as_bytes()),
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
        if entries.into_iter().all(|entry| entry.file_name() == JOB) {
            self.remove(0);
        }
    }

    /// Removes all files of the work, and the folder if it is then empty.
    pub fn remove(&self, blocks: usize) {
        self.journal().remove(blocks);
        let _ = fs::remove_file(self.folder.join(JOB));
        // Fails, and leaves the folder, if it holds files that are not ours.
        let _ = fs::remove_dir(&self.folder);
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.folder.to_string_lossy()))
    }
}
