//! Which files a model consists of: one, or the shards that an index names.
//!
//! ```text
//! model.safetensors.index.json
//! {"metadata": {…}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors", …}}
//! ```

use crate::{
    error::{Error, Result, parser_words, quoted},
    header::{MAX_HEADER, UniqueMap},
    shard::read_small,
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// The files of a model, and their index if there is one.
#[derive(Debug)]
pub(crate) struct Files {
    pub paths: Vec<PathBuf>,
    pub index: Option<Index>,
}

/// A shard index.
#[derive(Debug)]
pub(crate) struct Index {
    pub path: PathBuf,
    /// Tensor name → number of its file in [`Files::paths`].
    pub tensors: BTreeMap<String, usize>,
}

/// The files of the model at `path`: a safetensors file, an index (`….json`), or
/// a folder that holds a `model.safetensors`, an index or one other `.safetensors`.
pub(crate) fn files(path: &Path) -> Result<Files> {
    let single = |path: PathBuf| Files {
        paths: vec![path],
        index: None,
    };
    if path.is_dir() {
        // In this order, as transformers has it: a model that was saved again in one file leaves the index of
        // the old shards behind.
        let file = path.join(SINGLE);
        if file.exists() {
            return Ok(single(file));
        }
        let index = path.join(INDEX);
        if index.exists() {
            return sharded(&index);
        }
        if let [file] = &others(path)?[..] {
            return Ok(single(file.clone()));
        }
        let reason =
            format!("the folder holds neither {INDEX} nor {SINGLE} nor one other .safetensors");
        return Err(Error::Malformed {
            file: path.into(),
            reason,
        });
    }
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"))
    {
        return sharded(path);
    }
    Ok(single(path.into()))
}

/// The `.safetensors` files of a folder, whatever they are called.
fn others(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |reason| Error::Read {
        file: folder.into(),
        reason,
    };
    let mut files = vec![];
    for entry in folder.read_dir().map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            files.push(path);
        }
    }
    Ok(files)
}

#[derive(Deserialize)]
struct IndexJson {
    weight_map: UniqueMap,
}

fn sharded(path: &Path) -> Result<Files> {
    let malformed = |reason: String| Error::Malformed {
        file: path.into(),
        reason,
    };
    let json: IndexJson = serde_json::from_slice(&read_small(path, MAX_HEADER)?)
        .map_err(|e| malformed(format!("it is no shard index: {}", parser_words(&e))))?;

    let names: BTreeSet<&String> = json.weight_map.0.values().collect();
    let numbers: BTreeMap<&String, usize> = names.iter().copied().zip(0..).collect();
    if names.is_empty() {
        return Err(malformed("the index names no files".into()));
    }
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut paths = Vec::with_capacity(names.len());
    for name in &names {
        if !is_plain(name) {
            return Err(malformed(format!(
                "the index names the file {}; only plain names of files beside it are allowed",
                quoted(name)
            )));
        }
        paths.push(folder.join(name));
    }
    let tensors = json
        .weight_map
        .0
        .iter()
        .map(|(t, file)| (t.clone(), numbers[file]))
        .collect();
    Ok(Files {
        paths,
        index: Some(Index {
            path: path.into(),
            tensors,
        }),
    })
}

/// Whether `name` is a single path component on every system, so that it cannot lead out of its
/// folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    ) && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_names_inside_the_folder_are_plain() {
        assert!(is_plain("model-00001-of-00002.safetensors") && is_plain("..a"));
        for name in [
            "", ".", "..", "../a", "a/b", "/a", "a/", "a\\b", "c:a", "a\0b",
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
