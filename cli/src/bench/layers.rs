//! Which weights are timed: random values of given shapes, or real weights from a file.

use super::Args;
use crate::error::{Error, Result};
use lacuna::{
    format::{Dense, Dtype},
    verify::Random,
};
use lacuna_io::{TensorGlobs, WeightFile};
use std::str::FromStr;

/// `ROWSxCOLS` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |s: &str| s.parse().ok().filter(|&n: &usize| n > 0);
        let sides = text.split_once('x').map(|(r, c)| (side(r), side(c)));
        match sides {
            Some((Some(rows), Some(cols))) => Ok(Self { rows, cols }),
            _ => Err("a shape is ROWSxCOLS with both at least 1, for example 4096x11008".into()),
        }
    }
}

/// The products of known models, as `lacuna-llm` runs them: those of one input stacked.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Preset {
    /// Query, key and value as one, output, gate and up as one, down, head
    #[value(name = "llama-7b")]
    Llama7b,
    /// Query, key and value as one, output, gate and up as one, down, head
    #[value(name = "llama-3-8b")]
    Llama3x8b,
}

impl Preset {
    const fn shapes(self) -> &'static [(usize, usize)] {
        match self {
            Self::Llama7b => &[
                (12_288, 4096),
                (4096, 4096),
                (22_016, 4096),
                (4096, 11_008),
                (32_000, 4096),
            ],
            Self::Llama3x8b => &[
                (6144, 4096),
                (4096, 4096),
                (28_672, 4096),
                (4096, 14_336),
                (128_256, 4096),
            ],
        }
    }
}

/// A weight to be timed, in all formats.
pub struct Layer {
    /// Its name in the file, if it comes from one.
    pub tensor: Option<String>,
    /// Its shape.
    pub shape: Shape,
}

/// Where the values come from.
pub enum Source {
    /// Random values, larger in the first half of the rows if `unbalanced`.
    Random {
        unbalanced: bool,
    },
    File(Box<WeightFile>),
}

/// Factor of the larger rows: enough for all their groups to be kept.
const LARGER: f32 = 100.0;

impl Source {
    /// The source and the layers that the arguments select.
    pub fn open(args: &Args) -> Result<(Self, Vec<Layer>)> {
        let Some(path) = &args.weights else {
            if !args.tensors.is_empty() {
                return Err(Error::Usage("--tensor selects from --weights FILE".into()));
            }
            let preset = args.preset.iter().flat_map(|p| p.shapes());
            let preset = preset.map(|&(rows, cols)| Shape { rows, cols });
            let mut shapes: Vec<Shape> = args.shapes.iter().copied().chain(preset).collect();
            if shapes.is_empty() {
                shapes.push(Shape {
                    rows: 4096,
                    cols: 4096,
                });
            }
            let layer = |shape| Layer {
                tensor: None,
                shape,
            };
            let source = Self::Random {
                unbalanced: args.unbalanced,
            };
            return Ok((source, shapes.into_iter().map(layer).collect()));
        };
        let file = WeightFile::open(path)?;
        let globs = TensorGlobs::new(&args.tensors)?;
        let selected = globs.select(file.modules().map(lacuna_io::Module::name))?;
        let layer = |name: &str| -> Result<Layer> {
            let module = file.module(name)?;
            let shape = Shape {
                rows: module.rows(),
                cols: module.cols(),
            };
            Ok(Layer {
                tensor: Some(name.into()),
                shape,
            })
        };
        let layers = selected.into_iter().map(layer).collect::<Result<_>>()?;
        Ok((Self::File(Box::new(file)), layers))
    }

    /// The dense values of `layer`, in the type in which they are stored.
    pub fn dense(&self, layer: &Layer) -> Result<Dense> {
        let Shape { rows, cols } = layer.shape;
        if let (Self::File(file), Some(name)) = (self, &layer.tensor) {
            let own = file.module(name)?.format().dtype().unwrap_or(Dtype::F32);
            return Ok(file.weight(name)?.to_dense().to_dtype(own)?);
        }
        let len = rows.checked_mul(cols).ok_or(lacuna::Error::TooLarge {
            what: "weight",
            rows,
            cols,
        })?;
        let mut random = Random((rows as u64) << 32 | cols as u64);
        let mut values = random.vector(len);
        if let Self::Random { unbalanced: true } = self {
            for value in &mut values[..rows / 2 * cols] {
                *value *= LARGER;
            }
        }
        Ok(Dense::from_f32(rows, cols, values)?)
    }
}
