//! Models in several files.

mod common;

use common::Folder;
use lacuna_io::{Error, Kind, RawTensor, WeightFile, save};

const INDEX: &str = "model.safetensors.index.json";

/// Two shards and an index over them.
fn sharded() -> Folder {
    let folder = Folder::new();
    save(
        folder.path("1.safetensors"),
        [("a.weight", RawTensor::from_f32(&[1, 2], &[1., 2.]))],
    )
    .unwrap();
    save(
        folder.path("2.safetensors"),
        [("b.weight", RawTensor::from_f32(&[2, 1], &[3., 4.]))],
    )
    .unwrap();
    put_index(
        &folder,
        r#""a.weight":"1.safetensors","b.weight":"2.safetensors""#,
    );
    folder
}

fn put_index(folder: &Folder, map: &str) {
    folder.put(
        INDEX,
        format!(r#"{{"metadata":{{"total_size":16}},"weight_map":{{{map}}}}}"#).as_bytes(),
    );
}

fn refusal(folder: &Folder) -> String {
    let error = WeightFile::open(folder.path("")).unwrap_err();
    assert_eq!(error.kind(), Kind::Input, "{error}");
    error.to_string()
}

#[test]
fn a_folder_and_its_index_open_as_one_file() {
    let folder = sharded();
    for path in [folder.path(""), folder.path(INDEX)] {
        let file = WeightFile::open(path).unwrap();
        let names: Vec<&str> = file.modules().map(lacuna_io::Module::name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            file.weight("b").unwrap().to_dense().values().to_f32(),
            [3., 4.]
        );
    }
}

#[test]
fn a_folder_with_one_model_file_needs_no_index() {
    let folder = Folder::new();
    assert!(refusal(&folder).contains("neither"));
    save(
        folder.path("model.safetensors"),
        [("x", RawTensor::from_f32(&[1], &[1.]))],
    )
    .unwrap();
    assert_eq!(
        WeightFile::open(folder.path("")).unwrap().tensors().count(),
        1
    );
}

#[test]
fn a_model_in_one_file_comes_before_an_index_that_was_left_behind() {
    let folder = sharded();
    let single = [("c.weight", RawTensor::from_f32(&[1, 1], &[5.]))];
    save(folder.path("model.safetensors"), single).unwrap();
    let file = WeightFile::open(folder.path("")).unwrap();
    let names: Vec<&str> = file.modules().map(lacuna_io::Module::name).collect();
    assert_eq!(names, ["c"]);
    let indexed = WeightFile::open(folder.path(INDEX)).unwrap();
    assert_eq!(indexed.modules().count(), 2);
}

#[test]
fn files_outside_the_folder_are_refused() {
    for name in [
        "../1.safetensors",
        "/etc/hostname",
        "sub/1.safetensors",
        "..",
        ".",
        "",
    ] {
        let folder = sharded();
        put_index(&folder, &format!(r#""a.weight":"{name}""#));
        let message = refusal(&folder);
        assert!(
            message.contains("plain names") && message.contains(name),
            "{message}"
        );
    }
}

#[test]
fn missing_shards_and_an_index_of_itself_are_refused() {
    let folder = sharded();
    put_index(&folder, r#""a.weight":"3.safetensors""#);
    assert!(refusal(&folder).contains("3.safetensors"));
    put_index(&folder, &format!(r#""a.weight":"{INDEX}""#));
    refusal(&folder);
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let folder = sharded();
    // Of the shard that lacks it, and of two shards exchanged.
    for of_b in ["2", "1"] {
        let map = format!(r#""a.weight":"2.safetensors","b.weight":"{of_b}.safetensors""#);
        put_index(&folder, &map);
        assert!(refusal(&folder).contains("no tensor \"a.weight\""));
    }
    put_index(&folder, r#""a.weight":"1.safetensors","c":"2.safetensors""#);
    assert!(refusal(&folder).contains("no tensor \"c\""));
    put_index(
        &folder,
        r#""a.weight":"1.safetensors","a.weight":"2.safetensors""#,
    );
    assert!(refusal(&folder).contains("occurs twice"));
    put_index(&folder, "");
    assert!(refusal(&folder).contains("no files"));
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let folder = sharded();
    save(
        folder.path("2.safetensors"),
        [("a.weight", RawTensor::from_f32(&[1], &[1.]))],
    )
    .unwrap();
    assert!(refusal(&folder).contains("is also in"));
}

#[test]
fn text_that_is_no_index_is_refused() {
    let folder = sharded();
    for text in [
        "",
        "[]",
        "{}",
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":1}}"#,
    ] {
        folder.put(INDEX, text.as_bytes());
        assert!(refusal(&folder).contains("no shard index"));
    }
}

#[test]
fn one_shard_of_several_is_no_output() {
    let folder = sharded();
    let file = WeightFile::open(folder.path("")).unwrap();
    for name in ["1.safetensors", INDEX] {
        let error = file.check_output(folder.path(name)).unwrap_err();
        assert!(
            matches!(error, Error::Refused { .. }) && error.kind() == Kind::Usage,
            "{error}"
        );
    }
    file.check_output(folder.path("new.safetensors")).unwrap();
    let single = WeightFile::open(folder.path("1.safetensors")).unwrap();
    single.check_output(folder.path("1.safetensors")).unwrap();
}
