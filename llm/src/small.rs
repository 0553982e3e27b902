//! Small files beside the weights, read whole.

use crate::error::{Error, Result};
use lacuna_io::{Error as FileError, read_small};
use std::{fs, io, path::Path};

/// The bytes of a regular file of at most `limit` of them; `None` where there is none.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn read(file: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match read_small(file, limit) {
        Err(FileError::Read { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read?)),
    }
}

/// [`read`] as text.
///
/// # Errors
/// Those of [`read`], and [`Error::Read`] for what is no UTF-8.
pub(crate) fn read_text(file: &Path, limit: u64) -> Result<Option<String>> {
    let text = |bytes| String::from_utf8(bytes).map_err(|e| failed(file, io::Error::other(e)));
    read(file, limit)?.map(text).transpose()
}

/// What is needed and not there, in the system's words.
pub(crate) fn missing(file: &Path) -> Error {
    let reason = fs::metadata(file).err();
    failed(file, reason.unwrap_or(io::ErrorKind::NotFound.into()))
}

fn failed(file: &Path, reason: io::Error) -> Error {
    Error::Read {
        file: file.into(),
        reason,
    }
}
