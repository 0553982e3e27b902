//! Weight files open for reading.

use crate::{
    container::{DENSE_SUFFIX, Declared, KEY_PREFIX, declared},
    error::{Error, Result, quoted},
    index::{Files, Index, files},
    sections::{SUFFIXES, Section},
    shard::Shard,
    tensor::{TensorDtype, TensorInfo, weight_dtype},
};
use lacuna::format::Format;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

/// A safetensors file, or the shards of one, open for reading.
///
/// Opening reads and checks all headers; tensors are read one by one when asked
/// for, so that memory is bounded by the largest of them.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    index: Option<PathBuf>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) tensors: BTreeMap<String, Stored>,
    metadata: BTreeMap<String, String>,
    modules: BTreeMap<String, Module>,
}

/// Where a tensor is.
#[derive(Debug)]
pub(crate) struct Stored {
    pub shard: usize,
    pub dtype: TensorDtype,
    pub shape: Vec<usize>,
    pub range: Range<u64>,
}

/// A weight of a file: a dense tensor `P.weight` or the sections of another.
#[derive(Debug, Clone)]
pub struct Module {
    name: String,
    pub(crate) declared: Declared,
    bytes: u64,
}

impl Module {
    /// Its prefix `P`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its format, with the type of its values unless they are codes.
    pub const fn format(&self) -> Format {
        self.declared.format
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.declared.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.declared.cols
    }

    /// Bytes of all its tensors in the file.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is a plain tensor `P.weight`.
    pub const fn is_dense(&self) -> bool {
        matches!(self.declared.format, Format::Dense(_))
    }

    /// Names of its tensors.
    pub fn tensors(&self) -> Vec<String> {
        let sections = self.declared.sections().unwrap_or_default();
        sections
            .iter()
            .map(|s| format!("{}{}", self.name, s.suffix))
            .collect()
    }
}

impl WeightFile {
    /// Opens a `.safetensors` file, a shard index (`….json`), or a folder that
    /// holds `model.safetensors.index.json` or `model.safetensors`.
    ///
    /// # Errors
    /// Of [`Kind::Input`](crate::Kind::Input) only: what cannot be read, whatever a header claims
    /// that its file contradicts, a container of a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let Files { paths, index } = files(path)?;
        let mut file = Self {
            path: path.into(),
            index: index.as_ref().map(|i| i.path.clone()),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            modules: BTreeMap::new(),
        };
        for path in &paths {
            file.add_shard(path)?;
        }
        if let Some(index) = &index {
            file.check_index(index)?;
        }
        file.find_modules()?;
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

    fn find_modules(&mut self) -> Result<()> {
        let mut modules = BTreeMap::new();
        for (name, declared) in declared(&self.path, &self.metadata)? {
            self.check_sections(&name, declared)?;
            let dense = format!("{name}{DENSE_SUFFIX}");
            if self.tensors.contains_key(&dense) {
                let reason = format!(
                    "it is declared {} but {} is here too",
                    declared.format,
                    quoted(&dense)
                );
                return Err(Error::Module {
                    file: self.path.clone(),
                    module: name,
                    reason,
                });
            }
            modules.insert(name, declared);
        }
        for (tensor, stored) in &self.tensors {
            let name = tensor
                .strip_suffix(DENSE_SUFFIX)
                .filter(|name| !name.is_empty());
            let (Some(name), Some(dtype), &[rows, cols]) =
                (name, weight_dtype(stored.dtype), stored.shape.as_slice())
            else {
                continue;
            };
            if let Ok(declared) = Declared::new(Format::Dense(dtype), rows, cols) {
                modules.insert(name.to_owned(), declared);
            }
        }
        let module = |(name, declared): (String, Declared)| {
            let bytes = declared.bytes().unwrap_or_default();
            (
                name.clone(),
                Module {
                    name,
                    declared,
                    bytes,
                },
            )
        };
        self.modules = modules.into_iter().map(module).collect();
        Ok(())
    }

    fn check_sections(&self, module: &str, declared: Declared) -> Result<()> {
        let sections = declared.sections().map_err(|reason| Error::Module {
            file: self.path.clone(),
            module: module.to_owned(),
            reason,
        })?;
        self.check_no_others(module, declared, &sections)?;
        for section in sections {
            let tensor = format!("{module}{}", section.suffix);
            let stored = self.stored(&tensor)?;
            let (what, got, expected) = if stored.dtype != section.dtype {
                ("type", stored.dtype.to_string(), section.dtype.to_string())
            } else if stored.shape != section.shape {
                (
                    "shape",
                    format!("{:?}", stored.shape),
                    format!("{:?}", section.shape),
                )
            } else {
                continue;
            };
            return Err(Error::Tensor {
                file: self.file_of(stored),
                tensor,
                what,
                got,
                expected,
            });
        }
        Ok(())
    }

    /// Refuses sections that a quantised weight does not have, such as zeros of a symmetric
    /// one: a reader that went by them would get other values.
    fn check_no_others(&self, module: &str, declared: Declared, known: &[Section]) -> Result<()> {
        if declared.format.quant().is_none() {
            return Ok(());
        }
        let mut others = SUFFIXES
            .iter()
            .filter(|suffix| known.iter().all(|section| section.suffix != **suffix))
            .map(|suffix| format!("{module}{suffix}"));
        match others.find(|tensor| self.tensors.contains_key(tensor)) {
            None => Ok(()),
            Some(tensor) => Err(Error::Module {
                file: self.path.clone(),
                module: module.to_owned(),
                reason: format!(
                    "its format {} has no section {}, which is here",
                    declared.format,
                    quoted(&tensor)
                ),
            }),
        }
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

    /// The text entries of the header; of several shards, all of them.
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.tensors.iter().map(|(name, stored)| info(name, stored))
    }

    /// The tensors that belong to no weight, by name.
    pub fn plain_tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        let owned: BTreeSet<String> = self.modules.values().flat_map(Module::tensors).collect();
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

    /// One weight's description.
    ///
    /// # Errors
    /// [`Error::NoWeight`], of [`Kind::Usage`](crate::Kind::Usage).
    pub fn module(&self, name: &str) -> Result<&Module> {
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
                hint: hint.unwrap_or_default(),
            }
        })
    }

    /// Whether an output may go to `path` while this file is its input.
    ///
    /// The file itself may be replaced: outputs appear by renaming, after
    /// everything was read. One shard of several, or the index, may not, because
    /// the rest would be left without its counterpart.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn check_output(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if self.index.is_none() {
            return Ok(());
        }
        // What does not exist yet is none of the inputs.
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
