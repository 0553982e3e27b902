//! Writing statistics: inputs → a file, one input at a time.

use super::{
    DOWN_NORM, GATE_PREFIX, GateEntry, HESSIAN, KEY_PREFIX, MEAN, MEAN_SQUARE, QUANTILES,
    UP_MEAN_ABS, UP_MEAN_SQUARE, VERSION, VERSION_KEY, triangle,
};
use crate::{
    error::{Error, Result},
    gate::{GateStatistics, Importance},
    inputs::Inputs,
    quantiles::QuantileTable,
};
use lacuna_io::{Output, TensorDtype, Writer};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::Path,
};

/// An input shared by one or more modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Names of the modules that take it. The first is also the name of the input.
    pub modules: Vec<String>,
    /// Elements of a vector.
    pub cols: usize,
}

/// A feed-forward block whose gate can be thresholded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gated {
    /// Name of the block.
    pub module: String,
    /// Channels between gate and down.
    pub channels: usize,
}

/// A file of statistics being written. If it is dropped before [`finish`](Self::finish), no file
/// is left.
///
/// Its content is declared first. The inputs themselves then come one by one, in any order.
#[derive(Debug)]
pub struct StatisticsWriter {
    writer: Writer,
    samples: u64,
    hessian: bool,
    /// The length of an input vector, by name of the input.
    inputs: BTreeMap<String, usize>,
}

impl StatisticsWriter {
    /// Starts the file that will appear at `path`, for `inputs` over `samples` vectors, with a Hessian
    /// for each of them or for none. If `gates` is given, even as an empty list, thresholds can be
    /// chosen by the file: each input then has quantiles too.
    ///
    /// # Errors
    /// [`Error::Inputs`] if there are no samples, an input has no modules or no elements, or a module
    /// occurs twice; [`Error::File`] if the file cannot be written.
    pub fn create(
        path: impl AsRef<Path>,
        samples: u64,
        hessian: bool,
        inputs: &[Shared],
        gates: Option<&[Gated]>,
    ) -> Result<Self> {
        if samples == 0 {
            return Err(refused("samples", &0, &"at least 1"));
        }
        let (mut output, mut seen) = (Output::new(), BTreeSet::new());
        let mut metadata = BTreeMap::from([(VERSION_KEY.into(), VERSION.to_string())]);
        for Shared { modules, cols } in inputs {
            let Some(name) = modules.first() else {
                return Err(refused("modules of an input", &"none", &"at least one"));
            };
            if let Some(twice) = modules.iter().find(|&m| m.is_empty() || !seen.insert(m)) {
                return Err(refused("module", twice, &"a name that is there once"));
            }
            let elements = triangle(*cols).filter(|_| *cols > 0);
            let Some(elements) = elements else {
                return Err(refused(
                    "columns",
                    cols,
                    &"at least 1, and a square of them",
                ));
            };
            let key = format!("{KEY_PREFIX}{name}");
            if key == VERSION_KEY {
                return Err(refused("module", name, &"another name"));
            }
            let entry = json!({"modules": modules, "samples": samples});
            metadata.insert(key, entry.to_string());
            let mut tensor =
                |suffix, len| output.tensor(&format!("{name}{suffix}"), TensorDtype::F32, &[len]);
            tensor(MEAN, *cols)?;
            tensor(MEAN_SQUARE, *cols)?;
            if hessian {
                tensor(HESSIAN, elements)?;
            }
            if gates.is_some() {
                tensor(QUANTILES, QuantileTable::LEN)?;
            }
        }
        for Gated { module, channels } in gates.unwrap_or_default() {
            let entry = json!(GateEntry { samples }).to_string();
            if *channels == 0 || module.is_empty() {
                return Err(refused("channels of a block", channels, &"at least 1"));
            }
            if metadata
                .insert(format!("{GATE_PREFIX}{module}"), entry)
                .is_some()
            {
                return Err(refused("module", module, &"a name that is there once"));
            }
            let mut tensor = |suffix: &str, len| {
                output.tensor(&format!("{module}{suffix}"), TensorDtype::F32, &[len])
            };
            for suffix in [UP_MEAN_ABS, UP_MEAN_SQUARE, DOWN_NORM] {
                tensor(suffix, *channels)?;
            }
            for importance in Importance::ALL {
                tensor(&format!(".{}", importance.name()), QuantileTable::LEN)?;
            }
        }
        output.metadata(&metadata);
        let named = |shared: &Shared| (shared.modules[0].clone(), shared.cols);
        Ok(Self {
            writer: output.create(path)?,
            samples,
            hessian,
            inputs: inputs.iter().map(named).collect(),
        })
    }

