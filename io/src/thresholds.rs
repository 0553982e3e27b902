//! The file of a model's activation thresholds; `docs/thresholds.md` is the specification.
//!
//! ```text
//! __metadata__:  lacuna.version = "1"
//!                lacuna.thresholds = {"method":"chess","sparsity":0.5}
//! tensors:       P.thresholds F32 [channels], or [1] for all channels of P
//!                P.active     F32 [1], where known: the share expected to be active
//! ```

use crate::{
    container::THRESHOLDS_KEY,
    error::{Error, Result, parser_words, quoted},
    file::WeightFile,
    output::Output,
    tensor::TensorDtype,
};
use lacuna::format::Thresholds;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

const SUFFIX: &str = ".thresholds";
const ACTIVE: &str = ".active";

/// How thresholds were found, for people who look at the file later. No reader depends on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// What was measured: `"cats"`, `"chess"`, …
    pub method: String,
    /// The share of activations that was to be dropped, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// How that share was divided among the products, if there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocate: Option<String>,
    /// Whether queries and the output of attention are thresholded too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attention: bool,
    /// The share of the outputs that may be lost, if thresholds were chosen by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cett: Option<f64>,
    /// The share by which the perplexity of a text may rise, and the one by which it rose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppl_increase: Option<[f64; 2]>,
}

/// Thresholds of a model's activations, by module.
///
/// The thresholds of a feed-forward block `….mlp` apply to the gate after its activation: a channel
/// that does not exceed its threshold takes no part in `up` and `down`. The thresholds of a
/// product apply to its input.
#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdFile {
    /// How they were found.
    pub origin: Origin,
    /// The thresholds, by name of the module.
    pub modules: BTreeMap<String, Thresholds>,
}

impl ThresholdFile {
    /// Reads and checks a whole file.
    ///
    /// # Errors
    /// Those of [`WeightFile::open`] and of reading; [`Error::Malformed`] if it is no file of
    /// thresholds; [`Error::Tensor`] for tensors that are not thresholds; [`Error::Weight`] for
    /// thresholds that are NaN or below 0.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let malformed = |reason| Error::Malformed {
            file: file.path().into(),
            reason,
        };
        let Some(text) = file.metadata().get(THRESHOLDS_KEY) else {
            let reason = format!("its header has no {THRESHOLDS_KEY}: it holds no thresholds");
            return Err(malformed(reason));
        };
        let origin = serde_json::from_str(text)
            .map_err(|e| malformed(format!("{THRESHOLDS_KEY}: {}", parser_words(&e))))?;
        let (mut modules, mut expected) = (BTreeMap::new(), BTreeMap::new());
        for tensor in file.tensors() {
            let wrong = |what, got: String, expected: &str| Error::Tensor {
                file: file.path().into(),
                tensor: tensor.name.into(),
                what,
                got,
                expected: expected.into(),
            };
            let [thresholds, active] = [SUFFIX, ACTIVE].map(|s| tensor.name.strip_suffix(s));
            let module = thresholds.or(active).filter(|module| !module.is_empty());
            let Some(module) = module else {
                let expected = "P.thresholds or P.active, in a file of thresholds";
                return Err(wrong("name", "another".into(), expected));
            };
            if tensor.dtype != TensorDtype::F32 {
                return Err(wrong("type", tensor.dtype.to_string(), "F32"));
            }
            if tensor.shape.len() != 1 {
                let got = format!("{:?}", tensor.shape);
                return Err(wrong("shape", got, "one dimension"));
            }
            let values = file.f32_tensor(tensor.name)?.values;
            if active.is_some() {
                let &[share] = values.as_slice() else {
                    return Err(wrong("shape", format!("[{}]", values.len()), "[1]"));
                };
                expected.insert(module.to_owned(), share);
                continue;
            }
            let thresholds = Thresholds::new(values).map_err(|reason| Error::Weight {
                file: file.path().into(),
                module: module.into(),
                reason,
            })?;
            modules.insert(module.to_owned(), thresholds);
        }
        for (module, share) in expected {
            let weight = |reason| Error::Weight {
                file: file.path().into(),
                module: module.clone(),
                reason,
            };
            let Some(thresholds) = modules.get_mut(&module) else {
                let [active, missing] = [ACTIVE, SUFFIX].map(|s| quoted(&format!("{module}{s}")));
                let reason = format!("tensor {active} stands without {missing}");
                return Err(malformed(reason));
            };
            *thresholds = thresholds.clone().expecting(share).map_err(weight)?;
        }
        Ok(Self { origin, modules })
    }

    /// Writes the file, which appears complete or not at all.
    ///
    /// # Errors
    /// As [`Output::create`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut output = Output::new();
        let text = serde_json::to_string(&self.origin).map_err(|e| Error::Plan {
            tensor: THRESHOLDS_KEY.into(),
            reason: e.to_string(),
        })?;
        output.own_entry(THRESHOLDS_KEY, text);
        let mut tensors: Vec<(String, Vec<f32>)> = vec![];
        for (module, thresholds) in &self.modules {
            tensors.push((format!("{module}{SUFFIX}"), thresholds.values().to_vec()));
            let share = thresholds.expected().map(|share| vec![share]);
            tensors.extend(share.map(|share| (format!("{module}{ACTIVE}"), share)));
        }
        for (name, values) in &tensors {
            output.tensor(name, TensorDtype::F32, &[values.len()])?;
        }
        let mut writer = output.create(path)?;
        for (name, values) in &tensors {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes());
            writer.tensor(name, &bytes.collect::<Vec<u8>>())?;
        }
        writer.finish()
    }
}
