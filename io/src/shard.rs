//! One file of tensors, open for reading.

use crate::{
    error::{Error, Result},
    gguf::MAGIC,
    header::{Header, MAX_HEADER},
};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The first bytes of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";

/// An open file whose header was checked against its length.
///
/// Tensors are read on request, not mapped: if the file is cut meanwhile, reading gives an error,
/// where a mapping would end the process. The handle stays open, so a file that is replaced
/// meanwhile is still read as it was.
#[derive(Debug)]
pub(crate) struct Shard {
    pub path: PathBuf,
    file: Mutex<File>,
    data_start: u64,
}

impl Shard {
    /// Opens a safetensors file.
    pub fn open(path: &Path) -> Result<(Self, Header)> {
        let malformed = |reason: String| Error::Malformed {
            file: path.into(),
            reason,
        };
        let read = |reason: io::Error| Error::Read {
            file: path.into(),
            reason,
        };

        let (mut file, len) = open_regular(path)?;
        if len < 8 {
            return Err(malformed(format!(
                "{len} bytes are no safetensors file, which has at least 8"
            )));
        }
        let mut header_len = [0; 8];
        file.read_exact(&mut header_len).map_err(read)?;
        if header_len.starts_with(&MAGIC.to_le_bytes()) {
            let reason = "it is a GGUF file, and safetensors were expected; a GGUF file is named ….gguf, \
                          and inspected, compressed and run as a model";
            return Err(malformed(reason.into()));
        }
        if header_len.starts_with(ZIP) {
            let reason = "it is a zip archive, as torch.save writes, not safetensors";
            return Err(malformed(reason.into()));
        }
        let header_len = u64::from_le_bytes(header_len);
        let limit = MAX_HEADER.min(len - 8);
        if header_len > limit {
            return Err(malformed(format!(
                "it is no safetensors file, or a broken one: the header length is {header_len}, the \
                 limit is {limit}"
            )));
        }
        let mut json = vec![0; header_len as usize];
        file.read_exact(&mut json).map_err(read)?;
        let data_start = 8 + header_len;
        let header = Header::parse(&json, len - data_start).map_err(malformed)?;
        Ok((Self::new(path, file, data_start), header))
    }

    /// A file whose header was read; its tensors begin at byte `data_start`.
    pub fn new(path: &Path, file: File, data_start: u64) -> Self {
        Self {
            path: path.into(),
            file: Mutex::new(file),
            data_start,
        }
    }

    /// The bytes of `tensor`, at `range` of the tensor data.
    pub fn read(&self, tensor: &str, range: &Range<u64>) -> Result<Vec<u8>> {
        let data = self.data_start;
        self.read_at(tensor, &(data + range.start..data + range.end))
    }

    /// The bytes at `range` of the file; `what` is for messages.
    pub fn read_at(&self, what: &str, range: &Range<u64>) -> Result<Vec<u8>> {
        let read = |reason: io::Error| Error::Read {
            file: self.path.clone(),
            reason,
        };
        let expected = range.end - range.start;
        let mut bytes = Vec::new();
        let room = usize::try_from(expected)
            .ok()
            .map(|n| bytes.try_reserve_exact(n));
        if !matches!(room, Some(Ok(()))) {
            return Err(Error::OutOfMemory {
                file: self.path.clone(),
                tensor: what.into(),
                bytes: expected,
            });
        }
        // A poisoned lock is harmless: every read seeks first.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start)).map_err(read)?;
        let got = (&mut *file)
            .take(expected)
            .read_to_end(&mut bytes)
            .map_err(read)? as u64;
        if got != expected {
            return Err(Error::Truncated {
                file: self.path.clone(),
                tensor: what.into(),
                got,
                expected,
            });
        }
        Ok(bytes)
    }
}

/// The bytes of a regular file that has at most `limit` of them.
///
/// # Errors
/// [`Error::Read`], and [`Error::Malformed`] for anything else.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, len) = open_regular(path)?;
    if len > limit {
        let reason = format!("it takes {len} bytes, the limit is {limit}");
        return Err(Error::Malformed {
            file: path.into(),
            reason,
        });
    }
    let mut bytes = vec![];
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map_err(|reason| Error::Read {
        file: path.into(),
        reason,
    })?;
    Ok(bytes)
}

/// Opens a regular file and returns its length. Pipes and devices are refused before they are
/// opened, because opening one may already block for ever.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let read = |reason: io::Error| Error::Read {
        file: path.into(),
        reason,
    };
    if !fs::metadata(path).map_err(read)?.is_file() {
        let reason = "it is neither a regular file nor a folder".into();
        return Err(Error::Malformed {
            file: path.into(),
            reason,
        });
    }
    let file = File::open(path).map_err(read)?;
    let len = file.metadata().map_err(read)?.len();
    Ok((file, len))
}
