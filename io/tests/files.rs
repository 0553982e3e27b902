//! Files that lie about themselves, and odd ones that do not.

mod common;

use common::{Folder, assert_refused, file_of, file_with, read_all, refusal};
use lacuna_io::{Error, Kind, RawTensor, TensorDtype, WeightFile, save};
use std::fs;

const A: &str = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;

#[test]
fn a_missing_file_is_bad_input() {
    let error = WeightFile::open(Folder::new().path("none")).unwrap_err();
    assert!(
        matches!(error, Error::Read { .. }) && error.kind() == Kind::Input,
        "{error}"
    );
}

#[test]
fn archives_of_torch_are_told_from_safetensors() {
    assert_refused(b"PK\x03\x04archive/data.pkl", &["zip", "torch.save"]);
}

#[test]
fn empty_and_seven_byte_files_are_refused() {
    assert_refused(&[], &["0 bytes"]);
    assert_refused(&[0; 7], &["7 bytes"]);
}

#[test]
fn header_lengths_beyond_the_file_or_the_limit_are_refused() {
    for len in [1, 100_000_001, u64::MAX] {
        assert_refused(&len.to_le_bytes(), &["header length", &len.to_string()]);
    }
    assert_refused(&0u64.to_le_bytes(), &["JSON"]);
}

#[test]
fn a_header_above_the_limit_is_refused_even_if_the_file_is_larger() {
    let folder = Folder::new();
    let path = folder.put("x", &100_000_001u64.to_le_bytes());
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100_000_100)
        .unwrap();
    let message = WeightFile::open(&path).unwrap_err().to_string();
    assert!(
        message.contains("100000001, the limit is 100000000"),
        "{message}"
    );
}

#[test]
fn headers_that_are_no_json_map_are_refused() {
    for header in [
        &b"\xff\xfe"[..],
        b"   ",
        b"[]",
        b"{",
        b"null",
        b"{\"\xff\":1}",
        b"{}x",
    ] {
        let bytes = [&(header.len() as u64).to_le_bytes(), header].concat();
        assert_refused(&bytes, &["JSON"]);
    }
}

#[test]
fn deep_nesting_is_refused() {
    let header = format!("{{\"a\":{}", "[".repeat(100_000));
    assert_refused(&file_of(&header, 0), &["JSON"]);
}

#[test]
fn repeated_keys_are_refused() {
    assert_refused(
        &file_of(&format!("{{{A},{A}}}"), 8),
        &["\"a\" occurs twice"],
    );
    let metadata = r#""__metadata__":{"k":"1"}"#;
    assert_refused(
        &file_of(&format!("{{{metadata},{metadata}}}"), 0),
        &["occurs twice"],
    );
    let metadata = r#"{"__metadata__":{"k":"1","k":"2"}}"#;
    assert_refused(&file_of(metadata, 0), &["\"k\" occurs twice"]);
}

#[test]
fn offsets_that_do_not_tile_the_file_are_refused() {
    let with = |offsets: &str| {
        file_of(
            &format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#),
            8,
        )
    };
    assert!(read_all(&with("[0,8]")).is_ok());
    for offsets in [
        "[8,0]",
        "[4,12]",
        "[0,12]",
        "[0,4]",
        "[0,9223372036854775808]",
    ] {
        assert_refused(&with(offsets), &["\"a\""]);
    }
    for offsets in [
        "[0]",
        "[-8,0]",
        "[0,8,8]",
        "[0,8.5]",
        "[0,18446744073709551616]",
        "{}",
    ] {
        assert_refused(&with(offsets), &["JSON"]);
    }
    let both = r#""b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#;
    assert_refused(
        &file_of(&format!("{{{A},{both}}}"), 12),
        &["\"b\"", "4..12"],
    );
    let gap = r#""b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}"#;
    assert_refused(
        &file_of(&format!("{{{A},{gap}}}"), 20),
        &["\"b\"", "12..20"],
    );
    assert_refused(&file_of(&format!("{{{A}}}"), 9), &["8 bytes", "9"]);
}

#[test]
fn shapes_whose_product_overflows_are_refused() {
    for shape in [
        "[4294967296,4294967296]",
        "[9223372036854775807,2]",
        "[4611686018427387904]",
    ] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,8]}}}}"#);
        assert_refused(&file_of(&header, 8), &["\"a\"", "no whole number"]);
    }
}

#[test]
fn unknown_types_are_refused_without_their_escape_codes() {
    let header = r#"{"a":{"dtype":"F7\u001b[2J","shape":[2],"data_offsets":[0,8]}}"#;
    assert_refused(&file_of(header, 8), &["F7"]);
}

#[test]
fn empty_scalar_and_rank_3_tensors_are_tensors_but_no_weights() {
    let header = r#"{"e.weight":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]},
        "s.weight":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
        "r.weight":{"dtype":"F32","shape":[1,1,1],"data_offsets":[4,8]},
        "i.weight":{"dtype":"I32","shape":[1,1],"data_offsets":[8,12]},
        ".weight":{"dtype":"F32","shape":[1,1],"data_offsets":[12,16]}}"#;
    let folder = Folder::new();
    let file = WeightFile::open(folder.put("x", &file_of(header, 16))).unwrap();
    assert_eq!(
        (file.modules().count(), file.plain_tensors().count()),
        (0, 5)
    );
    assert_eq!(file.raw("s.weight").unwrap().bytes, [0, 1, 2, 3]);
    let error = file.weight("r").unwrap_err();
    assert!(
        error.kind() == Kind::Usage && error.to_string().contains("[1, 1, 1]"),
        "{error}"
    );
    assert_eq!(file.f32_tensor("i.weight").unwrap_err().kind(), Kind::Input);
}

