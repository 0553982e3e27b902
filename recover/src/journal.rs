//! The finished parts of a recovery, as files in a work folder.
//!
//! ```text
//! block-00000.safetensors   the products of a block that is recovered
//! model.safetensors         the state of the model stage at its last check
//! ```
//!
//! Each file is renamed into place when it is complete, and names the job that it belongs to.

use crate::{
    error::{Error, Result},
    job::each,
};
use lacuna::format::Matrix;
use lacuna_io::{Output, RawTensor, TensorDtype, WeightFile, is_leftover};
use lacuna_llm::Linear;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The entry of a file's header that names the job.
const JOB: &str = "recover.job";
/// The entries of the model stage's state.
const STEP: &str = "recover.step";
const START: &str = "recover.start";
const BEST: &str = "recover.best";

/// A work folder.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
    job: String,
}

/// The state of the model stage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// Steps done.
    pub done: usize,
    /// Loss on the held-out windows before the first.
    pub start: f64,
    /// The least loss so far.
    pub best: f64,
    /// By name: the parameters, their moments, and the parameters that had the least loss.
    pub vectors: BTreeMap<String, Vec<f32>>,
}

impl Journal {
    /// A journal in `folder`, which must exist. `job` stands for everything that decides the result:
    /// sources, windows, options. Files of another `job` are refused.
    pub fn new(folder: impl Into<PathBuf>, job: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            job: job.into(),
        }
    }

    fn block_file(&self, n: usize) -> PathBuf {
        self.folder.join(format!("block-{n:05}.safetensors"))
    }

    fn state_file(&self) -> PathBuf {
        self.folder.join("model.safetensors")
    }

    /// Opens a file of this job; `None` where it does not exist.
    fn open(&self, file: &Path) -> Result<Option<WeightFile>> {
        if !file.exists() {
            return Ok(None);
        }
        let opened = WeightFile::open(file)?;
        if opened.metadata().get(JOB) != Some(&self.job) {
            return Err(state(file, "it belongs to another recovery"));
        }
        Ok(Some(opened))
    }

    /// The recovered products of block `n`, or `None` if it is not done. Their formats and shapes must be
    /// those of `like`.
    pub(crate) fn block(&self, n: usize, like: &[Matrix; 7]) -> Result<Option<[Matrix; 7]>> {
        let file = self.block_file(n);
        let Some(opened) = self.open(&file)? else {
            return Ok(None);
        };
        let matrices = each(|linear| {
            let matrix = opened.weight(&linear.module(n))?;
            let shape = |m: &Matrix| (m.format(), m.rows(), m.cols());
            if shape(&matrix) != shape(&like[linear as usize]) {
                let reason = format!("{} is not what it is in the model", linear.module(n));
                return Err(state(&file, &reason));
            }
            Ok(matrix)
        });
        matrices.map(Some)
    }

    pub(crate) fn keep_block(&self, n: usize, matrices: &[Matrix; 7]) -> Result<()> {
        let mut output = Output::new();
        output.metadata(&BTreeMap::from([(JOB.into(), self.job.clone())]));
        let named = || Linear::ALL.into_iter().map(|l| l.module(n)).zip(matrices);
        for (name, matrix) in named() {
            output.weight(&name, matrix.format(), matrix.rows(), matrix.cols())?;
        }
        let mut writer = output.create(self.block_file(n))?;
        for (name, matrix) in named() {
            writer.weight(&name, matrix)?;
        }
        Ok(writer.finish()?)
    }

    pub(crate) fn state(&self) -> Result<Option<State>> {
        let file = self.state_file();
        let Some(opened) = self.open(&file)? else {
            return Ok(None);
        };
        let mut vectors = BTreeMap::new();
        for tensor in opened.tensors() {
            let values = opened.f32_tensor(tensor.name)?.values;
            vectors.insert(tensor.name.to_owned(), values);
        }
        let entries = opened.metadata();
        let number = |key: &str| {
            let number = entries.get(key).and_then(|text| text.parse::<f64>().ok());
            number.ok_or_else(|| state(&file, &format!("its entry {key} is no number")))
        };
        Ok(Some(State {
            done: number(STEP)? as usize,
            start: number(START)?,
            best: number(BEST)?,
            vectors,
        }))
    }

    pub(crate) fn keep_state(&self, state: &State) -> Result<()> {
        let mut output = Output::new();
        // A float printed as text parses back to the same float.
        output.metadata(&BTreeMap::from([
            (JOB.into(), self.job.clone()),
            (STEP.into(), state.done.to_string()),
            (START.into(), state.start.to_string()),
            (BEST.into(), state.best.to_string()),
        ]));
        for (name, values) in &state.vectors {
            output.tensor(name, TensorDtype::F32, &[values.len()])?;
        }
        let mut writer = output.create(self.state_file())?;
        for (name, values) in &state.vectors {
            writer.tensor(name, &RawTensor::from_f32(&[values.len()], values).bytes)?;
        }
        Ok(writer.finish()?)
    }

    /// Removes the files of `blocks` blocks and of the model stage, and the half-written files of killed
    /// runs. What cannot be removed stays.
    pub fn remove(&self, blocks: usize) {
        for n in 0..blocks {
            let _ = std::fs::remove_file(self.block_file(n));
        }
        let _ = std::fs::remove_file(self.state_file());
        for entry in std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
        {
            if is_leftover(&entry.file_name()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn state(file: &Path, reason: &str) -> Error {
    Error::State {
        file: file.into(),
        reason: reason.into(),
    }
}
