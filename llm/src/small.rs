//! Small files beside the weights, read whole.

use crate::error::{Error, Result};
use std::{fs, io, path::Path};

/// The bytes of a regular file; `None` where there is none.
///
/// # Errors
/// [`Error::Read`], and [`Error::Malformed`] for anything but a regular file of at most `limit` bytes.
pub(crate) fn read(file: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let malformed = |reason| Error::Malformed {
        file: file.into(),
        reason,
    };
    let metadata = match fs::metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(|e| failed(file, e))?,
    };
    if !metadata.is_file() {
        return Err(malformed("it is no regular file".into()));
    }
    let len = metadata.len();
    if len > limit {
        return Err(malformed(format!(
            "it has {len} bytes, the limit is {limit}"
        )));
    }
    fs::read(file).map(Some).map_err(|e| failed(file, e))
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