    /// Writes the input called `name`.
    ///
    /// # Errors
    /// [`Error::Inputs`] if it differs from its declaration; [`Error::File`] if it was not declared at
    /// all, was written before, or cannot be written.
    pub fn inputs(&mut self, name: &str, inputs: &Inputs) -> Result<()> {
        let cols = inputs.cols();
        if let Some(&declared) = self.inputs.get(name).filter(|&&d| d != cols) {
            return Err(refused("columns", &cols, &declared));
        }
        if inputs.samples() != self.samples {
            return Err(refused("samples", &inputs.samples(), &self.samples));
        }
        let hessian = match inputs.hessian() {
            None if self.hessian => return Err(refused("Hessian", &"none", &"one")),
            hessian => hessian.filter(|_| self.hessian),
        };
        self.write(name, MEAN, inputs.mean().iter())?;
        self.write(name, MEAN_SQUARE, inputs.mean_square().iter())?;
        if let Some(hessian) = hessian {
            let rows = hessian.chunks_exact(cols).enumerate();
            self.write(name, HESSIAN, rows.flat_map(|(r, row)| &row[..=r]))?;
        }
        Ok(())
    }

    /// Writes the quantiles of `|x|` of the input called `name`.
    ///
    /// # Errors
    /// [`Error::File`] if they were not declared, were written before, or cannot be written.
    pub fn quantiles(&mut self, name: &str, table: &QuantileTable) -> Result<()> {
        self.write(name, QUANTILES, table.values().iter())
    }

    /// Writes the statistics of the feed-forward block called `module`.
    ///
    /// # Errors
    /// [`Error::Inputs`] if the number of samples differs; [`Error::File`] if it was not declared with
    /// these sizes, was written before, or cannot be written.
    pub fn gate(&mut self, module: &str, gate: &GateStatistics) -> Result<()> {
        let channels = gate.channels();
        if channels.samples() != self.samples {
            return Err(refused("samples", &channels.samples(), &self.samples));
        }
        self.write(module, UP_MEAN_ABS, channels.mean_abs().iter())?;
        self.write(module, UP_MEAN_SQUARE, channels.mean_square().iter())?;
        self.write(module, DOWN_NORM, channels.down_norm().iter())?;
        for importance in Importance::ALL {
            let suffix = format!(".{}", importance.name());
            self.write(module, &suffix, gate.table(importance).values().iter())?;
        }
        Ok(())
    }

    fn write<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        values: impl Iterator<Item = &'a f32>,
    ) -> Result<()> {
        let bytes: Vec<u8> = values.flat_map(|v| v.to_le_bytes()).collect();
        Ok(self.writer.tensor(&format!("{name}{suffix}"), &bytes)?)
    }

    /// Makes the file appear under its name.
    ///
    /// # Errors
    /// [`Error::File`] if an input is missing or the file cannot be written. In both cases nothing of
    /// it is left.
    pub fn finish(self) -> Result<()> {
        Ok(self.writer.finish()?)
    }
}

fn refused(what: &'static str, got: &dyn Display, expected: &dyn Display) -> Error {
    Error::Inputs {
        what,
        got: got.to_string(),
        expected: expected.to_string(),
    }
}
