//! A linear product to be computed, and what all its kernels share.

use super::{
    Config, Const, Dispatch, Kernel, Layout, Operand, PartLayout, Role, bands, fragment, layout,
};
use crate::{
    caps::{Caps, DeviceClass},
    error::{Error, Result},
    format::{Dtype, Format, Precision, Quant},
};
use std::{borrow::Cow, fmt, str::FromStr};

/// What a product need not compute, by a list of active channels on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Skip {
    /// All is computed.
    #[default]
    Nothing,
    /// Rows that are not in the list: their outputs are zero.
    Rows,
    /// Columns that are not in the list: their inputs are zero.
    Cols,
}

/// `y[batch, rows] = x[batch, cols] · W[rows, cols]ᵀ + bias[rows]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Number of vectors.
    pub batch: usize,
    /// Format of the weight, with its value type.
    pub format: Format,
    /// Whether a bias is added.
    pub bias: bool,
    /// How the weight lies on the device.
    pub layout: Layout,
    /// What is skipped.
    pub skip: Skip,
    /// How x is taken.
    pub precision: Precision,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            cols,
            batch,
            format,
            bias,
            layout,
            skip,
            precision,
        } = self;
        let bias = if *bias { " + bias" } else { "" };
        let (layout, skip) = match (layout, skip) {
            (Layout::Rows, Skip::Nothing) => ("", ""),
            (Layout::Rows, Skip::Rows) => ("", ", active rows"),
            (Layout::Rows, Skip::Cols) => ("", ", active columns"),
            (Layout::Bands, Skip::Nothing) => (" in bands", ""),
            (Layout::Bands, Skip::Rows) => (" in bands", ", active rows"),
            (Layout::Bands, Skip::Cols) => (" in bands", ", active columns"),
        };
        let precision = match precision {
            Precision::F32 => "",
            Precision::F16 => ", x in f16",
            Precision::I8 => ", x in 8 bits",
            Precision::I24 => ", x in 24 bits",
        };
        write!(
            f,
            "{format} {rows}x{cols}{layout} batch {batch}{bias}{skip}{precision}"
        )
    }
}

impl FromStr for Problem {
    type Err = Error;

    /// What [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Problem {
            text: text.into(),
            reason: reason.into(),
        };
        let number = |text: &str| text.parse::<usize>().ok();
        let (text, precision) = match text.split_once(", x in ") {
            None => (text, Precision::F32),
            Some((text, "f16")) => (text, Precision::F16),
            Some((text, "8 bits")) => (text, Precision::I8),
            Some((text, "24 bits")) => (text, Precision::I24),
            Some(_) => return Err(wrong("x is taken in f16, in 8 bits or in 24 bits")),
        };
        let (product, skip) = match text.split_once(", active ") {
            None => (text, Skip::Nothing),
            Some((product, "rows")) => (product, Skip::Rows),
            Some((product, "columns")) => (product, Skip::Cols),
            Some(_) => return Err(wrong("rows or columns are active")),
        };
        let (product, bias) = match product.strip_suffix(" + bias") {
            Some(product) => (product, true),
            None => (product, false),
        };
        let words: Vec<&str> = product.split_whitespace().collect();
        let (format, shape, layout, batch) = match words[..] {
            [format, shape, "batch", batch] => (format, shape, Layout::Rows, batch),
            [format, shape, "in", "bands", "batch", batch] => (format, shape, Layout::Bands, batch),
            _ => return Err(wrong("expected FORMAT ROWSxCOLS [in bands] batch N")),
        };
        let sides = shape.split_once('x').map(|(r, c)| (number(r), number(c)));
        let Some((Some(rows), Some(cols))) = sides else {
            return Err(wrong("a shape is ROWSxCOLS"));
        };
        Ok(Self {
            rows,
            cols,
            batch: number(batch).ok_or_else(|| wrong("a batch is a number"))?,
            format: format.parse()?,
            bias,
            layout,
            skip,
            precision,
        })
    }
}

impl Problem {
    /// Tensors of the linear kernels, in the order in which they are given.
    pub const X: usize = 0;
    /// See [`Problem::X`].
    pub const Y: usize = 1;
    /// See [`Problem::X`]; absent without a bias.
    pub const BIAS: usize = 2;

    /// The error for a configuration that a kernel does not know, or that is not for this problem.
    pub(super) fn unknown(&self, config: &Config) -> Error {
        Error::NoKernel {
            problem: self.to_string(),
            reasons: config.to_string(),
        }
    }

    /// How the weight is cut on a device with these limits.
    ///
    /// # Errors
    /// [`Error::Limit`] where x, y or the rows of one index set are larger than a binding may be, or a side is larger
    /// than 32 bits count; [`Error::Unfit`] for formats that do not lie so.
    pub fn parts(&self, caps: &Caps) -> Result<Vec<PartLayout>> {
        let limit = caps.max_storage_bytes();
        let [rows, cols, batch] = [self.rows, self.cols, self.batch].map(|side| side as u64);
        let bytes = |len: u64| batch.saturating_mul(len).saturating_mul(4);
        for (what, value, limit) in [
            ("rows", rows, u32::MAX.into()),
            ("columns", cols, u32::MAX.into()),
            ("vectors", batch, u32::MAX.into()),
            ("bytes of x", bytes(cols), limit),
            ("bytes of y", bytes(rows), limit),
        ] {
            if value > limit {
                return Err(Error::Limit { what, value, limit });
            }
        }
        match self.layout {
            Layout::Rows => layout::split(self.format, self.rows, self.cols, caps.class, limit),
            Layout::Bands => bands::split(self.format, self.rows, self.cols, caps.class, limit),
        }
    }

