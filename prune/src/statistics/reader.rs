//! Reading statistics: a file → the inputs of a module.

use super::{
    DOWN_NORM, Entry, GATE_PREFIX, GateEntry, HESSIAN, KEY_PREFIX, MEAN, MEAN_SQUARE, QUANTILES,
    UP_MEAN_ABS, UP_MEAN_SQUARE, VERSION, VERSION_KEY, triangle,
};
use crate::{
    error::{Error, Result},
    gate::{Channels, GateStatistics, Importance},
    inputs::Inputs,
    quantiles::QuantileTable,
};
use lacuna_io::{TensorDtype, WeightFile, printable};
use std::{collections::BTreeMap, path::Path};

/// A file of statistics, open for reading.
///
/// Opening reads and checks the header. The inputs of a module are read on request.
#[derive(Debug)]
pub struct Statistics {
    file: WeightFile,
    /// The name of the input of each module.
    modules: BTreeMap<String, String>,
    inputs: BTreeMap<String, Input>,
}

#[derive(Debug)]
struct Input {
    samples: u64,
    cols: usize,
    hessian: bool,
}

impl Statistics {
    /// Opens a file that [`StatisticsWriter`](super::StatisticsWriter) wrote.
    ///
    /// # Errors
    /// [`Error::File`] if it is no safetensors file; [`Error::Version`]; [`Error::Statistics`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let mut statistics = Self {
            file,
            modules: BTreeMap::new(),
            inputs: BTreeMap::new(),
        };
        statistics.check_version()?;
        let keys = statistics.file.metadata().range(KEY_PREFIX.to_owned()..);
        let entries: Vec<(String, String)> = keys
            .take_while(|(key, _)| key.starts_with(KEY_PREFIX))
            .filter(|(key, _)| *key != VERSION_KEY)
            .map(|(key, text)| (key[KEY_PREFIX.len()..].to_owned(), text.clone()))
            .collect();
        for (name, text) in entries {
            statistics.add(&name, &text)?;
        }
        Ok(statistics)
    }

    fn check_version(&self) -> Result<()> {
        let Some(version) = self.file.metadata().get(VERSION_KEY) else {
            return Err(self.malformed(format!(
                "its header has no {VERSION_KEY}: it is no file of statistics"
            )));
        };
        // A number too long for u64 is a newer version too.
        let number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
        match version.parse() {
            Ok(VERSION) => Ok(()),
            Ok(0) => Err(self.malformed(format!("{VERSION_KEY} is 0, the first is 1"))),
            _ if number => Err(Error::Version {
                file: self.file.path().into(),
                version: printable(version),
                supported: VERSION,
            }),
            _ => Err(self.malformed(format!(
                "{VERSION_KEY} is \"{}\", expected {VERSION}",
                printable(version)
            ))),
        }
    }

    fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let wrong =
            |reason: String| self.malformed(format!("the input \"{}\": {reason}", printable(name)));
        let entry: Entry = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if entry.samples == 0 {
            return Err(wrong("it has 0 samples".into()));
        }
        if entry.modules.first().is_none_or(|first| first != name) {
            return Err(wrong("it is not the first of its modules".into()));
        }
        let len = |suffix: &str| -> Result<Option<usize>> {
            let tensor = format!("{name}{suffix}");
            match self.file.tensor(&tensor) {
                None => Ok(None),
                Some(t) => match *t.shape {
                    [len] if len > 0 && t.dtype == TensorDtype::F32 => Ok(Some(len)),
                    _ => Err(wrong(format!(
                        "the tensor {suffix} is {} {:?}, expected F32 of one dimension",
                        t.dtype, t.shape
                    ))),
                },
            }
        };
        let Some(cols) = len(MEAN)? else {
            return Err(wrong(format!("there is no tensor {MEAN}")));
        };
        let hessian = len(HESSIAN)?;
        for (suffix, got, expected) in [
            (MEAN_SQUARE, len(MEAN_SQUARE)?, Some(cols)),
            // It may be absent.
            (HESSIAN, hessian, hessian.and(triangle(cols))),
        ] {
            if got != expected {
                let shown = |len: Option<usize>| len.map_or("absent".into(), |n| n.to_string());
                let (got, expected) = (shown(got), shown(expected));
                return Err(wrong(format!(
                    "the length of {suffix} is {got}, expected {expected} for {cols} columns"
                )));
            }
        }
        let input = Input {
            samples: entry.samples,
            cols,
            hessian: hessian.is_some(),
        };
        for module in entry.modules {
            if self.modules.insert(module.clone(), name.into()).is_some() {
                let module = printable(&module);
                return Err(self.malformed(format!("the module \"{module}\" is there twice")));
            }
        }
        self.inputs.insert(name.into(), input);
        Ok(())
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// All modules with known inputs, by name.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    /// Whether the Hessian of the inputs of `module` is there. Checks, by the header alone, that they
    /// have `cols` columns.
    ///
    /// # Errors
    /// [`Error::NoModule`], [`Error::Columns`].
    pub fn check(&self, module: &str, cols: usize) -> Result<bool> {
        let (_, input) = self.find(module)?;
        if input.cols == cols {
            Ok(input.hessian)
        } else {
            Err(Error::Columns {
                file: self.file.path().into(),
                module: module.into(),
                got: input.cols,
                expected: cols,
            })
        }
    }

    /// Reads what is known of the inputs of `module`, and nothing else.
    ///
    /// # Errors
    /// [`Error::NoModule`]; [`Error::Statistics`] if the numbers contradict each other;
    /// [`Error::File`] if they cannot be read.
    pub fn inputs(&self, module: &str) -> Result<Inputs> {
        let (name, input) = self.find(module)?;
        let read =
            |suffix| Ok::<_, Error>(self.file.f32_tensor(&format!("{name}{suffix}"))?.values);
        let hessian = if input.hessian {
            Some(square(&read(HESSIAN)?, input.cols))
        } else {
            None
        };
        let moments = (read(MEAN)?, read(MEAN_SQUARE)?);
        Inputs::new(input.samples, moments.0, moments.1, hessian)
            .map_err(|e| self.malformed(format!("the input \"{}\": {e}", printable(name))))
    }

    /// The feed-forward blocks whose gates can be thresholded, by name.
    pub fn gates(&self) -> impl Iterator<Item = &str> {
        let keys = self.file.metadata().range(GATE_PREFIX.to_owned()..);
        keys.map_while(|(key, _)| key.strip_prefix(GATE_PREFIX))
    }

    /// Reads what is known of the feed-forward block `module`, and nothing else.
    ///
    /// # Errors
    /// [`Error::NoThresholds`] if nothing is known; [`Error::Statistics`] if the numbers contradict
    /// each other; [`Error::File`] if they cannot be read.
    pub fn gate(&self, module: &str) -> Result<GateStatistics> {
        let Some(text) = self.file.metadata().get(&format!("{GATE_PREFIX}{module}")) else {
            return Err(self.no_thresholds(module));
        };
        let wrong = |reason: String| {
            self.malformed(format!("the gate of \"{}\": {reason}", printable(module)))
        };
        let entry: GateEntry = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let vector = |suffix| self.vector(&format!("{module}{suffix}"));
        let moments = [
            vector(UP_MEAN_ABS)?,
            vector(UP_MEAN_SQUARE)?,
            vector(DOWN_NORM)?,
        ];
        let [abs, squares, norms] = moments;
        let channels = Channels::new(entry.samples, abs, squares, norms);
        let channels = channels.map_err(|e| wrong(e.to_string()))?;
        let table = |importance: Importance| {
            let values = self.vector(&format!("{module}.{}", importance.name()))?;
            QuantileTable::new(values).map_err(|e| wrong(e.to_string()))
        };
        let tables = Importance::ALL
            .into_iter()
            .map(table)
            .collect::<Result<_>>()?;
        GateStatistics::new(channels, tables)
    }

    /// Reads the quantiles of the magnitudes of the inputs of `module`.
    ///
    /// # Errors
    /// [`Error::NoModule`], [`Error::NoThresholds`], [`Error::Statistics`], [`Error::File`].
    pub fn quantiles(&self, module: &str) -> Result<QuantileTable> {
        let (name, _) = self.find(module)?;
        let tensor = format!("{name}{QUANTILES}");
        if self.file.tensor(&tensor).is_none() {
            return Err(self.no_thresholds(module));
        }
        QuantileTable::new(self.vector(&tensor)?)
            .map_err(|e| self.malformed(format!("the input \"{}\": {e}", printable(name))))
    }

    /// Reads an F32 tensor of one dimension.
    fn vector(&self, tensor: &str) -> Result<Vec<f32>> {
        match self.file.tensor(tensor) {
            Some(t) if t.dtype != TensorDtype::F32 || t.shape.len() != 1 => {
                Err(self.malformed(format!(
                    "the tensor \"{}\" is {} {:?}, expected F32 of one dimension",
                    printable(tensor),
                    t.dtype,
                    t.shape
                )))
            }
            // A missing tensor is an error that the file reports.
            _ => Ok(self.file.f32_tensor(tensor)?.values),
        }
    }

    fn no_thresholds(&self, module: &str) -> Error {
        Error::NoThresholds {
            file: self.file.path().into(),
            module: module.into(),
        }
    }

    fn find(&self, module: &str) -> Result<(&str, &Input)> {
        let found = self.modules.get(module);
        let found = found.and_then(|name| Some((name.as_str(), self.inputs.get(name)?)));
        found.ok_or_else(|| Error::NoModule {
            file: self.file.path().into(),
            module: module.into(),
        })
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Statistics {
            file: self.file.path().into(),
            reason,
        }
    }
}

/// The full symmetric matrix of a lower triangle.
fn square(triangle: &[f32], cols: usize) -> Vec<f32> {
    let mut full = vec![0.0; cols * cols];
    let mut rest = triangle;
    for row in 0..cols {
        let (values, others) = rest.split_at(row + 1);
        rest = others;
        for (col, &value) in values.iter().enumerate() {
            full[row * cols + col] = value;
            full[col * cols + row] = value;
        }
    }
    full
}
