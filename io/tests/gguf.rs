//! GGUF files: what is read from them, and those that lie about themselves.

mod common;

use common::{
    Folder,
    gguf::{ARRAY, BOOL, F32, Gguf, I8, I32, TEXT, U16, U32, U64, array, read_all, sample, text},
    message_of,
};
use lacuna_io::{Error, GgufFile};
use std::fs;

#[track_caller]
fn assert_refused(bytes: &[u8], parts: &[&str]) {
    let message = message_of(&read_all(bytes).expect_err("the file is invalid"));
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn metadata_is_read_by_type() {
    for version in [2, 3] {
        let file = sample(version).open().unwrap();
        let m = file.metadata();
        assert_eq!(m.get::<&str>("general.architecture").unwrap(), "gemma3");
        assert_eq!(m.get::<u32>("u8").unwrap(), 200);
        assert_eq!(m.get::<i32>("i8").unwrap(), -1);
        assert_eq!(m.get::<u32>("u16").unwrap(), 256);
        assert_eq!(m.get::<i32>("i16").unwrap(), -32768);
        assert_eq!(m.get::<i64>("i32").unwrap(), -26);
        assert_eq!(m.get::<u64>("u64").unwrap(), u64::MAX);
        assert_eq!(m.get::<usize>("i64").unwrap(), 1 << 40);
        assert_eq!(m.get::<f32>("f32").unwrap().to_string(), "0.000001");
        assert_eq!(m.get::<f32>("f64").unwrap().to_bits(), 0.1f32.to_bits());
        assert_eq!(m.get::<f64>("f64").unwrap().to_bits(), 0.1f64.to_bits());
        assert!(m.get::<bool>("bool").unwrap());
        assert_eq!(m.get::<Vec<&str>>("tokens").unwrap(), ["<pad>", "é", ""]);
        assert_eq!(m.get::<Vec<i32>>("types").unwrap(), [1, 3]);
        assert_eq!(m.get::<Vec<f32>>("scores").unwrap(), [0.5]);
        assert_eq!(m.get::<Vec<bool>>("flags").unwrap(), [false, true, true]);
        assert!(m.get::<Vec<i32>>("none").unwrap().is_empty());
        assert_eq!(m.entries().count(), 17);
        let shown: Vec<String> = ["f32", "general.architecture", "tokens"]
            .iter()
            .flat_map(|key| m.entries().filter(move |(k, _)| k == key))
            .map(|(_, value)| value.to_string())
            .collect();
        assert_eq!(shown, ["f32 0.000001", "text \"gemma3\"", "[text; 3]"]);
    }
}

#[test]
fn missing_and_mistyped_metadata_are_told_apart() {
    let file = sample(3).open().unwrap();
    let m = file.metadata();
    assert_eq!(m.find::<u32>("nothing").unwrap(), None);
    let error = m.get::<u32>("nothing").unwrap_err();
    assert!(matches!(error, Error::NoMetadata { .. }), "{error}");
    assert!(message_of(&error).contains("\"nothing\""));
    for (message, parts) in [
        (m.get::<u32>("i8"), ["\"i8\"", "i8 -1"]),
        (m.get::<u32>("i64"), ["i64 1099511627776", "fits u32"]),
        (m.get::<u32>("f32"), ["f32 0.000001", "integer"]),
        (m.get::<u32>("types"), ["[i32; 2]", "integer"]),
        (m.get::<u32>("bool"), ["bool true", "integer"]),
        (m.get::<f32>("u8").map(|_| 0), ["u8 200", "a float"]),
        (
            m.get::<Vec<i32>>("u8").map(|_| 0),
            ["u8 200", "array of integers"],
        ),
        (
            m.get::<Vec<i32>>("tokens").map(|_| 0),
            ["[text; 3]", "array"],
        ),
        (m.get::<Vec<&str>>("types").map(|_| 0), ["[i32; 2]", "text"]),
    ]
    .map(|(result, parts)| (message_of(&result.unwrap_err()), parts))
    {
        for part in parts {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
    let error = m.find::<u32>("tokens").unwrap_err();
    assert!(matches!(error, Error::Metadata { .. }), "{error}");
}

#[test]
fn shapes_are_outermost_first_and_rows_can_be_read_alone() {
    let values: Vec<u8> = (0..24u16)
        .flat_map(|v| f32::from(v).to_le_bytes())
        .collect();
    let file = Gguf::new()
        .tensor("vector", &[4], 0, &values[..16])
        .tensor("cube", &[4, 3, 2], 0, &values)
        .tensor("padded", &[4, 3, 1, 1], 0, &values[..48])
        .tensor("scalar", &[], 0, &values[4..8])
        .tensor("empty", &[32, 0], 8, &[])
        .open()
        .unwrap();
    let cube = file.tensor("cube").unwrap();
    assert_eq!((cube.shape, cube.bytes), (&[2, 3, 4][..], 96));
    assert_eq!((cube.rows(), cube.cols()), (6, 4));
    assert_eq!(
        file.read_rows_f32("cube", 4..5).unwrap(),
        [16., 17., 18., 19.]
    );
    assert_eq!(file.tensor("padded").unwrap().shape, [3, 4]);
    assert_eq!(file.tensor("vector").unwrap().rows(), 1);
    assert_eq!(file.read_f32("vector").unwrap(), [0., 1., 2., 3.]);
    assert_eq!(file.read_f32("scalar").unwrap(), [1.0]);
    assert!(file.read_f32("empty").unwrap().is_empty());
    assert!(file.read_rows_f32("cube", 6..6).unwrap().is_empty());
    for rows in [5..7, 7..7, std::ops::Range { start: 2, end: 1 }] {
        let error = file.read_rows_f32("cube", rows.clone()).unwrap_err();
        let message = message_of(&error);
        assert!(message.contains(&format!("{rows:?}")) && message.contains("0..6"));
    }
    let error = file.read_f32("other").unwrap_err();
    assert!(matches!(error, Error::NoTensor { .. }), "{error}");
}

#[test]
fn rows_of_blocks_are_read_from_where_they_are() {
    // 3 MiB of blocks, each with a scale of its own: more than is read at once.
    let (rows, cols) = (1500usize, 2048usize);
    let blocks: Vec<u8> = (0..rows * cols / 32)
        .flat_map(|i| {
            let [low, high] = (i as u16 % 0x7c00).to_le_bytes();
            let mut block = [1; 34];
            block[..2].copy_from_slice(&[low, high]);
            block
        })
        .collect();
    let file = Gguf::new()
        .tensor("t", &[cols as u64, rows as u64], 8, &blocks)
        .open()
        .unwrap();
    let all = file.read_f32("t").unwrap();
    assert_eq!(all.len(), rows * cols);
    assert!(all[..0x7c00 * 32].is_sorted());
    assert_eq!(all[32].to_bits(), 0x3380_0000, "2^-24, the smallest f16");
    for range in [0..1, 7..9, 1499..1500, 3..1400] {
        let some = file.read_rows_f32("t", range.clone()).unwrap();
        assert!(some == all[range.start * cols..range.end * cols]);
    }
}

#[test]
fn other_types_are_known_by_name_and_refused_when_read() {
    let file = sample(3).open().unwrap();
    let tensor = file.tensors().find(|t| !t.ggml_type.is_readable()).unwrap();
    assert_eq!((tensor.name, tensor.ggml_type.name()), ("t12", "IQ3_S"));
    for result in [
        file.read_f32("t12").map(|_| ()),
        file.read_values("t12").map(|_| ()),
    ] {
        let message = message_of(&result.unwrap_err());
        assert!(
            message.contains("IQ3_S") && message.contains("Q4_K"),
            "{message}"
        );
    }
    let unknown = Gguf::new().info("t", &[256], 4, 0);
    assert_refused(&unknown.bytes(), &["\"t\"", "type is 4"]);
}

/// File `number` of `count` of a model, with a tensor of its own.
fn part(number: u16, count: u16) -> Gguf {
    let data: Vec<u8> = [1f32, 2.0]
        .iter()
        .flat_map(|v| (v + f32::from(number)).to_le_bytes())
        .collect();
    Gguf::new()
        .entry("split.no", U16, &number.to_le_bytes())
        .entry("split.count", U16, &count.to_le_bytes())
        .tensor(&format!("t{number}"), &[2], 0, &data)
}

#[test]
fn a_model_in_several_files_is_opened_by_the_first() {
    let folder = Folder::new();
    let total = |n: i32| part(0, 3).entry("split.tensors.count", I32, &n.to_le_bytes());
    let first = folder.put("m-00001-of-00003.gguf", &total(3).bytes());
    let second = folder.put("m-00002-of-00003.gguf", &part(1, 3).bytes());
    let third = folder.put("m-00003-of-00003.gguf", &part(2, 3).bytes());
    let file = GgufFile::open(&first).unwrap();
    assert_eq!(file.files().collect::<Vec<_>>(), [&first, &second, &third]);
    assert_eq!(file.path(), first);
    for (name, values) in [("t0", [1.0, 2.0]), ("t1", [2.0, 3.0]), ("t2", [3.0, 4.0])] {
        assert_eq!(file.read_f32(name).unwrap(), values);
        assert_eq!(file.read_values(name).unwrap().to_f32(), values);
    }
    assert_eq!(GgufFile::open_alone(&first).unwrap().tensors().count(), 1);

    let refused = |path: &std::path::Path, parts: &[&str]| {
        let message = message_of(&GgufFile::open(path).unwrap_err());
        for part in parts {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    };
    refused(&second, &["file 2 of 3", "-00001-of-00003.gguf"]);
    let renamed = folder.put("m.gguf", &part(0, 3).bytes());
    refused(&renamed, &["m.gguf", "-00001-of-00003.gguf"]);
    folder.put("m-00001-of-00003.gguf", &total(4).bytes());
    refused(&first, &["split.tensors.count is 4", "3 files have 3"]);
    folder.put("m-00001-of-00003.gguf", &total(3).bytes());
    folder.put("m-00003-of-00003.gguf", &part(1, 3).bytes());
    refused(&first, &["m-00003-of-00003.gguf", "split.no is 1"]);
    let twice = part(2, 3).tensor("t0", &[1], 0, &[0; 4]);
    folder.put("m-00003-of-00003.gguf", &twice.bytes());
    refused(&first, &["m-00003-of-00003.gguf", "\"t0\""]);
    fs::remove_file(&third).unwrap();
    refused(&first, &["m-00003-of-00003.gguf"]);
    // If a file has lost a tensor since it was opened, the error names that file, not the first.
    folder.put("m-00003-of-00003.gguf", &part(2, 3).bytes());
    let file = GgufFile::open(&first).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&third)
        .unwrap()
        .set_len(40)
        .unwrap();
    let message = message_of(&file.read_f32("t2").unwrap_err());
    assert!(message.contains("m-00003-of-00003.gguf"), "{message}");
}

#[test]
fn every_truncation_is_refused() {
    let folder = Folder::new();
    let path = folder.put("x.gguf", &sample(3).bytes());
    GgufFile::open(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for len in (0..sample(3).bytes().len()).rev() {
        file.set_len(len as u64).unwrap();
        message_of(&GgufFile::open(&path).unwrap_err());
    }
    assert_refused(&[], &["magic", "byte 0"]);
}

#[test]
fn a_file_cut_after_it_was_opened_is_an_error() {
    let folder = Folder::new();
    let bytes = sample(3).bytes();
    let path = folder.put("x", &bytes);
    let file = GgufFile::open(&path).unwrap();
    folder.put("x", &bytes[..sample(3).data_start()]);
    let error = file.read_f32("t0").unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
}

#[test]
fn other_versions_byte_orders_and_formats_are_refused_by_name() {
    for version in [0, 1, 4, u32::MAX] {
        let file = Gguf {
            version,
            ..Gguf::new()
        };
        assert_refused(&file.bytes(), &["version", &version.to_string(), "2 and 3"]);
    }
    let swapped = Gguf {
        version: 3u32.swap_bytes(),
        ..Gguf::new()
    };
    assert_refused(&swapped.bytes(), &["big-endian"]);
    let ggml = Gguf {
        magic: *b"lmgg",
        ..Gguf::new()
    };
    assert_refused(&ggml.bytes(), &["magic number is 0x67676d6c", "0x46554747"]);
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused() {
    let lie = |lie| Gguf { lie, ..sample(3) }.bytes();
    for lies in [[u64::MAX / 2, 0], [1 << 20, 0]] {
        assert_refused(&lie(lies), &["number of tensors", "the limit is"]);
    }
    assert_refused(&lie([0, 1 << 40]), &["number of metadata entries"]);
    for len in [u64::MAX, 1 << 62, 1000] {
        let value = len.to_le_bytes();
        let file = Gguf::new().entry("k", TEXT, &value);
        assert_refused(&file.bytes(), &["\"k\"", &len.to_string()]);
        for (code, size) in [(TEXT, 8), (U64, 8), (BOOL, 1)] {
            let file = Gguf::new().entry("k", ARRAY, &array(code, len, &[0; 8]));
            let parts = if code == TEXT {
                "element".into()
            } else {
                format!("{len} x {size}")
            };
            assert_refused(&file.bytes(), &["\"k\"", &parts]);
        }
    }
}

#[test]
fn invalid_values_are_refused() {
    let entry = |code, value: &[u8]| Gguf::new().entry("k", code, value).bytes();
    assert_refused(&entry(13, &[0; 8]), &["\"k\"", "type 13"]);
    assert_refused(
        &entry(ARRAY, &array(13, 0, &[])),
        &["\"k\"", "type 13", "0 to 12"],
    );
    assert_refused(&entry(BOOL, &[2]), &["bool", "2"]);
    assert_refused(&entry(ARRAY, &array(BOOL, 2, &[1, 7])), &["bool", "7"]);
    assert_refused(&entry(TEXT, &text(b"a\xff")), &["not UTF-8"]);
    assert_refused(
        &entry(ARRAY, &array(TEXT, 1, &text(b"\x1b\xff"))),
        &["element 0", "not UTF-8"],
    );
    let nested = array(ARRAY, 1, &array(ARRAY, 1, &array(U32, 0, &[])));
    assert_refused(&entry(ARRAY, &nested), &["\"k\"", "array of arrays"]);
    let twice = sample(3).entry("f64", F32, &[0; 4]);
    assert_refused(&twice.bytes(), &["\"f64\" occurs twice"]);
    for alignment in [0u32, 3, 48] {
        let file = Gguf::new().entry("general.alignment", U32, &alignment.to_le_bytes());
        assert_refused(
            &file.bytes(),
            &[
                &format!("general.alignment is {alignment}"),
                "a power of two",
            ],
        );
    }
    for (code, value) in [(TEXT, text("32")), (I8, vec![0xe0])] {
        let file = Gguf::new().entry("general.alignment", code, &value);
        assert_refused(&file.bytes(), &["general.alignment", "integer"]);
    }
}

#[test]
fn tensors_that_do_not_fit_the_file_are_refused() {
    let base = || Gguf::new().tensor("a", &[8], 0, &[0; 32]);
    let info = |dims: &[u64], code, offset| base().info("b\n", dims, code, offset).bytes();
    read_all(&info(&[8, 0], 0, 32)).unwrap();
    for (dims, code, offset, parts) in [
        (&[8][..], 0, 32, ["end is 64", "at most 32"]),
        (&[1], 0, 1 << 62, ["end is", "at most 32"]),
        (&[8], 0, 0, ["offset is 0", "at least 32"]),
        (&[8], 0, 33, ["offset is 33", "multiple of 32"]),
        (&[8], 0, u64::MAX - 31, ["offset", "2^64"]),
        (&[33], 8, 32, ["row length is 33", "32, a block of Q8_0"]),
        (
            &[128],
            12,
            32,
            ["row length is 128", "256, a block of Q4_K"],
        ),
        (&[], 2, 32, ["row length is 1", "Q4_0"]),
        (&[1 << 32, 1 << 32], 0, 32, ["shape", "4294967296"]),
        (&[0, u64::MAX, 2], 0, 32, ["shape", "18446744073709551615"]),
        (&[1 << 62], 28, 32, ["offset", "2^64"]),
        (
            &[1, 1, 1, 1, 1],
            0,
            32,
            ["number of dimensions is 5", "at most 4"],
        ),
    ] {
        let bytes = info(dims, code, offset);
        assert_refused(&bytes, &[parts[0], parts[1], "\"b\\n\""]);
    }
    assert_refused(
        &base().info("a", &[8], 0, 32).bytes(),
        &["\"a\" occurs twice"],
    );
    assert_refused(
        &base().info(b"\xc3", &[8], 0, 32).bytes(),
        &["name of tensor 1", "not UTF-8"],
    );
}

#[test]
fn files_without_tensors_may_end_with_their_header() {
    let file = Gguf::new().entry("k", U32, &[7, 0, 0, 0]);
    let bytes = file.bytes();
    read_all(&bytes).unwrap();
    read_all(&bytes[..24 + 9 + 4 + 4]).unwrap();
}
