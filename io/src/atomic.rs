//! Files that appear complete or not at all.

use crate::error::{Error, Result};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};
use tempfile::NamedTempFile;

/// Writes `bytes` to a file that appears complete or not at all. A file at `path` is replaced.
///
/// # Errors
/// [`Error::Write`]; a file at the path is then unchanged.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let start = || {
        let mut file = temporary(path)?;
        file.write_all(bytes)?;
        Ok(file)
    };
    let file = start().map_err(|reason| Error::Write {
        file: path.into(),
        reason,
    })?;
    persist(file, path)
}

/// A new file in the folder of `path`.
pub(crate) fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lacuna-").suffix(".tmp");
    // Permissions like those of any new file; the default is private.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder(path))
}

/// Makes `file` durable and visible at `path`.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    let failed = |reason: io::Error| Error::Write {
        file: path.into(),
        reason,
    };
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
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
