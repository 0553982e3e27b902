//! Joins parts to the output, a file or the folder of a model.

use super::{
    plan::Part,
    report::Report,
    shards::{Shards, shard},
};
use crate::{error::Result, interrupt, progress};
use lacuna_io::{Output, WeightFile, check_place};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Name of the weights in a folder.
const WEIGHTS: &str = "model.safetensors";

/// Where the output goes, and what it is.
pub struct Place {
    path: PathBuf,
    folder: bool,
}

impl Place {
    /// An output at `path`: a folder for a model, unless the name is that of a file, and else a file.
    ///
    /// Replaces a regular file or an empty folder at `path`; refuses anything else there.
    pub fn new(path: &Path, model: bool) -> Result<Self> {
        let folder = model && !names_a_file(path);
        if !folder {
            check_place(path)?;
        }
        let metadata = path.metadata().ok();
        let reason = match &metadata {
            // A folder is put in place by renaming, which follows no link and replaces no mount.
            _ if folder && path.is_symlink() => Some("it is a link: name the folder it leads to"),
            Some(m) if folder && is_mount(path, m) => {
                Some("a volume is mounted there: name a folder in it")
            }
            Some(m) if folder && !m.is_dir() => Some("it exists and is no folder, as a model is"),
            Some(_) if folder && fs::read_dir(path).is_ok_and(|mut f| f.next().is_some()) => {
                Some("the folder exists and is not empty")
            }
            _ => None,
        };
        match reason {
            None => Ok(Self {
                path: path.into(),
                folder,
            }),
            Some(reason) => Err(lacuna_io::Error::Refused {
                file: path.into(),
                reason,
            }
            .into()),
        }
    }

    /// Joins the parts. `scratch` is a folder on the same file system.
    pub fn join(&self, shards: &Shards, scratch: &Path) -> Result<()> {
        self.put(
            scratch,
            |folder| shards.write_beside(folder),
            |file| weights(shards, file),
        )
    }

    /// Calls `weights` to write the weight file and, for a folder, `beside` to write the other files;
    /// the output appears complete or not at all. `scratch` is a folder on the same file system.
    pub fn put(
        &self,
        scratch: &Path,
        beside: impl FnOnce(&Path) -> Result<()>,
        weights: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let write = |reason| lacuna_io::Error::Write {
            file: self.path.clone(),
            reason,
        };
        // A run that was killed here left its own. The names are those of `is_leftover`.
        let made = tempfile::Builder::new()
            .prefix(".lacuna-")
            .suffix(".tmp")
            .tempdir_in(scratch)
            .map_err(write)?;
        let whole = made.path().join("whole");
        if self.folder {
            fs::create_dir(&whole).map_err(write)?;
            beside(&whole)?;
            weights(&whole.join(WEIGHTS))?;
            // Not every system can rename a folder onto an empty one.
            let _ = fs::remove_dir(&self.path);
        } else {
            weights(&whole)?;
        }
        fs::rename(&whole, &self.path).map_err(write)?;
        Ok(())
    }
}

/// Whether `path` lies on another file system than the folder it is in.
#[cfg(unix)]
fn is_mount(path: &Path, metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let around = path.canonicalize().and_then(|path| match path.parent() {
        Some(parent) => parent.metadata(),
        None => path.metadata(),
    });
    around.is_ok_and(|around| around.dev() != metadata.dev())
}

#[cfg(not(unix))]
const fn is_mount(_: &Path, _: &fs::Metadata) -> bool {
    false
}

/// The folder that `path` is in.
pub fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

/// Whether an output's name makes it a file even if the input is a model.
pub fn names_a_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

/// The report of all parts, each of which must be present and sound.
pub fn check(shards: &Shards) -> Result<Report> {
    let mut report = Report::default();
    let mut missing = vec![];
    for part in shards.parts()? {
        interrupt::check()?;
        match shards.check(part)? {
            Some(part) => report.append(part),
            None => missing.push(part),
        }
    }
    let Some(&first) = missing.first() else {
        return Ok(report);
    };
    let names: Vec<String> = missing.iter().map(Part::to_string).collect();
    let reason = format!(
        "it is missing; not done are {} of {} parts: {}",
        names.len(),
        shards.parts()?.len(),
        names.join(", ")
    );
    Err(shard(&shards.file(first), &reason))
}

/// Writes the tensors of all parts to one file, whose bytes depend only on them.
fn weights(shards: &Shards, path: &Path) -> Result<()> {
    let mut files: Vec<WeightFile> = vec![];
    let mut output = Output::new();
    for part in shards.parts()? {
        let file = shards.tensors(part)?;
        output.metadata(file.metadata());
        for module in file.modules() {
            output.weight(module.name(), module.format(), module.rows(), module.cols())?;
        }
        for tensor in file.plain_tensors() {
            output.tensor(tensor.name, tensor.dtype, tensor.shape)?;
        }
        files.push(file);
    }
    let bar = progress::bar(files.len());
    bar.set_message("joining");
    let mut writer = output.create(path)?;
    for file in &files {
        for module in file.modules() {
            interrupt::check()?;
            writer.weight(module.name(), &file.weight(module.name())?)?;
        }
        for tensor in file.plain_tensors() {
            interrupt::check()?;
            writer.tensor(tensor.name, &file.raw(tensor.name)?.bytes)?;
        }
        bar.inc(1);
    }
    writer.finish()?;
    bar.finish_and_clear();
    Ok(())
}
