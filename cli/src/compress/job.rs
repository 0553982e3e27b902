//! The job that a work folder belongs to.

use crate::error::{Error, Result};
use lacuna_io::printable;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// Version of the layout of work folders.
const LAYOUT: u32 = 1;

/// Everything that decides the bytes of the output, and nothing else; in particular no paths, which
/// differ between machines that share the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub layout: u32,
    /// The version of this program, as others may give other results.
    pub lacuna: String,
    /// Fingerprints of the input's files.
    pub input: Vec<String>,
    pub format: String,
    /// Globs, as they were given.
    pub tensors: Vec<String>,
    pub score: String,
    /// Fingerprint of the statistics.
    pub statistics: Option<String>,
    pub recover: String,
    /// SHA-256 of the files that go beside the weights, by name.
    pub beside: BTreeMap<String, String>,
    /// Names of the parts.
    pub parts: Vec<String>,
}

impl Job {
    /// A job of this version; the caller fills in the other fields.
    pub fn new() -> Self {
        Self {
            layout: LAYOUT,
            lacuna: env!("CARGO_PKG_VERSION").into(),
            input: vec![],
            format: String::new(),
            tensors: vec![],
            score: String::new(),
            statistics: None,
            recover: String::new(),
            beside: BTreeMap::new(),
            parts: vec![],
        }
    }

    /// The text of its file, the same for the same job.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are always JSON") + "\n"
    }

    /// Reads a file's text; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let job: Self = serde_json::from_str(text).map_err(|e| printable(&e.to_string()))?;
        if job.layout == LAYOUT {
            Ok(job)
        } else {
            let layout = job.layout;
            Err(format!("its layout is {layout}, this build knows {LAYOUT}"))
        }
    }

    /// Refuses to continue in a `folder` of another job, and says in what they differ.
    pub fn check_same(&self, folder: &Path, found: &Self) -> Result<()> {
        check_same(folder, self, found)
    }
}

/// Refuses a `folder` whose job is not this one, and says in what they differ.
pub fn check_same<J: Serialize>(folder: &Path, job: &J, found: &J) -> Result<()> {
    let fields = |job: &J| match serde_json::to_value(job) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (own, other) = (fields(job), fields(found));
    let differs = own
        .iter()
        .find(|(key, value)| other.get(*key) != Some(*value));
    let Some((what, expected)) = differs else {
        return Ok(());
    };
    let shown = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "none".into(),
        Some(Value::String(text)) => printable(text),
        Some(other) => printable(&other.to_string()),
    };
    Err(Error::OtherJob {
        folder: printable(&folder.to_string_lossy()),
        what: what.clone(),
        got: shown(other.get(what)),
        expected: shown(Some(expected)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let job = Job::new();
        let folder = Path::new("out.parts");
        assert!(
            job.check_same(folder, &Job::parse(&job.to_text()).unwrap())
                .is_ok()
        );
        let wanda = Job {
            score: "wanda".into(),
            statistics: Some("5 bytes ab".into()),
            ..job.clone()
        };
        let message = job.check_same(folder, &wanda).unwrap_err().to_string();
        assert!(message.contains("its score is wanda"), "{message}");
        let message = wanda
            .check_same(
                folder,
                &Job {
                    score: "wanda".into(),
                    ..job
                },
            )
            .unwrap_err();
        assert!(
            message.to_string().contains("its statistics is none"),
            "{message}"
        );
    }

    #[test]
    fn newer_layouts_are_refused() {
        let text = Job::new()
            .to_text()
            .replace("\"layout\": 1", "\"layout\": 2");
        assert!(Job::parse(&text).unwrap_err().contains("layout is 2"));
    }
}
