//! Reading a GGUF header front to back.

use crate::error::{Error, Result, quoted};
use std::{
    fmt::Arguments,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

/// A position in a header, and the byte that it must not pass.
///
/// Lengths come from the file, so nothing is allocated before the file is known to have that many
/// bytes left.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    file: BufReader<&'a File>,
    at: u64,
    limit: u64,
}

impl<'a> Cursor<'a> {
    /// Starts at byte 0 of `file`; `limit` is at most its length.
    pub fn new(path: &'a Path, file: &'a File, limit: u64) -> Self {
        Self {
            path,
            file: BufReader::new(file),
            at: 0,
            limit,
        }
    }

    pub const fn at(&self) -> u64 {
        self.at
    }

    pub const fn left(&self) -> u64 {
        self.limit - self.at
    }

    pub fn malformed(&self, reason: String) -> Error {
        Error::Malformed {
            file: self.path.into(),
            reason,
        }
    }

    /// Appends the next `count` items of `size` bytes to `bytes`.
    pub fn append(
        &mut self,
        bytes: &mut Vec<u8>,
        count: u64,
        size: u64,
        what: Arguments<'_>,
    ) -> Result<()> {
        let left = self.left();
        let Some(len) = count.checked_mul(size).filter(|&len| len <= left) else {
            let (at, limit) = (self.at, self.limit);
            return Err(self.malformed(format!(
                "{what}: {count} x {size} bytes from byte {at} go past byte {limit}, the end of the file or of the longest header"
            )));
        };
        let read = (&mut self.file)
            .take(len)
            .read_to_end(bytes)
            .map_err(|reason| Error::Read {
                file: self.path.into(),
                reason,
            })?;
        if read as u64 != len {
            return Err(self.malformed(format!(
                "{what}: {read} bytes are left of {len}; the file was cut while it was read"
            )));
        }
        self.at += len;
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: Arguments<'_>) -> Result<[u8; N]> {
        let mut bytes = Vec::with_capacity(N);
        self.append(&mut bytes, 1, N as u64, what)?;
        Ok(bytes.try_into().expect("as many bytes as were asked for"))
    }

    pub fn u32(&mut self, what: Arguments<'_>) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: Arguments<'_>) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Reads the number of items that take at least `size` bytes each.
    pub fn count(&mut self, size: u64, what: &'static str) -> Result<u64> {
        let count = self.u64(format_args!("{what}"))?;
        let limit = self.left() / size;
        if count > limit {
            return Err(self.malformed(format!(
                "{what} is {count}, the limit is {limit}: the header has {} bytes left",
                self.left()
            )));
        }
        Ok(count)
    }

    /// Reads a text, which follows its length.
    pub fn string(&mut self, what: Arguments<'_>) -> Result<String> {
        let len = self.u64(format_args!("the length of {what}"))?;
        let mut bytes = Vec::new();
        self.append(&mut bytes, len, 1, what)?;
        String::from_utf8(bytes).map_err(|e| {
            let text = quoted(&String::from_utf8_lossy(e.as_bytes()));
            self.malformed(format!("{what}, {text}, is not UTF-8"))
        })
    }
}
