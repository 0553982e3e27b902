//! The work folder: the finished parts of a job, one file each.
//!
//! ```text
//! OUT.parts/
//!   job.json                    the job that the work belongs to
//!   beside/config.json …        the files of a model beside its weights
//!   layer-00000.safetensors     the tensors of a layer; those of no layer are in `rest`
//!   layer-00000.json            marks it complete: its hash, the job's hash, the report
//! ```
//!
//! Every file appears by renaming, the report after the tensors. So a part with a report is complete,
//! however the run that wrote it ended.

use super::{
    job::{self, JOB, Job},
    plan::Part,
    report::Report,
};
use crate::error::{Error, Result};
use lacuna_io::{WeightFile, printable, sha256, sha256_of_file, write_file};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const BESIDE: &str = "beside";

/// A work folder.
pub struct Shards {
    folder: PathBuf,
    job: Job,
    /// SHA-256 of the job's text.
    id: String,
}

/// Marks a part as complete.
#[derive(Serialize, Deserialize)]
struct Record<R> {
    /// SHA-256 of the job.
    job: String,
    /// SHA-256 of the tensors' file.
    sha256: String,
    report: R,
}

impl Shards {
    /// Creates the folder, or continues one of the same job.
    pub fn create(folder: &Path, job: Job, beside: &[(String, Vec<u8>)]) -> Result<Self> {
        job::claim(folder, &job, read_job)?;
        let shards = Self::of(folder, job);
        if !beside.is_empty() {
            let folder = shards.beside("");
            fs::create_dir_all(&folder).map_err(|reason| lacuna_io::Error::Write {
                file: folder,
                reason,
            })?;
        }
        for (name, bytes) in beside {
            write_file(shards.beside(name), bytes)?;
        }
        Ok(shards)
    }

    /// Opens a folder that was made elsewhere.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join(JOB);
        if !file.exists() {
            return Err(shard(
                folder,
                "it is no work folder of `compress --layers`: it holds no job.json",
            ));
        }
        Ok(Self::of(folder, read_job(&file)?))
    }

    fn of(folder: &Path, job: Job) -> Self {
        Self {
            folder: folder.into(),
            id: sha256(job::to_text(&job).as_bytes()),
            job,
        }
    }

    /// The parts of the job, layers first.
    pub fn parts(&self) -> Result<Vec<Part>> {
        let part = |name: &String| {
            let reason = || format!("it lists the part \"{}\"", printable(name));
            name.parse()
                .map_err(|()| shard(&self.folder.join(JOB), &reason()))
        };
        let mut parts: Vec<Part> = self.job.parts.iter().map(part).collect::<Result<_>>()?;
        parts.sort_unstable();
        Ok(parts)
    }

    /// The file of a part's tensors.
    pub fn file(&self, part: Part) -> PathBuf {
        self.folder.join(format!("{part}.safetensors"))
    }

    fn record(&self, part: Part) -> PathBuf {
        self.folder.join(format!("{part}.json"))
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(BESIDE).join(name)
    }

    /// Marks the file of a part as complete.
    pub fn done(&self, part: Part, report: &Report) -> Result<()> {
        let record = Record {
            job: self.id.clone(),
            sha256: sha256_of_file(self.file(part))?,
            report,
        };
        let text = serde_json::to_string_pretty(&record).expect("finite numbers are JSON") + "\n";
        Ok(write_file(self.record(part), text.as_bytes())?)
    }

    /// The report of a part that is done and sound; `None` if it is not done.
    ///
    /// Fails if the part is corrupt or belongs to another job.
    pub fn check(&self, part: Part) -> Result<Option<Report>> {
        let (file, path) = (self.file(part), self.record(part));
        if !path.exists() {
            return Ok(None);
        }
        let record: Record<Report> = serde_json::from_str(&read_text(&path)?)
            .map_err(|e| shard(&path, &format!("it is no report of a part: {e}")))?;
        if record.job != self.id {
            let reason = "it belongs to another job than the job.json beside it";
            return Err(shard(&path, reason));
        }
        if !file.exists() {
            return Err(shard(&file, "it is missing, though its report is here"));
        }
        let found = sha256_of_file(&file)?;
        if found != record.sha256 {
            let expected = printable(&record.sha256);
            let reason = format!("it is corrupt: its SHA-256 is {found}, its report's {expected}");
            return Err(shard(&file, &reason));
        }
        Ok(Some(record.report))
    }

    /// The tensors of a part.
    pub fn tensors(&self, part: Part) -> Result<WeightFile> {
        Ok(WeightFile::open(self.file(part))?)
    }

    /// Whether the job is a model with files beside its weights.
    pub fn is_model(&self) -> bool {
        !self.job.beside.is_empty()
    }

    /// Writes the files beside the weights to `folder`, which exists.
    pub fn write_beside(&self, folder: &Path) -> Result<()> {
        for (name, expected) in &self.job.beside {
            let file = self.beside(name);
            let plain = Path::new(name)
                .file_name()
                .is_some_and(|n| n == name.as_str());
            let bytes = fs::read(&file).map_err(|reason| lacuna_io::Error::Read {
                file: file.clone(),
                reason,
            })?;
            if !plain || sha256(&bytes) != *expected {
                return Err(shard(&file, "it is not the file that the job names"));
            }
            write_file(folder.join(name), &bytes)?;
        }
        Ok(())
    }

    /// Removes the folder's content if no part is done.
    pub fn remove_if_nothing_is_done(&self) {
        let parts = self.parts().unwrap_or_default();
        if !parts.into_iter().any(|part| self.record(part).exists()) {
            self.remove();
        }
    }

    /// Removes all files of the work, and the folder if it is then empty.
    pub fn remove(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            if stem.parse::<Part>().is_ok() {
                let _ = fs::remove_file(&path);
            }
        }
        for name in self.job.beside.keys() {
            let _ = fs::remove_file(self.beside(name));
        }
        let _ = fs::remove_dir(self.beside(""));
        job::remove(&self.folder);
    }
}

/// The error for a file of a work folder that is missing or unsound.
pub fn shard(file: &Path, reason: &str) -> Error {
    Error::Shard {
        file: printable(&file.to_string_lossy()),
        reason: printable(reason),
    }
}

fn read_job(file: &Path) -> Result<Job> {
    Job::parse(&read_text(file)?).map_err(|reason| shard(file, &format!("it is no job: {reason}")))
}

fn read_text(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|reason| match reason.kind() {
        io::ErrorKind::InvalidData => shard(file, "it is no text"),
        _ => lacuna_io::Error::Read {
            file: file.into(),
            reason,
        }
        .into(),
    })
}