#[test]
fn tensors_need_not_be_aligned() {
    let header = r#"{"pad":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "P.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[1,9]}}"#;
    let mut data = vec![7];
    data.extend([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
    let folder = Folder::new();
    let file = WeightFile::open(folder.put("x", &file_with(header, &data))).unwrap();
    assert_eq!(
        file.weight("P").unwrap().to_dense().values().to_f32(),
        [1.5, -2.0]
    );
}

#[test]
fn a_file_cut_after_opening_gives_an_error() {
    let folder = Folder::new();
    let bytes = file_of(&format!("{{{A}}}"), 8);
    let path = folder.put("x", &bytes);
    let file = WeightFile::open(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    let error = file.raw("a").unwrap_err();
    assert!(
        matches!(
            error,
            Error::Truncated {
                got: 3,
                expected: 8,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn opening_reads_no_more_than_the_header() {
    let size = 1u64 << 40;
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}"#);
    let folder = Folder::new();
    let path = folder.put("x", &file_of(&header, 0));
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    if file.set_len(8 + header.len() as u64 + size).is_err() {
        return; // The file system has a lower limit or no sparse files.
    }
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.tensor("a").unwrap().bytes, size);
}

#[test]
fn long_and_hostile_names_are_printed_short_and_escaped() {
    let name = "n".repeat(1 << 20);
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}}}"#);
    assert!(refusal(&file_of(&header, 8)).contains("(1048576 bytes)"));
    let header = r#"{"a\u0000\n\u001b[31m":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
    assert_refused(&file_of(header, 8), &["\\0", "\\n", "\\u{1b}"]);
}

#[test]
fn a_hundred_thousand_tensors_open() {
    let tensors: Vec<String> = (0..100_000)
        .map(|i| {
            format!(
                r#""t{i}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#,
                i + 1
            )
        })
        .collect();
    let folder = Folder::new();
    let bytes = file_of(&format!("{{{}}}", tensors.join(",")), 100_000);
    let file = WeightFile::open(folder.put("x", &bytes)).unwrap();
    assert_eq!(file.raw("t258").unwrap().bytes, [2]);
    assert!(file.tensors().all(|t| t.dtype == TensorDtype::U8));
}

#[test]
#[cfg(unix)]
fn a_device_is_refused_before_it_is_opened() {
    let error = WeightFile::open("/dev/zero").unwrap_err();
    assert!(error.to_string().contains("regular file"), "{error}");
}

#[test]
fn tensors_are_written_aligned() {
    let folder = Folder::new();
    let path = folder.path("x");
    let of = |dtype, count: usize, size: usize| RawTensor {
        dtype,
        shape: vec![count],
        bytes: vec![0; count * size],
    };
    // Names of every length: the header must not shift what comes after it.
    for len in 1..=8 {
        let name = |first: char| first.to_string().repeat(len);
        save(
            &path,
            [
                (name('a'), of(TensorDtype::U8, 3, 1)),
                (name('b'), of(TensorDtype::F16, 1, 2)),
                (name('c'), of(TensorDtype::I64, 1, 8)),
                (name('d'), of(TensorDtype::F32, 1, 4)),
            ],
        )
        .unwrap();
        let bytes = fs::read(&path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        for (first, size) in [('b', 2), ('c', 8), ('d', 4)] {
            let at = json[name(first)]["data_offsets"][0].as_u64().unwrap() as usize;
            assert_eq!((8 + header + at) % size, 0, "{json}");
        }
    }
}

#[test]
fn rows_of_a_dense_weight_are_read_alone() {
    let folder = Folder::new();
    let path = folder.path("x");
    let values: Vec<f32> = (0..12u8).map(f32::from).collect();
    let tensors = [
        ("a.weight", RawTensor::from_f32(&[1, 3], &[9.0; 3])),
        ("b.weight", RawTensor::from_f32(&[4, 3], &values)),
    ];
    save(&path, tensors).unwrap();
    let file = WeightFile::open(&path).unwrap();
    for rows in [0..4, 1..3, 3..4, 2..2] {
        let part = file.weight_rows("b", rows.clone()).unwrap();
        assert_eq!((part.rows(), part.cols()), (rows.len(), 3));
        let expected = &values[rows.start * 3..rows.end * 3];
        assert_eq!(part.values().to_f32(), expected);
    }
    for rows in [0..5, 5..5, std::ops::Range { start: 2, end: 1 }] {
        let error = file.weight_rows("b", rows.clone()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("{rows:?}")) && message.contains("0..4"));
    }
    assert!(matches!(
        file.weight_rows("c", 0..1),
        Err(Error::NoWeight { .. })
    ));
}
