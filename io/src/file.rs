//! Weight files open for reading.

use crate::{
    container::{DENSE_SUFFIX, KEY_PREFIX},
    error::{Error, Result, quoted},
    index::{Files, Index, files},
    layout::{Convention, Quantization, ZeroPoints},
    modules::{Module, Refused},
    shard::Shard,
    tensor::{TensorDtype, TensorInfo},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

/// A safetensors file, or the shards of one, open for reading.
///
/// Opening reads and checks all headers. Tensors are read one by one on request, so the largest
/// of them bounds the memory needed.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    index: Option<PathBuf>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) tensors: BTreeMap<String, Stored>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) modules: BTreeMap<String, Module>,
    pub(crate) refused: BTreeMap<String, Refused>,
    /// What `config.json` says about weights of other programs, if there are any.
    pub(crate) quantization: Box<Quantization>,
    pub(crate) convention: Convention,
}

/// What the caller knows about a file that the file itself does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// How it stores the zero points of GPTQ.
    pub gptq_zeros: Option<ZeroPoints>,
}

impl Reading {
    /// Sets how zero points of GPTQ are stored, whatever the file suggests.
    #[must_use]
    pub const fn with_gptq_zeros(mut self, zeros: Option<ZeroPoints>) -> Self {
        self.gptq_zeros = zeros;
        self
    }
}

/// Where a tensor is.
#[derive(Debug)]
pub(crate) struct Stored {
    pub shard: usize,
    pub dtype: TensorDtype,
    pub shape: Vec<usize>,
    pub range: Range<u64>,
}

