//! Weight files of Lacuna: conversion between what checkpoints store and the engine's formats.
//!
//! A file is safetensors, alone or in shards behind an index. Dense weights are plain tensors
//! `P.weight`. Sparse and quantised weights are sections beside an entry in the header, as
//! `docs/container.md` describes byte by byte. GGUF files are read as well, through [`GgufFile`],
//! and so are the layouts of GPTQ, AWQ and compressed-tensors: a [`Module`] says in which
//! [`Layout`] it was found. Nothing here needs a GPU.
//!
//! To compress the weights of a file and copy the rest:
//!
//! ```
//! use lacuna::{compress::compress, format::{Format, Matrix}};
//! use lacuna_io::{Output, RawTensor, WeightFile, save};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (input, output) = (folder.path().join("in"), folder.path().join("out"));
//! let dense = RawTensor::from_f32(&[2, 4], &[1., 0., 2., 3., 0., 4., 5., 6.]);
//! save(&input, [("fc.weight", dense), ("fc.bias", RawTensor::from_f32(&[2], &[7., 8.]))])?;
//!
//! let file = WeightFile::open(&input)?;
//! let format: Format = "2:4@f32".parse()?;
//!
//! // What will be written is declared first, then comes tensor by tensor.
//! let mut plan = Output::new();
//! for module in file.modules() {
//!     plan.weight(module.name(), format, module.rows(), module.cols())?;
//! }
//! for tensor in file.plain_tensors() {
//!     plan.tensor(tensor.name, tensor.dtype, tensor.shape)?;
//! }
//! let mut writer = plan.create(&output)?;
//! for module in file.modules() {
//!     let Matrix::Dense(dense) = file.weight(module.name())? else { continue };
//!     writer.weight(module.name(), &compress(&dense, format)?)?;
//! }
//! for tensor in file.plain_tensors() {
//!     writer.tensor(tensor.name, &file.raw(tensor.name)?.bytes)?;
//! }
//! writer.finish()?;
//!
//! let weight = WeightFile::open(&output)?.weight("fc")?;
//! assert_eq!(weight.to_dense().values().to_f32(), [0., 0., 2., 3., 0., 0., 5., 6.]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod coded;
mod container;
mod error;
mod file;
mod fingerprint;
mod gguf;
mod globs;
mod header;
mod index;
mod layout;
mod modules;
mod output;
mod read;
mod scales;
mod sections;
mod shard;
mod sparsity;
mod tensor;
mod thresholds;

pub use atomic::{is_leftover, write_file, write_new_file};
pub use container::{CONTAINER_VERSION, stored_bytes};
pub use error::{Error, Kind, Result, printable};
pub use file::{Reading, WeightFile};
pub use fingerprint::{Fingerprint, sha256, sha256_of_file};
pub use gguf::{FromGguf, GgmlType, GgufFile, GgufMetadata, GgufTensor, GgufValue};
pub use globs::TensorGlobs;
pub use layout::{Layout, Refusal, ZeroPoints, pack_quantized_config, packs_quantized};
pub use modules::{Module, Refused};
pub use output::{Output, Writer, check_place, save};
pub use shard::read_small;
pub use sparsity::{Compliance, Sparsity, usual_patterns};
pub use tensor::{F32Tensor, RawTensor, TensorDtype, TensorInfo};
pub use thresholds::{Origin, ThresholdFile};
