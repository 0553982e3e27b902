//! Writing safetensors files, all or nothing.

use crate::{
    atomic,
    container::{CONTAINER_VERSION, Declared, KEY_PREFIX, THRESHOLDS_KEY, VERSION_KEY},
    error::{Error, Result},
    header::Header,
    layout::packed::write::PackedWeight,
    sections::section_bytes,
    tensor::{RawTensor, TensorDtype, byte_len},
};
use lacuna::format::{Codes, Format, Matrix};
use safetensors::tensor::TensorInfo as Entry;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// The declared content of a file that will be written.
///
/// Types and shapes are declared first, because the header precedes the tensors. Their bytes then
/// go to [`Writer`] in any order, so only one tensor at a time has to be in memory.
#[derive(Debug, Default)]
pub struct Output {
    tensors: BTreeMap<String, (TensorDtype, Vec<usize>)>,
    modules: BTreeMap<String, Declared>,
    packed: BTreeMap<String, PackedWeight>,
    metadata: BTreeMap<String, String>,
    bytes: usize,
}

impl Output {
    /// An output with nothing declared.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the text entries of another file's header, except those of the container, which
    /// [`weight`](Self::weight) writes itself.
    pub fn metadata(&mut self, entries: &BTreeMap<String, String>) {
        let foreign = entries
            .iter()
            .filter(|(key, _)| !key.starts_with(KEY_PREFIX));
        self.metadata
            .extend(foreign.map(|(key, text)| (key.clone(), text.clone())));
    }

    /// Adds an entry of the container.
    pub(crate) fn own_entry(&mut self, key: &str, text: String) {
        let version = (VERSION_KEY.into(), CONTAINER_VERSION.to_string());
        self.metadata.extend([version, (key.into(), text)]);
    }

    /// Declares a tensor.
    ///
    /// # Errors
    /// [`Error::Plan`] if the name is taken or the size overflows.
    pub fn tensor(&mut self, name: &str, dtype: TensorDtype, shape: &[usize]) -> Result<()> {
        let Some(len) = byte_len(dtype, shape) else {
            return Err(plan(
                name,
                format!("{dtype} {shape:?} is no whole number of bytes"),
            ));
        };
        let Some(bytes) = self.bytes.checked_add(len) else {
            return Err(plan(
                name,
                format!("{len} more bytes do not fit in one file"),
            ));
        };
        if name == "__metadata__" || self.tensors.contains_key(name) {
            return Err(plan(name, "the name is taken".into()));
        }
        self.tensors.insert(name.into(), (dtype, shape.to_vec()));
        self.bytes = bytes;
        Ok(())
    }

    /// Declares a weight: `P.weight` for a dense format, otherwise the sections of the format.
    ///
    /// # Errors
    /// [`Error::Plan`] if a name is taken, if `format` names no value type, if a dimension is 0 or
    /// beyond u32, or if a sparse module is called `version` or `thresholds`, because these entries
    /// of the header describe the container itself.
    pub fn weight(&mut self, module: &str, format: Format, rows: usize, cols: usize) -> Result<()> {
        let sparse = !matches!(format, Format::Dense(_));
        let key = format!("{KEY_PREFIX}{module}");
        let taken = [VERSION_KEY, THRESHOLDS_KEY].contains(&key.as_str());
        if module.is_empty() || sparse && taken {
            return Err(plan(module, "a weight cannot have this name".into()));
        }
        let declared = Declared::new(format, rows, cols).map_err(|reason| plan(module, reason))?;
        for section in declared.sections().map_err(|reason| plan(module, reason))? {
            self.tensor(
                &format!("{module}{}", section.suffix),
                section.dtype,
                &section.shape,
            )?;
        }
        if sparse {
            let (key, text) = declared.widest_entry(module);
            self.own_entry(&key, text);
        }
        self.modules.insert(module.into(), declared);
        Ok(())
    }

    /// Declares a weight of codes in the layout `pack-quantized` of compressed-tensors, for programs
    /// that know nothing of containers. Columns and groups that the weight does not keep get codes
    /// that stand for 0. `factor` is that of its [`Codes`].
    ///
    /// # Errors
    /// [`Error::Plan`] if a name is taken, if [`packs_quantized`](crate::packs_quantized) says no, or if a dimension is
    /// 0 or beyond u32.
    pub fn pack_quantized(
        &mut self,
        module: &str,
        format: Format,
        rows: usize,
        cols: usize,
        factor: f32,
    ) -> Result<()> {
        Declared::new(format, rows, cols).map_err(|reason| plan(module, reason))?;
        let packed = PackedWeight::new(format, rows, cols, factor).ok_or_else(|| {
            let what = match format.quant() {
                Some(quant) if quant.real_zeros() => "has zeros that are no codes",
                Some(_) => "has groups that do not divide the columns",
                None => "has no codes",
            };
            plan(module, format!("format {format} of {cols} columns {what}"))
        })?;
        for section in packed.sections() {
            let tensor = format!("{module}{}", section.suffix);
            self.tensor(&tensor, section.dtype, &section.shape)?;
        }
        self.packed.insert(module.into(), packed);
        Ok(())
    }

