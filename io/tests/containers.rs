//! Headers and sections of sparse weights that contradict each other.

mod common;

use common::{Folder, assert_refused, file_with, read_all, sparse, write_weight};
use lacuna::format::{Dtype, Matrix};
use lacuna_io::{Kind, Output, TensorDtype, WeightFile, save, stored_bytes};

/// A valid 2:4 weight of [1, 4] in parts that a test may change.
struct File {
    version: &'static str,
    entry: &'static str,
    values: (&'static str, &'static str, Vec<f32>),
    indices: (&'static str, &'static str, Vec<u32>),
}

fn valid() -> File {
    File {
        version: r#""lacuna.version":"1","#,
        entry: r#"{"format":"2:4@f32","rows":1,"cols":4}"#,
        values: ("F32", "[1,2]", vec![1.0, 2.0]),
        indices: ("U32", "[1,1]", vec![0b11_01]),
    }
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let values: Vec<u8> = self.values.2.iter().flat_map(|v| v.to_le_bytes()).collect();
        let indices: Vec<u8> = self
            .indices
            .2
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let (middle, end) = (values.len(), values.len() + indices.len());
        let header = format!(
            r#"{{"__metadata__":{{{}"lacuna.P":"{}"}},
            "P.values":{{"dtype":"{}","shape":{},"data_offsets":[0,{middle}]}},
            "P.indices":{{"dtype":"{}","shape":{},"data_offsets":[{middle},{end}]}}}}"#,
            self.version,
            self.entry.replace('"', "\\\""),
            self.values.0,
            self.values.1,
            self.indices.0,
            self.indices.1,
        );
        file_with(&header, &[values, indices].concat())
    }
}

#[test]
fn the_valid_file_of_these_tests_is_valid() {
    assert!(read_all(&valid().bytes()).is_ok());
}

