//! Tensors of a GGUF file.

use super::Tensors;
use crate::{
    config::{Config, Linear},
    error::{Error, Result},
    gguf::{
        self, VOCABULARY,
        names::{gguf_name, interleaved_row},
    },
    template::ChatTemplate,
    tokenizer::Tokenizer,
};
use half::{f16, slice::HalfFloatSliceExt};
use lacuna::format::{Codes, Dense, Dtype, Format, Matrix, Quantized, Values, Zeros};
use lacuna_io::{GgufFile, GgufTensor};
use std::{ops::Range, path::Path};

/// The f32 values that are decoded at a time, on the way to f16.
const SLICE: usize = 1 << 22;

#[derive(Debug)]
pub(super) struct GgufTensors {
    file: GgufFile,
    post_norms: bool,
    /// The size of a head, if the rows of query and key projections are interleaved ([`interleaved_row`]).
    interleaved: Option<usize>,
}

impl GgufTensors {
    pub fn open(path: &Path) -> Result<(Config, Self)> {
        let file = GgufFile::open(path)?;
        let config = gguf::read(&file)?;
        let tensors = Self {
            file,
            post_norms: config.post_norms,
            interleaved: (config.architecture == "llama").then_some(config.head_dim),
        };
        Ok((config, tensors))
    }

    /// The file's name of a tensor `P.weight` or `P.bias`.
    fn name(&self, tensor: &str) -> Result<String> {
        let (module, kind) = tensor.rsplit_once('.').unwrap_or((tensor, "weight"));
        Ok(format!("{}.{kind}", self.stored_name(module)?))
    }

    fn find(&self, name: &str) -> Result<GgufTensor<'_>> {
        self.file.tensor(name).ok_or_else(|| Error::MissingTensor {
            file: self.file.path().into(),
            tensor: name.into(),
        })
    }

    fn weight(&self, module: &str) -> Result<(String, GgufTensor<'_>)> {
        let name = self.name(&format!("{module}.weight"))?;
        let tensor = self.find(&name)?;
        Ok((name, tensor))
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let name = self.name(name)?;
        let tensor = self.find(&name)?;
        // To ggml outer dimensions of 1 are nothing.
        let bare = |shape: &[usize]| {
            shape
                .iter()
                .skip_while(|&&d| d == 1)
                .copied()
                .collect::<Vec<_>>()
        };
        if bare(tensor.shape) == bare(shape) {
            return Ok(());
        }
        Err(Error::TensorShape {
            file: self.file.path().into(),
            got: tensor.shape.to_vec(),
            tensor: name,
            expected: shape.to_vec(),
        })
    }

    /// The size of a head, if the rows of this module are interleaved.
    fn interleaved(&self, module: &str) -> Option<usize> {
        let linears = [Linear::Q, Linear::K];
        let rotated = linears.iter().any(|l| module.ends_with(l.name()));
        self.interleaved.filter(|_| rotated)
    }

    fn values(&self, module: &str, name: &str, rows: Range<usize>, cols: usize) -> Result<Values> {
        let tensor = self.find(name)?;
        match tensor.ggml_type.dtype() {
            Some(_) if rows == (0..tensor.rows()) => Ok(self.file.read_values(name)?),
            Some(dtype) => {
                let values = self.file.read_rows_f32(name, rows)?;
                // The values came from this type, so nothing is lost.
                Values::round(dtype, &values).map_err(|reason| module_error(module, reason))
            }
            None => self.halves(module, name, rows, cols).map(Values::F16),
        }
    }

    fn halves(
        &self,
        module: &str,
        name: &str,
        rows: Range<usize>,
        cols: usize,
    ) -> Result<Vec<f16>> {
        let mut halves = vec![f16::ZERO; rows.len() * cols];
        let step = (SLICE / cols.max(1)).max(1);
        for (i, part) in halves.chunks_mut(step * cols.max(1)).enumerate() {
            let start = rows.start + i * step;
            let end = (start + step).min(rows.end);
            let values = self.file.read_rows_f32(name, start..end)?;
            part.convert_from_f32_slice(&values);
            let overflow = |(half, value): (&f16, &f32)| !half.is_finite() && value.is_finite();
            if let Some(at) = part.iter().zip(&values).position(overflow) {
                return Err(Error::F16Overflow {
                    module: module.into(),
                    row: start + at / cols,
                    col: at % cols,
                    value: values[at],
                });
            }
        }
        Ok(halves)
    }
}

impl Tensors for GgufTensors {
    fn files(&self) -> Vec<&Path> {
        self.file.files().collect()
    }

    fn check_weight(&self, module: &str, shape: [usize; 2]) -> Result<()> {
        self.check(&format!("{module}.weight"), &shape)?;
        let (name, tensor) = self.weight(module)?;
        if tensor.ggml_type.is_readable() {
            return Ok(());
        }
        // Reading fails with an error that names the types that can be read.
        self.file.read_rows_f32(&name, 0..0)?;
        Ok(())
    }

    fn check_vector(&self, name: &str, len: usize) -> Result<()> {
        self.check(name, &[len])
    }

    fn format(&self, module: &str) -> Result<Format> {
        let (name, tensor) = self.weight(module)?;
        if let Some(quant) = self.file.quant(&name)? {
            let pattern = None;
            return Ok(Format::Quantized { pattern, quant });
        }
        Ok(Format::Dense(
            tensor.ggml_type.dtype().unwrap_or(Dtype::F16),
        ))
    }