    /// Starts the file that will appear at `path` when the writer is finished.
    ///
    /// The bytes go to a temporary file in the same folder. When the writer is finished, a file at
    /// `path` is replaced, even if it is an input that is still open. A link at `path` is itself
    /// replaced, not what it points to.
    ///
    /// # Errors
    /// Those of [`check_place`]; [`Error::Write`].
    pub fn create(self, path: impl AsRef<Path>) -> Result<Writer> {
        let path = path.as_ref();
        check_place(path)?;
        let (header, offsets) = self.layout();
        // Factors are known only with the weights, so this header has the widest; `finish` replaces it.
        let bytes = header
            .to_bytes(0)
            .map_err(|reason| plan("__metadata__", reason))?;
        let data_start = bytes.len() as u64;

        let start = || {
            let mut file = atomic::temporary(path)?;
            file.write_all(&bytes)?;
            Ok(file)
        };
        let file = start().map_err(|reason| Error::Write {
            file: path.into(),
            reason,
        })?;
        let slots = offsets
            .into_iter()
            .map(|(name, (from, to))| (name, (data_start + from as u64, to - from)))
            .collect();
        Ok(Writer {
            path: path.into(),
            file,
            header,
            data_start,
            slots,
            modules: self.modules,
            packed: self.packed,
            written: BTreeMap::new(),
        })
    }

    /// Gives every tensor its place: by descending element size, so that each is aligned, then by
    /// name.
    fn layout(&self) -> (Header, BTreeMap<String, (usize, usize)>) {
        let mut order: Vec<_> = self.tensors.iter().collect();
        order.sort_by_key(|(_, (dtype, _))| std::cmp::Reverse(*dtype));
        let mut header = Header {
            metadata: self.metadata.clone(),
            tensors: BTreeMap::new(),
        };
        let (mut offsets, mut end) = (BTreeMap::new(), 0);
        for (name, (dtype, shape)) in order {
            let from = end;
            end += byte_len(*dtype, shape).unwrap_or_default();
            let entry = Entry {
                dtype: *dtype,
                shape: shape.clone(),
                data_offsets: (from, end),
            };
            header.tensors.insert(name.clone(), entry);
            offsets.insert(name.clone(), (from, end));
        }
        (header, offsets)
    }
}

/// A file being written. If it is dropped before [`finish`](Self::finish), nothing of it is left.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: NamedTempFile,
    header: Header,
    data_start: u64,
    /// Position in the file and length of every tensor.
    slots: BTreeMap<String, (u64, usize)>,
    modules: BTreeMap<String, Declared>,
    packed: BTreeMap<String, PackedWeight>,
    /// Bytes written of each tensor.
    written: BTreeMap<String, usize>,
}