    /// The list of active channels, which comes after all other tensors.
    pub(super) fn list(&self) -> Operand {
        let role = Role::Tensor(Self::BIAS + usize::from(self.bias));
        Operand::read("list", 6, role)
    }

    /// Whole values of the weight in `words` words.
    pub(super) fn values_in(&self, words: usize) -> usize {
        words * 32 / layout::value_bits(self.format)
    }

    /// Stored values of a row.
    pub(super) fn slots(&self) -> usize {
        layout::slots(self.format, self.cols)
    }

    /// The uniform block of `lib/linear.wgsl`. For a group-pruned weight `slots` is the number of columns:
    /// kernels that walk along columns need that, and no others read it.
    pub(super) fn params(
        &self,
        part: &PartLayout,
        x_stride: usize,
        vector_base: usize,
    ) -> Vec<u32> {
        vec![
            part.rows,
            self.cols as u32,
            self.batch as u32,
            part.row_base,
            self.rows as u32,
            match self.format {
                Format::Gqs { .. } => self.cols as u32,
                _ => self.slots() as u32,
            },
            part.values,
            part.value_stride,
            part.indices,
            part.index_stride,
            x_stride as u32,
            part.scales,
            part.scale_stride,
            part.factor,
            vector_base as u32,
        ]
    }

    /// What every kernel says alike of a launch of so many workgroups.
    pub(super) fn launch(
        &self,
        kernel: &dyn Kernel,
        config: &Config,
        workgroups: u64,
        caps: &Caps,
    ) -> Dispatch {
        Dispatch {
            name: format!("{}/{config} {}", kernel.name(), self.format),
            invocations: config.workgroup,
            grid: super::fold(workgroups, caps.max_workgroups),
            ..Dispatch::default()
        }
    }

    /// Consts that describe the format.
    pub(super) fn consts(&self) -> Vec<(&'static str, Const)> {
        let v = layout::sharing(self.format);
        let mut consts = vec![("V", Const::U32(v as u32))];
        if let Some(pattern) = self.format.pattern() {
            consts.extend([
                ("N", Const::U32(pattern.n() as u32)),
                ("M", Const::U32(pattern.m() as u32)),
                (
                    "INDEX_BITS",
                    Const::U32(layout::device_index_bits(self.format)),
                ),
            ]);
        }
        consts
    }

    /// The fragment that adds the bias, or adds none.
    pub(super) fn bias_fragment(&self) -> Cow<'static, str> {
        if self.bias {
            fragment!("bias")
        } else {
            fragment!("bias_none")
        }
    }

    /// The fragment that writes y: `runs`, which writes four rows at a time, where the weight and its parts are
    /// whole fours of rows; else number by number.
    pub(super) fn y_fragment(
        &self,
        parts: &[PartLayout],
        runs: Option<Cow<'static, str>>,
    ) -> Cow<'static, str> {
        let whole = |part: &PartLayout| part.row_base % 4 == 0 && part.rows % 4 == 0;
        let runs = runs.filter(|_| self.rows % 4 == 0 && parts.iter().all(whole));
        runs.unwrap_or(fragment!("y_words"))
    }

    /// Fragments that describe the format and the bias.
    pub(super) fn fragments(&self, class: DeviceClass) -> Vec<Cow<'static, str>> {
        let mut fragments = vec![fragment!("linear"), self.bias_fragment()];
        if let Some(quant) = self.format.quant() {
            fragments.extend(code_fragments(class, quant));
        } else {
            let dtype = self.format.dtype().unwrap_or(Dtype::F32);
            fragments.push(super::decode_fragment(dtype));
        }
        fragments.push(match self.format.pattern() {
            None => fragment!("columns_all"),
            Some(_) => fragment!("columns_nm"),
        });
        fragments
    }

    /// Bindings of part `part`: `x` (or what stands for it), y, the weight, the bias.
    /// `words` and `quads` ask for the view of the weight in words and in wider loads.
    pub(super) fn operands(
        &self,
        x: Operand,
        part: usize,
        words: bool,
        quads: bool,
    ) -> Vec<Operand> {
        let weight = |name, binding| Operand {
            name,
            binding,
            role: Role::Part(part),
            write: false,
        };
        let mut operands = vec![
            x,
            Operand {
                name: "y",
                binding: 2,
                role: Role::Tensor(Self::Y),
                write: true,
            },
        ];
        if words {
            operands.push(weight("words", 3));
        }
        if quads {
            operands.push(weight("quads", 4));
        }
        if self.bias {
            let role = Role::Tensor(Self::BIAS);
            operands.push(Operand {
                name: "bias",
                binding: 5,
                role,
                write: false,
            });
        }
        operands
    }
}

/// The binding of x as the caller gave it.
pub(super) const X: Operand = Operand {
    name: "x",
    binding: 1,
    role: Role::Tensor(Problem::X),
    write: false,
};

/// The fragment that turns a code into a number. GPUs convert integers at half their speed or less: theirs avoids it.
pub(super) fn code_fragment(class: DeviceClass) -> Cow<'static, str> {
    match class {
        DeviceClass::Cpu => fragment!("code_integer"),
        DeviceClass::Gpu => fragment!("code_mantissa"),
    }
}

/// The fragments that turn a code and the zero of its group into numbers. With real zeros, codes are converted as
/// integers: `code_mantissa` adds the zero to a large number, which would round it.
pub(super) fn code_fragments(class: DeviceClass, quant: Quant) -> [Cow<'static, str>; 2] {
    if quant.real_zeros() {
        [fragment!("code_integer"), fragment!("zero_real")]
    } else {
        [code_fragment(class), fragment!("zero_code")]
    }
}

/// The refusal of one configuration, whatever the device.
pub(super) fn unfit(what: &'static str, value: usize, needed: &'static str) -> Error {
    Error::Unfit {
        what,
        value,
        needed,
    }
}
