//! Files that appear complete or not at all.

use crate::error::{Error, Result};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};
use tempfile::{NamedTempFile, PersistError};

/// How the names of files begin and end that are on their way to their own.
const TEMPORARY: (&str, &str) = (".lacuna-", ".tmp");

/// Writes `bytes` to a file that appears complete or not at all. A file at `path` is replaced.
///
/// # Errors
/// [`Error::Write`]; a file at the path is then unchanged.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    persist(filled(path, bytes)?, path)
}

/// [`write_file`] unless there is a file at `path`, which then stays. Returns whether it was written.
///
/// # Errors
/// [`Error::Write`].
pub fn write_new_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<bool> {
    let path = path.as_ref();
    match put(path, filled(path, bytes)?, NamedTempFile::persist_noclobber) {
        Err(Error::Write { reason, .. }) if reason.kind() == io::ErrorKind::AlreadyExists => {
            Ok(false)
        }
        put => put.map(|()| true),
    }
}

/// Whether a name is that of a file on its way to its own. A run that was killed leaves such files.
pub fn is_leftover(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)
}

/// A new file in the folder of `path`, with these bytes.
fn filled(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let start = || {
        let mut file = temporary(path)?;
        file.write_all(bytes)?;
        Ok(file)
    };
    start().map_err(|reason| Error::Write {
        file: path.into(),
        reason,
    })
}

/// A new file in the folder of `path`.
pub(crate) fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
    // Permissions like those of any new file; the default is private.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder(path))
}

/// Makes `file` durable and visible at `path`.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    put(path, file, NamedTempFile::persist)
}

/// [`persist`] with `rename` as the way to the name.
fn put(
    path: &Path,
    file: NamedTempFile,
    rename: fn(NamedTempFile, PathBuf) -> Result<File, PersistError>,
) -> Result<()> {
    let failed = |reason: io::Error| Error::Write {
        file: path.into(),
        reason,
    };
    file.as_file().sync_all().map_err(failed)?;
    rename(file, path.into()).map_err(|e| failed(e.error))?;
    // The name is durable once the folder is synced. Not every system can do that, but the file is
    // complete either way.
    let _ = File::open(folder(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}