impl Writer {
    /// Writes the bytes of a declared tensor.
    ///
    /// # Errors
    /// [`Error::Plan`] if it was not declared, was written before or has another length;
    /// [`Error::Write`].
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(&(position, len)) = self.slots.get(name) else {
            return Err(plan(name, "it was not declared".into()));
        };
        if bytes.len() != len {
            return Err(plan(
                name,
                format!("{} bytes were given, {len} declared", bytes.len()),
            ));
        }
        if self.written.contains_key(name) {
            return Err(plan(name, "it was written before".into()));
        }
        self.write(name, position, bytes)
    }

    /// Writes the next bytes of a declared tensor, after those written so far, for a tensor that is
    /// too large for memory.
    ///
    /// # Errors
    /// [`Error::Plan`] if it was not declared or would get more bytes than declared; [`Error::Write`].
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(&(position, len)) = self.slots.get(name) else {
            return Err(plan(name, "it was not declared".into()));
        };
        let before = self.written.get(name).copied().unwrap_or(0);
        if bytes.len() > len - before {
            let reason = format!(
                "{} bytes behind {before} were given, {len} declared",
                bytes.len()
            );
            return Err(plan(name, reason));
        }
        self.write(name, position + before as u64, bytes)
    }

    fn write(&mut self, name: &str, position: u64, bytes: &[u8]) -> Result<()> {
        *self.written.entry(name.into()).or_default() += bytes.len();
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(position))
            .and_then(|_| file.write_all(bytes))
            .map_err(|reason| Error::Write {
                file: self.path.clone(),
                reason,
            })
    }

    /// Writes a declared weight.
    ///
    /// # Errors
    /// [`Error::Plan`] if it was not declared, or with another format or shape; [`Error::Write`].
    pub fn weight(&mut self, module: &str, weight: &Matrix) -> Result<()> {
        let Some(declared) = self.modules.get_mut(module) else {
            return Err(plan(module, "it was not declared".into()));
        };
        let given = (weight.format(), weight.rows(), weight.cols());
        if given != (declared.format, declared.rows, declared.cols) {
            return Err(plan(
                module,
                format!(
                    "{} {} x {} was given, {} {} x {} declared",
                    given.0, given.1, given.2, declared.format, declared.rows, declared.cols
                ),
            ));
        }
        declared.factor = weight.codes().map_or(1.0, Codes::factor);
        let sections = declared.sections().map_err(|reason| plan(module, reason))?;
        for (section, bytes) in sections.iter().zip(section_bytes(weight)) {
            self.tensor(&format!("{module}{}", section.suffix), &bytes)?;
        }
        Ok(())
    }

    /// Writes a weight that was declared with [`Output::pack_quantized`].
    ///
    /// # Errors
    /// As [`weight`](Self::weight).
    pub fn pack_quantized(&mut self, module: &str, weight: &Matrix) -> Result<()> {
        let packed = self.packed.get(module).copied();
        let packed = packed.ok_or_else(|| plan(module, "it was not declared".into()))?;
        if !packed.is_of(weight) {
            let reason = format!("{} was given, another weight declared", weight.format());
            return Err(plan(module, reason));
        }
        for (section, bytes) in packed.sections().iter().zip(packed.bytes(weight)) {
            self.tensor(&format!("{module}{}", section.suffix), &bytes)?;
        }
        Ok(())
    }

    /// Replaces the widest header entries by those of the weights that were written.
    fn write_factors(&mut self) -> Result<()> {
        let coded = |d: &Declared| d.format.quant().is_some();
        if !self.modules.values().any(coded) {
            return Ok(());
        }
        let modules = self.modules.iter().filter(|(_, d)| coded(d));
        let entries = modules.map(|(module, declared)| declared.entry(module));
        self.header.metadata.extend(entries);
        let bytes = self
            .header
            .to_bytes(self.data_start)
            .map_err(|reason| plan("__metadata__", reason))?;
        let file = self.file.as_file_mut();
        file.rewind()
            .and_then(|()| file.write_all(&bytes))
            .map_err(|reason| Error::Write {
                file: self.path.clone(),
                reason,
            })
    }

    /// Makes the file durable and visible under its name.
    ///
    /// # Errors
    /// [`Error::Plan`] if a declared tensor was not written; [`Error::Write`]. In both cases nothing
    /// is left, and a file that was at the path is unchanged.
    pub fn finish(mut self) -> Result<()> {
        for (name, &(_, len)) in &self.slots {
            match self.written.get(name) {
                Some(&written) if written == len => {}
                None => return Err(plan(name, "it was declared but not written".into())),
                Some(written) => {
                    let reason = format!("{written} bytes were written, {len} declared");
                    return Err(plan(name, reason));
                }
            }
        }
        self.write_factors()?;
        atomic::persist(self.file, &self.path)
    }
}

/// Refuses a path at which no file can appear, so that nobody works for it in vain.
///
/// # Errors
/// [`Error::Refused`] if `path` is a folder or device, or is spelt like a folder, with a separator at its end.
pub fn check_place(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let name = path.file_name().map_or(&b""[..], OsStr::as_encoded_bytes);
    let reason = if path.metadata().is_ok_and(|m| !m.is_file()) {
        "it exists and is no regular file"
    } else if !path.as_os_str().as_encoded_bytes().ends_with(name) {
        "the output is a file, and this names a folder"
    } else {
        return Ok(());
    };
    Err(Error::Refused {
        file: path.into(),
        reason,
    })
}

/// Writes a file of plain tensors in one call.
///
/// # Errors
/// As [`Output`] and [`Writer`].
pub fn save<N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, RawTensor)>,
) -> Result<()> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let mut output = Output::new();
    for (name, tensor) in &tensors {
        output.tensor(name.as_ref(), tensor.dtype, &tensor.shape)?;
    }
    let mut writer = output.create(path)?;
    for (name, tensor) in &tensors {
        writer.tensor(name.as_ref(), &tensor.bytes)?;
    }
    writer.finish()
}

fn plan(tensor: &str, reason: String) -> Error {
    Error::Plan {
        tensor: tensor.into(),
        reason,
    }
}
