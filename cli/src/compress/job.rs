//! The job that a work folder belongs to.

use crate::error::{Error, Result};
use lacuna_io::{is_leftover, printable, write_new_file};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// The file of a work folder that says which job it belongs to.
pub const JOB: &str = "job.json";
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
}

/// The text of a job's file, the same for the same job.
pub fn to_text(job: &impl Serialize) -> String {
    serde_json::to_string_pretty(job).expect("text and numbers are always JSON") + "\n"
}

/// Makes `folder` the work folder of `job`, or continues one of the same job. `read` reads the file of a job.
pub fn claim<J: Serialize>(
    folder: &Path,
    job: &J,
    read: impl FnOnce(&Path) -> Result<J>,
) -> Result<()> {
    let write = |reason| lacuna_io::Error::Write {
        file: folder.into(),
        reason,
    };
    let file = folder.join(JOB);
    if !file.exists() {
        fs::create_dir_all(folder).map_err(write)?;
        // Another run may be about to begin here, or was killed when it was.
        let mut entries = fs::read_dir(folder).map_err(write)?.flatten();
        let foreign = entries.any(|entry| !is_leftover(&entry.file_name()));
        if foreign && !file.exists() {
            let reason = "it exists and is no work folder: it holds files, but no job.json";
            return Err(lacuna_io::Error::Refused {
                file: folder.into(),
                reason,
            }
            .into());
        }
        if write_new_file(&file, to_text(job).as_bytes())? {
            return Ok(());
        }
    }
    check_same(folder, job, &read(&file)?)
}

/// Removes the job of a work folder, the half-written files of killed runs, and the folder if it is then empty.
pub fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_leftover(&entry.file_name()) {
            let _ = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
        }
    }
    let _ = fs::remove_file(folder.join(JOB));
    // Fails, and leaves the folder, if it holds files that are not ours.
    let _ = fs::remove_dir(folder);
}

/// Refuses a `folder` whose job is not this one, and says in what they differ.
fn check_same<J: Serialize>(folder: &Path, job: &J, found: &J) -> Result<()> {
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
        let said = |job: &Job, found: &Job| {
            let refused = check_same(Path::new("out.parts"), job, found);
            refused.map_err(|e| e.to_string())
        };
        assert_eq!(said(&job, &Job::parse(&to_text(&job)).unwrap()), Ok(()));
        let other = Job {
            score: "wanda".into(),
            ..job.clone()
        };
        let wanda = Job {
            statistics: Some("5 bytes ab".into()),
            ..other.clone()
        };
        let message = said(&job, &wanda).unwrap_err();
        assert!(message.contains("its score is wanda"), "{message}");
        let message = said(&wanda, &other).unwrap_err();
        assert!(message.contains("its statistics is none"), "{message}");
    }

    #[test]
    fn a_folder_where_another_run_began_is_claimed_and_one_of_other_files_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let job = Job::new();
        let claim = |job: &Job| {
            let read = |file: &Path| Ok(Job::parse(&fs::read_to_string(file).unwrap()).unwrap());
            super::claim(folder.path(), job, read)
        };
        let (other, ours) = (
            folder.path().join("notes"),
            folder.path().join(".lacuna-x.tmp"),
        );
        fs::write(&other, "").unwrap();
        assert!(
            claim(&job)
                .unwrap_err()
                .to_string()
                .contains("no work folder")
        );
        fs::rename(other, ours).unwrap();
        claim(&job).unwrap();
        claim(&job).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |name| {
                fs::metadata(folder.path().join(name))
                    .unwrap()
                    .permissions()
                    .mode()
            };
            fs::write(folder.path().join("any"), "").unwrap();
            assert_eq!(mode(JOB), mode("any"), "others that share the work read it");
        }
        let wanda = Job {
            score: "wanda".into(),
            ..job
        };
        assert!(matches!(claim(&wanda), Err(Error::OtherJob { .. })));
        remove(folder.path());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "the file that is not ours"
        );
    }

    #[test]
    fn newer_layouts_are_refused() {
        let text = to_text(&Job::new()).replace("\"layout\": 1", "\"layout\": 2");
        assert!(Job::parse(&text).unwrap_err().contains("layout is 2"));
    }
}