    fn stored_format(&self, module: &str) -> Result<String> {
        let (_, tensor) = self.weight(module)?;
        let name = tensor.ggml_type.name();
        let dtype = tensor.ggml_type.dtype();
        Ok(dtype.map_or_else(|| name.to_owned(), |dtype| dtype.to_string()))
    }

    fn stored_bytes(&self, module: &str) -> Result<u64> {
        Ok(self.weight(module)?.1.bytes)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let stored = self.name(name)?;
        if self.file.tensor(&stored).is_none() {
            return Ok(None);
        }
        self.check_vector(name, len)?;
        let values = self.file.read_f32(&stored)?;
        let module = name.strip_suffix(".bias").unwrap_or_default();
        let Some(head_dim) = self.interleaved(module) else {
            return Ok(Some(values));
        };
        let from = |row| values[interleaved_row(row, head_dim)];
        Ok(Some((0..len).map(from).collect()))
    }

    // Its codes if `format` names codes, else in the file's type if that is dense, else as f16.
    fn matrix(&self, module: &str) -> Result<Matrix> {
        let (_, tensor) = self.weight(module)?;
        self.rows(module, 0..tensor.rows())
    }

    fn rows(&self, module: &str, rows: Range<usize>) -> Result<Matrix> {
        let (name, tensor) = self.weight(module)?;
        let cols = tensor.cols();
        let Some(d) = self.interleaved(module) else {
            return match self.file.read_rows_codes(&name, rows.clone())? {
                Some(codes) => quantized(module, rows.len(), cols, Ok(codes)),
                None => dense(
                    module,
                    rows.len(),
                    cols,
                    self.values(module, &name, rows, cols)?,
                ),
            };
        };
        // Interleaved rows lie anywhere in their head, so whole heads are read and the rows picked from them.
        let heads = rows.start / d * d..rows.end.next_multiple_of(d).min(tensor.rows());
        let order = rows.clone().map(|r| interleaved_row(r, d) - heads.start);
        if let Some(codes) = self.file.read_rows_codes(&name, heads.clone())? {
            let codes = reordered(&codes, order, cols);
            return quantized(module, rows.len(), cols, codes);
        }
        let values = self.values(module, &name, heads.clone(), cols)?;
        dense(module, rows.len(), cols, gathered(&values, order, cols))
    }

    fn check_biases(&self, _: &Config) -> Result<()> {
        Ok(())
    }

    fn reads_rows(&self, _: &str) -> Result<bool> {
        Ok(true)
    }

    fn stored_name(&self, module: &str) -> Result<String> {
        gguf_name(module, self.post_norms).ok_or_else(|| Error::UnknownModule {
            what: "tensor",
            name: module.into(),
        })
    }

    fn biased(&self) -> Option<&[Linear]> {
        None
    }

    fn files_beside(&self) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(vec![(VOCABULARY.into(), self.file.without_tensors()?)])
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_gguf(&self.file)
    }

    fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        ChatTemplate::from_gguf(&self.file)
    }
}

fn module_error(module: &str, reason: lacuna::Error) -> Error {
    Error::Module {
        module: module.into(),
        reason,
    }
}

fn dense(module: &str, rows: usize, cols: usize, values: Values) -> Result<Matrix> {
    Dense::new(rows, cols, values)
        .map(Matrix::from)
        .map_err(|reason| module_error(module, reason))
}

fn quantized(
    module: &str,
    rows: usize,
    cols: usize,
    codes: lacuna::Result<Codes>,
) -> Result<Matrix> {
    codes
        .and_then(|codes| Quantized::new(rows, cols, None, codes))
        .map(Matrix::from)
        .map_err(|reason| module_error(module, reason))
}

/// Rows of `cols` codes in another order.
fn reordered(
    codes: &Codes,
    order: impl Iterator<Item = usize> + Clone,
    cols: usize,
) -> lacuna::Result<Codes> {
    let groups = codes.quant().groups(cols);
    let zeros = match codes.zeros() {
        Zeros::Codes(zeros) if zeros.is_empty() => Zeros::none(codes.quant()),
        Zeros::Codes(zeros) => picked(zeros, order.clone(), groups).into(),
        Zeros::Real(zeros) => picked(zeros, order.clone(), groups).into(),
    };
    Codes::new(
        codes.quant(),
        picked(codes.codes(), order.clone(), cols),
        picked(codes.scales(), order, groups),
        zeros,
        codes.factor(),
    )
}

/// The rows of `from`, of `cols` elements each, that `order` lists, in that order.
fn picked<T: Copy>(from: &[T], order: impl Iterator<Item = usize>, cols: usize) -> Vec<T> {
    order
        .flat_map(|row| &from[row * cols..(row + 1) * cols])
        .copied()
        .collect()
}

/// The rows of `values` that `order` lists, in that order.
fn gathered(values: &Values, order: impl Iterator<Item = usize>, cols: usize) -> Values {
    match values {
        Values::F32(v) => Values::F32(picked(v, order, cols)),
        Values::F16(v) => Values::F16(picked(v, order, cols)),
        Values::Bf16(v) => Values::Bf16(picked(v, order, cols)),
    }
}
