//! Outputs appear complete or not at all.

mod common;

use common::{Folder, sparse};
use lacuna::format::{Dtype, Format, Matrix};
use lacuna_io::{
    Error, Kind, Output, RawTensor, TensorDtype, WeightFile, Writer, check_place, save,
};
use std::{collections::BTreeMap, fs};

fn two_tensors(folder: &Folder) -> Writer {
    let mut output = Output::new();
    output.tensor("a", TensorDtype::U8, &[3]).unwrap();
    output.tensor("b", TensorDtype::F32, &[1]).unwrap();
    output.create(folder.path("y")).unwrap()
}

#[test]
fn a_tensor_that_was_appended_in_part_does_not_finish() {
    let folder = Folder::new();
    let mut writer = two_tensors(&folder);
    writer.tensor("b", &4.0f32.to_le_bytes()).unwrap();
    writer.append("a", &[1, 2]).unwrap();
    assert!(writer.finish().is_err());
    assert!(folder.names().is_empty());
}

#[test]
fn tensors_may_come_in_any_order() {
    let folder = Folder::new();
    let mut writer = two_tensors(&folder);
    writer.tensor("a", &[1, 2, 3]).unwrap();
    writer.tensor("b", &4.0f32.to_le_bytes()).unwrap();
    writer.finish().unwrap();
    assert_eq!(folder.names(), ["y"]);
    let file = WeightFile::open(folder.path("y")).unwrap();
    assert_eq!(file.raw("a").unwrap().bytes, [1, 2, 3]);
    assert_eq!(file.f32_tensor("b").unwrap().values, [4.0]);
    let crate_read = fs::read(folder.path("y")).unwrap();
    assert_eq!(
        safetensors::SafeTensors::deserialize(&crate_read)
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn an_interrupted_write_leaves_nothing_and_keeps_what_was_there() {
    let folder = Folder::new();
    folder.put("y", b"before");
    let mut writer = two_tensors(&folder);
    writer.tensor("a", &[1, 2, 3]).unwrap();
    assert_eq!(folder.names().len(), 2);
    drop(writer);
    assert_eq!(folder.names(), ["y"]);
    assert_eq!(fs::read(folder.path("y")).unwrap(), b"before");
}

#[test]
fn an_incomplete_file_does_not_finish() {
    let folder = Folder::new();
    let mut writer = two_tensors(&folder);
    writer.tensor("a", &[1, 2, 3]).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(error.to_string().contains("\"b\""), "{error}");
    assert!(folder.names().is_empty());
}

#[test]
fn what_was_not_declared_so_is_refused() {
    let folder = Folder::new();
    let mut writer = two_tensors(&folder);
    for (name, bytes) in [("c", &[][..]), ("a", &[1, 2]), ("a", &[1, 2, 3, 4])] {
        assert_eq!(writer.tensor(name, bytes).unwrap_err().kind(), Kind::Usage);
    }
    writer.tensor("a", &[1, 2, 3]).unwrap();
    assert!(
        writer
            .tensor("a", &[1, 2, 3])
            .unwrap_err()
            .to_string()
            .contains("before")
    );

    let mut output = Output::new();
    output
        .weight("P", "2:4@f32".parse().unwrap(), 2, 4)
        .unwrap();
    let mut writer = output.create(folder.path("z")).unwrap();
    let weight =
        |pattern: &str| Matrix::from(sparse(pattern.parse().unwrap(), Dtype::F32, 2, 4, 1));
    // On 4 columns the sections of 4:8 have other lengths; those of 2:3 hold other columns.
    for pattern in ["4:8", "2:3", "2:4x2"] {
        assert!(writer.weight("P", &weight(pattern)).is_err(), "{pattern}");
    }
    writer.weight("P", &weight("2:4")).unwrap();
    writer.finish().unwrap();
}

#[test]
fn impossible_contents_are_refused() {
    let mut output = Output::new();
    output
        .weight("P", "2:4@f32".parse().unwrap(), 2, 4)
        .unwrap();
    assert!(output.tensor("P.values", TensorDtype::U8, &[1]).is_err());
    assert!(
        output
            .tensor("__metadata__", TensorDtype::U8, &[1])
            .is_err()
    );
    assert!(
        output
            .tensor("x", TensorDtype::F32, &[usize::MAX, 2])
            .is_err()
    );
    output
        .tensor("y", TensorDtype::U8, &[usize::MAX / 16])
        .unwrap();
    let sums = (0..20).map(|i| output.tensor(&i.to_string(), TensorDtype::U8, &[usize::MAX / 16]));
    assert!(sums.collect::<Result<Vec<_>, _>>().is_err());
    for (rows, cols) in [(0, 4), (4, 0), (usize::MAX, 4)] {
        assert!(
            output
                .weight("Q", "f32".parse().unwrap(), rows, cols)
                .is_err()
        );
    }
    let without_dtype: Format = "2:4".parse().unwrap();
    let error = output.weight("Q", without_dtype, 2, 4).unwrap_err();
    assert!(error.to_string().contains("2:4@f16"), "{error}");
}

#[test]
fn folders_that_do_not_exist_are_output_errors() {
    let error = save(
        Folder::new().path("no/where"),
        [("x", RawTensor::from_f32(&[1], &[1.]))],
    );
    let error = error.unwrap_err();
    assert!(
        matches!(error, Error::Write { .. }) && error.kind() == Kind::Output,
        "{error}"
    );
}

#[test]
fn folders_and_devices_are_not_replaced() {
    let folder = Folder::new();
    for path in [folder.path(""), "/dev/null".into()] {
        if path.exists() {
            let error = save(&path, [("x", RawTensor::from_f32(&[1], &[1.]))]).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
        }
    }
    assert!(folder.names().is_empty());
}

#[test]
fn a_file_is_not_named_like_a_folder() {
    let folder = Folder::new();
    for name in ["o/", "o//", "o/."] {
        let error = check_place(folder.path(name)).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(error.to_string().contains("names a folder"), "{error}");
    }
    for name in ["o", "o/o", "./o", "o.", ".o"] {
        check_place(folder.path(name)).unwrap();
    }
    check_place("o").unwrap();
}

#[test]
fn an_input_may_be_replaced_by_its_own_output() {
    let folder = Folder::new();
    let path = folder.path("x");
    save(
        &path,
        [
            ("P.weight", RawTensor::from_f32(&[1, 4], &[1., 2., 3., 4.])),
            ("s", RawTensor::from_f32(&[1], &[9.])),
        ],
    )
    .unwrap();
    let file = WeightFile::open(&path).unwrap();
    file.check_output(&path).unwrap();
    let format: Format = "2:4@f32".parse().unwrap();
    let mut output = Output::new();
    output.weight("P", format, 1, 4).unwrap();
    output.tensor("s", TensorDtype::F32, &[1]).unwrap();
    let mut writer = output.create(&path).unwrap();
    let Matrix::Dense(dense) = file.weight("P").unwrap() else {
        panic!("the input is dense")
    };
    writer
        .weight("P", &lacuna::compress::compress(&dense, format).unwrap())
        .unwrap();
    writer.tensor("s", &file.raw("s").unwrap().bytes).unwrap();
    writer.finish().unwrap();
    let after = WeightFile::open(&path).unwrap();
    assert_eq!(
        after.weight("P").unwrap().to_dense().values().to_f32(),
        [0., 0., 3., 4.]
    );
    // The old content stays readable through the handle that was open.
    assert_eq!(
        file.f32_tensor("P.weight").unwrap().values,
        [1., 2., 3., 4.]
    );
}

#[test]
fn foreign_metadata_is_kept_and_the_same_content_gives_the_same_bytes() {
    let folder = Folder::new();
    let entries: BTreeMap<String, String> = [("format", "pt"), ("a", "\n\"é"), ("lacuna.Old", "x")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let write = |name: &str| {
        let mut output = Output::new();
        output.metadata(&entries);
        output.tensor("t", TensorDtype::U8, &[0]).unwrap();
        let mut writer = output.create(folder.path(name)).unwrap();
        writer.tensor("t", &[]).unwrap();
        writer.finish().unwrap();
        fs::read(folder.path(name)).unwrap()
    };
    assert_eq!(write("x"), write("y"));
    let file = WeightFile::open(folder.path("x")).unwrap();
    assert_eq!(file.metadata().len(), 2);
    assert_eq!(file.metadata()["a"], entries["a"]);
}