#[test]
fn newer_versions_are_refused_by_number() {
    for version in ["2", "10", "99999999999999999999999"] {
        let text = format!(r#""lacuna.version":"{version}","#);
        let file = File {
            version: text.leak(),
            ..valid()
        };
        assert_refused(&file.bytes(), &["lacuna.version", version, "up to 1"]);
    }
}

#[test]
fn missing_and_meaningless_versions_are_refused() {
    for version in [
        "",
        r#""lacuna.version":"","#,
        r#""lacuna.version":"0","#,
        r#""lacuna.version":"-1","#,
    ] {
        assert_refused(&File { version, ..valid() }.bytes(), &["lacuna.version"]);
    }
}

#[test]
fn unknown_formats_are_refused_by_name() {
    for (entry, name) in [
        (r#"{"format":"gqs9","rows":1,"cols":4}"#, "gqs9"),
        (r#"{"format":"2:4","rows":1,"cols":4}"#, "2:4"),
        (r#"{"format":"f32","rows":1,"cols":4}"#, "f32"),
        (r#"{"format":"2:4@f64","rows":1,"cols":4}"#, "f64"),
        (r#"{"format":"","rows":1,"cols":4}"#, "\"\""),
    ] {
        assert_refused(&File { entry, ..valid() }.bytes(), &["\"P\"", name]);
    }
}

#[test]
fn patterns_outside_the_limits_are_refused() {
    for pattern in [
        "0:4",
        "5:4",
        "2:64",
        "2:0",
        "2:4x0",
        "2:4x1025",
        "2:99999999999999999999",
    ] {
        let entry = format!(r#"{{"format":"{pattern}@f32","rows":1,"cols":4}}"#);
        assert_refused(
            &File {
                entry: entry.leak(),
                ..valid()
            }
            .bytes(),
            &["\"P\""],
        );
    }
}

#[test]
fn entries_that_are_incomplete_or_of_the_wrong_type_are_refused() {
    for entry in [
        "",
        "[]",
        r#"{"rows":1,"cols":4}"#,
        r#"{"format":"2:4@f32","rows":1}"#,
        r#"{"format":"2:4@f32","rows":-1,"cols":4}"#,
        r#"{"format":"2:4@f32","rows":1.0,"cols":4}"#,
        r#"{"format":"2:4@f32","rows":"1","cols":4}"#,
        r#"{"format":"2:4@f32","rows":1,"rows":1,"cols":4}"#,
        r#"{"format":"2:4@f32","rows":1,"cols":1e30}"#,
    ] {
        assert_refused(&File { entry, ..valid() }.bytes(), &["\"P\""]);
    }
}

#[test]
fn dimensions_that_disagree_with_the_sections_are_refused() {
    for entry in [
        r#"{"format":"2:4@f32","rows":2,"cols":4}"#,
        r#"{"format":"2:4@f32","rows":1,"cols":5}"#,
        r#"{"format":"1:4@f32","rows":1,"cols":4}"#,
        r#"{"format":"2:4@f32","rows":1000000000,"cols":1000000000}"#,
    ] {
        assert_refused(
            &File { entry, ..valid() }.bytes(),
            &["\"P.values\"", "shape"],
        );
    }
    let entry = r#"{"format":"2:4@f32","rows":4294967295,"cols":4294967295}"#;
    assert_refused(
        &File { entry, ..valid() }.bytes(),
        &["\"P\"", "memory addresses"],
    );
    for (rows, cols) in [
        ("0", "4"),
        ("1", "0"),
        ("4294967296", "1"),
        ("1", "18446744073709551615"),
    ] {
        let entry = format!(r#"{{"format":"2:4@f32","rows":{rows},"cols":{cols}}}"#);
        assert_refused(
            &File {
                entry: entry.leak(),
                ..valid()
            }
            .bytes(),
            &["the limits are 1 and"],
        );
    }
}

#[test]
fn sections_of_the_wrong_type_shape_or_length_are_refused() {
    let indices = ("I32", "[1,1]", vec![0b11_01]);
    assert_refused(
        &File { indices, ..valid() }.bytes(),
        &["\"P.indices\"", "I32", "U32"],
    );
    let indices = ("U32", "[1]", vec![0b11_01]);
    assert_refused(
        &File { indices, ..valid() }.bytes(),
        &["\"P.indices\"", "[1, 1]"],
    );
    let indices = ("U32", "[1,2]", vec![0b11_01, 0]);
    assert_refused(
        &File { indices, ..valid() }.bytes(),
        &["\"P.indices\"", "[1, 1]"],
    );
    let values = ("F32", "[1,3]", vec![1.0, 2.0, 3.0]);
    assert_refused(
        &File { values, ..valid() }.bytes(),
        &["\"P.values\"", "[1, 2]"],
    );
    let values = ("F16", "[1,4]", vec![1.0, 2.0]);
    assert_refused(
        &File { values, ..valid() }.bytes(),
        &["\"P.values\"", "F16", "F32"],
    );
}

#[test]
fn indices_that_repeat_descend_or_waste_slots_are_refused() {
    for word in [0b01_01, 0b01_11, 0b0001_0000_1101] {
        let indices = ("U32", "[1,1]", vec![word]);
        assert_refused(&File { indices, ..valid() }.bytes(), &["\"P\"", "index"]);
    }
    // The last window has only column 4, which must be used before the spare slot.
    let entry = r#"{"format":"2:4@f32","rows":1,"cols":5}"#;
    let values = ("F32", "[1,4]", vec![1.0, 2.0, 3.0, 0.0]);
    let file = |word| File {
        entry,
        values: values.clone(),
        indices: ("U32", "[1,1]", vec![word]),
        ..valid()
    };
    assert!(read_all(&file(0b01_00_11_01).bytes()).is_ok());
    assert_refused(&file(0b10_01_11_01).bytes(), &["columns left"]);
}

#[test]
fn indices_past_a_width_that_is_no_power_of_two_are_refused() {
    let file = |word| File {
        entry: r#"{"format":"1:5@f32","rows":1,"cols":10}"#,
        indices: ("U32", "[1,1]", vec![word]),
        ..valid()
    };
    assert!(read_all(&file(0b100_011).bytes()).is_ok());
    for word in [0b101_011, 0b000_111] {
        assert_refused(&file(word).bytes(), &["not below m"]);
    }
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for value in [f32::NAN, f32::INFINITY] {
        let values = ("F32", "[1,2]", vec![1.0, value]);
        assert_refused(&File { values, ..valid() }.bytes(), &["not finite"]);
    }
}

#[test]
fn a_missing_section_is_named() {
    let header = r#"{"__metadata__":{"lacuna.version":"1",
        "lacuna.P":"{\"format\":\"2:4@f32\",\"rows\":1,\"cols\":4}"}}"#;
    assert_refused(&file_with(header, &[]), &["no tensor \"P.values\""]);
}

#[test]
fn a_weight_that_is_both_dense_and_sparse_is_refused() {
    let header = r#"{"__metadata__":{"lacuna.version":"1",
        "lacuna.P":"{\"format\":\"1:1@f32\",\"rows\":1,\"cols\":1}"},
        "P.indices":{"dtype":"U32","shape":[1,0],"data_offsets":[0,0]},
        "P.values":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},
        "P.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}"#;
    assert_refused(&file_with(header, &[0; 8]), &["\"P\"", "P.weight"]);
}

#[test]
fn unknown_fields_of_an_entry_are_ignored() {
    let entry = r#"{"format":"2:4@f32","rows":1,"cols":4,"note":{"by":"hand"}}"#;
    assert!(read_all(&File { entry, ..valid() }.bytes()).is_ok());
}

#[test]
fn weights_with_wrong_biases_are_refused() {
    use lacuna_io::RawTensor;
    let folder = Folder::new();
    let weight = || RawTensor::from_f32(&[2, 1], &[1.0, 2.0]);
    let bias = RawTensor::from_f32(&[3], &[0.0; 3]);
    save(
        folder.path("x"),
        [
            ("P.weight", weight()),
            ("P.bias", bias),
            ("Q.weight", weight()),
        ],
    )
    .unwrap();
    let file = WeightFile::open(folder.path("x")).unwrap();
    let error = file.bias("P").unwrap_err();
    assert!(error.to_string().contains("[3], expected [2]"), "{error}");
    assert_eq!(file.bias("Q").unwrap(), None);
    assert_eq!(file.bias("R").unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_sparse_weight_cannot_be_called_version() {
    let format = "2:4@f32".parse().unwrap();
    assert_eq!(
        Output::new()
            .weight("version", format, 1, 4)
            .unwrap_err()
            .kind(),
        Kind::Usage
    );
    Output::new()
        .weight("version", "f32".parse().unwrap(), 1, 4)
        .unwrap();
}

#[test]
fn the_documented_example_is_what_is_written() {
    let dense = lacuna::format::Dense::new(
        2,
        6,
        lacuna::format::Values::round(
            Dtype::F16,
            &[0., 5., 0., 7., 9., 0., 1., 2., 0., 0., 0., 3.],
        )
        .unwrap(),
    )
    .unwrap();
    let weight =
        Matrix::from(lacuna::format::Nm::from_dense(&dense, "2:4".parse().unwrap()).unwrap());
    let folder = Folder::new();
    let path = folder.path("example.safetensors");
    write_weight(&path, &weight);

    let header = concat!(
        r#"{"__metadata__":{"lacuna.P":"{\"format\":\"2:4@f16\",\"rows\":2,\"cols\":6}","#,
        r#""lacuna.version":"1"},"#,
        r#""P.indices":{"dtype":"U32","shape":[2,1],"data_offsets":[0,8]},"#,
        r#""P.values":{"dtype":"F16","shape":[2,4],"data_offsets":[8,24]}}"#,
    );
    let padded = format!("{header:0$}", header.len().next_multiple_of(8));
    let data = [
        0x4d, 0, 0, 0, 0x44, 0, 0, 0, // indices
        0x00, 0x45, 0x00, 0x47, 0x80, 0x48, 0x00, 0x00, // 5 7 9 0
        0x00, 0x3c, 0x00, 0x40, 0x00, 0x00, 0x00, 0x42, // 1 2 0 3
    ];
    assert_eq!(std::fs::read(&path).unwrap(), file_with(&padded, &data));
    assert_eq!(stored_bytes(weight.format(), 2, 6), Some(24));
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.tensor("P.values").unwrap().dtype, TensorDtype::F16);
    assert_eq!(file.weight("P").unwrap(), weight);
}

#[test]
fn one_of_one_has_an_empty_index_section() {
    let weight = Matrix::from(sparse("1:1".parse().unwrap(), Dtype::F32, 3, 5, 9));
    let folder = Folder::new();
    write_weight(&folder.path("x"), &weight);
    let file = WeightFile::open(folder.path("x")).unwrap();
    assert_eq!(file.tensor("P.indices").unwrap().shape, [3, 0]);
    assert_eq!(file.weight("P").unwrap(), weight);
}
