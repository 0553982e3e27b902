//! Telling files apart without reading all of them.

use crate::{
    error::{Error, Result},
    shard::open_regular,
};
use sha2::{Digest, Sha256};
use std::{
    fmt::{self, Write},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes that are hashed at the beginning of a file, where headers are.
const HEAD: u64 = 1 << 20;
/// Bytes that are hashed at each of the evenly spaced places after the head, the fewest places, and the most bytes
/// from one to the next.
const PLACE: u64 = 1 << 10;
const PLACES: u64 = 1024;
const STEP: u64 = 1 << 18;

/// Length and hash of a file; its name does not count.
///
/// Of a long file, the first MiB and 1 KiB at each of evenly spaced places are hashed: 1024 places, or one every
/// 256 KiB. In little time this tells apart files of the same header and length, such as two trainings of one
/// model. What changes less than 256 KiB may be missed, and someone who wants two files to look the same will succeed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    bytes: u64,
    hash: String,
}

impl Fingerprint {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Malformed`] if it is no regular file.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (mut file, bytes) = open_regular(path)?;
        let hash = sampled(&mut file, bytes).map_err(|reason| Error::Read {
            file: path.into(),
            reason,
        })?;
        Ok(Self { bytes, hash })
    }
}

/// `<bytes> bytes <SHA-256, in part>`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes {}", self.bytes, self.hash)
    }
}

fn sampled(file: &mut File, len: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut file.take(HEAD), &mut hash)?;
    let rest = len.saturating_sub(HEAD);
    let places = PLACES.max(rest.div_ceil(STEP) + 1);
    if rest <= PLACES * PLACE {
        io::copy(&mut file.take(rest), &mut hash)?;
    } else {
        for place in 0..places {
            // The last place ends where the file does.
            let at = u128::from(rest - PLACE) * u128::from(place) / u128::from(places - 1);
            file.seek(SeekFrom::Start(HEAD + at as u64))?;
            io::copy(&mut file.take(PLACE), &mut hash)?;
        }
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of `bytes`, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of the whole file at `path`, in hexadecimal digits.
///
/// # Errors
/// [`Error::Read`], and [`Error::Malformed`] if it is no regular file.
pub fn sha256_of_file(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let (mut file, _) = open_regular(path)?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(|reason| Error::Read {
        file: path.into(),
        reason,
    })?;
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Fingerprint {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).expect("a file");
        Fingerprint::of(path).expect("a fingerprint")
    }

    #[test]
    fn files_differ_in_length_header_and_whatever_training_changes() {
        let mut long = vec![7u8; (HEAD + 3 * PLACES * PLACE + 5) as usize];
        let first = of(&long);
        assert_eq!(first, of(&long));
        let last = long.len() - 1;
        long[last] = 8;
        assert_ne!(first, of(&long), "the last byte is hashed");
        long[last] = 7;
        long[0] = 8;
        assert_ne!(first, of(&long), "the first byte is hashed");
        long[0] = 7;
        long.push(7);
        assert_ne!(first, of(&long));
    }

    #[test]
    fn short_files_are_hashed_whole() {
        // The test vector of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(b"abc").to_string(), format!("3 bytes {abc}"));
        let mut bytes = vec![1u8; (HEAD + PLACES * PLACE) as usize];
        let first = of(&bytes);
        let inside = (HEAD + PLACE + 1) as usize;
        bytes[inside] = 2;
        assert_ne!(first, of(&bytes));
    }
}