impl WeightFile {
    /// Opens a `.safetensors` file, a shard index (`….json`), or a folder that
    /// holds `model.safetensors.index.json`, `model.safetensors` or one other `.safetensors`.
    ///
    /// # Errors
    /// Only of [`Kind::Input`](crate::Kind::Input): the file cannot be read, it contradicts a header,
    /// or it is a container of a newer version. An unreadable weight in another program's layout is
    /// no error here; see [`refused`](Self::refused).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_as(path, Reading::default())
    }

    /// Opens a file with what the caller knows about it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as(path: impl AsRef<Path>, reading: Reading) -> Result<Self> {
        let path = path.as_ref();
        let Files { paths, index } = files(path)?;
        let mut file = Self {
            path: path.into(),
            index: index.as_ref().map(|i| i.path.clone()),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            modules: BTreeMap::new(),
            refused: BTreeMap::new(),
            quantization: Box::default(),
            convention: Convention::default(),
        };
        for path in &paths {
            file.add_shard(path)?;
        }
        if let Some(index) = &index {
            file.check_index(index)?;
        }
        file.find_modules(reading)?;
        Ok(file)
    }

    fn add_shard(&mut self, path: &Path) -> Result<()> {
        let (shard, header) = Shard::open(path)?;
        let malformed = |reason: String| Error::Malformed {
            file: path.into(),
            reason,
        };
        for (name, entry) in header.tensors {
            if let Some(other) = self.tensors.get(&name) {
                let other = crate::printable(&self.shards[other.shard].path.to_string_lossy());
                return Err(malformed(format!(
                    "tensor {} is also in {other}",
                    quoted(&name)
                )));
            }
            let (from, to) = entry.data_offsets;
            let stored = Stored {
                shard: self.shards.len(),
                dtype: entry.dtype,
                shape: entry.shape,
                range: from as u64..to as u64,
            };
            self.tensors.insert(name, stored);
        }
        for (key, text) in header.metadata {
            let first = self
                .metadata
                .entry(key.clone())
                .or_insert_with(|| text.clone());
            if *first != text && key.starts_with(KEY_PREFIX) {
                return Err(malformed(format!(
                    "{} differs from another shard's",
                    quoted(&key)
                )));
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    fn check_index(&self, index: &Index) -> Result<()> {
        for (tensor, &shard) in &index.tensors {
            if self.tensors.get(tensor).is_none_or(|t| t.shard != shard) {
                let file = self.shards[shard].path.clone();
                return Err(Error::NoTensor {
                    file,
                    tensor: tensor.clone(),
                });
            }
        }
        Ok(())
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files it consists of: the index, where there is one, and every file of tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let shards = self.shards.iter().map(|shard| &shard.path);
        self.index.iter().chain(shards).map(PathBuf::as_path)
    }

    /// The text entries of the header, or of all headers if there are several shards.
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.tensors.iter().map(|(name, stored)| info(name, stored))
    }

    /// The tensors that belong to no weight, by name.
    pub fn plain_tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        let owned: BTreeSet<String> = self.modules().flat_map(Module::tensors).collect();
        self.tensors()
            .filter(move |tensor| !owned.contains(tensor.name))
    }

    /// What the header says of one tensor.
    pub fn tensor(&self, name: &str) -> Option<TensorInfo<'_>> {
        self.tensors
            .get_key_value(name)
            .map(|(name, stored)| info(name, stored))
    }

    /// All weights, by name.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.values()
    }

    /// Weights in a layout of another program that cannot be read, by name. Their tensors count as
    /// [plain](Self::plain_tensors).
    pub fn refused(&self) -> impl Iterator<Item = &Refused> {
        self.refused.values()
    }

    /// Fails if any weight cannot be read, for callers that need all of them.
    ///
    /// # Errors
    /// [`Error::Layout`] for the first of [`refused`](Self::refused).
    pub fn check_readable(&self) -> Result<()> {
        match self.refused.values().next() {
            None => Ok(()),
            Some(refused) => Err(refused.error(&self.path)),
        }
    }

    /// The description of one weight.
    ///
    /// # Errors
    /// [`Error::NoWeight`], of [`Kind::Usage`](crate::Kind::Usage); [`Error::Layout`] if it cannot be
    /// read.
    pub fn module(&self, name: &str) -> Result<&Module> {
        if let Some(refused) = self.refused.get(name) {
            return Err(refused.error(&self.path));
        }
        self.modules.get(name).ok_or_else(|| {
            let hint = self.tensors.get(&format!("{name}{DENSE_SUFFIX}")).map(|t| {
                format!(
                    "; its tensor is {} {:?}, a weight is two-dimensional F32, F16 or BF16 and not empty",
                    t.dtype, t.shape
                )
            });
            Error::NoWeight {
                file: self.path.clone(),
                module: name.into(),
                hint: hint.unwrap_or_else(|| self.similar(name)),
            }
        })
    }

    /// Weights whose names hold the last words of `name`, for a message.
    fn similar(&self, name: &str) -> String {
        let name = name.strip_suffix(DENSE_SUFFIX).unwrap_or(name);
        let last = name.rsplit('.').next().unwrap_or(name);
        let near = |part: &str| {
            let names = self.modules.keys().filter(|m| m.contains(part));
            names.take(2).map(|m| quoted(m)).collect::<Vec<_>>()
        };
        let found = Some(near(name)).filter(|all| !all.is_empty());
        let found = found.unwrap_or_else(|| if last.is_empty() { vec![] } else { near(last) });
        if found.is_empty() {
            return String::new();
        }
        format!("; there is {}", found.join(", "))
    }

    /// Checks that an output may go to `path` while this file is its input.
    ///
    /// The file itself may be replaced, because outputs appear by renaming, after everything was
    /// read. One of several shards, or the index, may not: the rest would be left without its
    /// counterpart.
    ///
    /// # Errors
    /// [`Error::Refused`] if it may not.
    pub fn check_output(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if self.index.is_none() {
            return Ok(());
        }
        // A path that does not exist yet is not an input.
        let Ok(target) = path.canonicalize() else {
            return Ok(());
        };
        if self
            .files()
            .any(|input| input.canonicalize().is_ok_and(|input| input == target))
        {
            let reason = "it is one of several files of the input";
            return Err(Error::Refused {
                file: path.into(),
                reason,
            });
        }
        Ok(())
    }

    pub(crate) fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| Error::NoTensor {
            file: self.path.clone(),
            tensor: name.into(),
        })
    }

    pub(crate) fn file_of(&self, stored: &Stored) -> PathBuf {
        self.shards[stored.shard].path.clone()
    }
}

fn info<'a>(name: &'a str, stored: &'a Stored) -> TensorInfo<'a> {
    let bytes = stored.range.end - stored.range.start;
    TensorInfo {
        name,
        dtype: stored.dtype,
        shape: &stored.shape,
        bytes,
    }
}
