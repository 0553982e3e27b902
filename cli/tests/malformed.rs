//! Malformed files given to the program: each ends it with exit code 4 and one line that names the
//! fault, and leaves no output behind.

#![allow(clippy::too_many_lines)] // Tables.

mod common;

use common::{Model, code, lacuna, stdout};
use serde_json::{Map, Value, json};
use std::{fmt::Write, fs};

/// A safetensors file in parts.
#[derive(Clone)]
struct Parts {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let (length, rest) = bytes.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&rest[..length]).unwrap();
        let data = rest[length..].to_vec();
        Self { header, data }
    }

    /// A file without metadata.
    fn with(tensors: &[(&str, &str, &[usize], &[u8])]) -> Self {
        let (mut header, mut data) = (Map::new(), vec![]);
        for (name, dtype, shape, bytes) in tensors {
            let offsets = [data.len(), data.len() + bytes.len()];
            let tensor = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
            header.insert((*name).into(), tensor);
            data.extend_from_slice(bytes);
        }
        Self { header, data }
    }

    fn bytes(&self) -> Vec<u8> {
        framed(&serde_json::to_vec(&self.header).unwrap(), &self.data)
    }

    /// What the header says of a tensor.
    fn tensor(&mut self, name: &str) -> &mut Value {
        &mut self.header[name]
    }

    /// The bytes of a tensor.
    fn content(&mut self, name: &str) -> &mut [u8] {
        let offset = |i: usize| self.header[name]["data_offsets"][i].as_u64().unwrap() as usize;
        let range = offset(0)..offset(1);
        &mut self.data[range]
    }

    /// The entry of the weight `layers.0.up`, with a field changed.
    fn entry(&mut self, field: &str, value: Value) {
        let text = &mut self.header["__metadata__"]["lacuna.layers.0.up"];
        let mut entry: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        entry[field] = value;
        *text = entry.to_string().into();
    }
}

fn framed(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A case: its name, what the message must say, the file.
type Case = (&'static str, &'static str, Vec<u8>);

#[rustfmt::skip] // A case a line.
fn frames() -> Vec<Case> {
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        let text =
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
        framed(text.as_bytes(), &[0; 16])
    };
    let length = |length: u64| [length.to_le_bytes().to_vec(), vec![b' '; 64]].concat();
    let two = |first: [u32; 2], second: [u32; 2]| {
        let one = |name, [from, to]: [u32; 2]| {
            format!(
                r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#,
                to - from
            )
        };
        framed(
            format!("{{{},{}}}", one("a", first), one("b", second)).as_bytes(),
            &[0; 16],
        )
    };
    vec![
        ("empty", "0 bytes", vec![]),
        ("seven bytes", "7 bytes", vec![1; 7]),
        ("a header of no length", "no valid JSON", length(0)),
        ("a header longer than the file", "1000", length(1000)),
        ("a header of 2^64 - 1 bytes", "18446744073709551615", length(u64::MAX)),
        ("a header above the limit", "104857601", length(100 << 20 | 1)),
        ("a header of blanks", "no valid JSON", length(64)),
        ("a header that is no text", "no valid JSON", framed(&[0xff; 32], &[])),
        ("a header that is no JSON", "no valid JSON", framed(b"{\"a\":", &[])),
        ("a header that is a list", "sequence", framed(b"[1, 2]", &[])),
        ("a key twice", "occurs twice", framed(br#"{"__metadata__":{},"__metadata__":{}}"#, &[])),
        ("metadata that is no text", "expected a string", framed(br#"{"__metadata__":{"a":1}}"#, &[])),
        ("deep nesting", "sequence", framed(&[b'['; 100_000], &[])),
        ("an unknown type", "F7", tensor("F7", "[16]", "[0,16]")),
        ("a type that is a number", "column 15", framed(br#"{"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}}"#, &[0])),
        ("a tensor without a shape", "missing field `shape`", framed(br#"{"a":{"dtype":"U8","data_offsets":[0,1]}}"#, &[0])),
        ("a shape that overflows", "4294967296", tensor("U8", "[4294967296,4294967296]", "[0,16]")),
        ("a negative side", "-16", tensor("U8", "[-16]", "[0,16]")),
        ("a fraction of a side", "1.5", tensor("U8", "[1.5]", "[0,16]")),
        ("fewer bytes than the shape asks for", "64 bytes", tensor("F32", "[16]", "[0,16]")),
        ("offsets the wrong way round", "16..0", tensor("U8", "[16]", "[16,0]")),
        ("offsets past the end", "32 bytes", tensor("U8", "[32]", "[0,32]")),
        ("three offsets", "column", tensor("U8", "[16]", "[0,16,16]")),
        ("negative offsets", "-16", tensor("U8", "[16]", "[-16,0]")),
        ("a gap before the first tensor", "8..16", tensor("U8", "[8]", "[8,16]")),
        ("bytes after the last tensor", "8 bytes", tensor("U8", "[8]", "[0,8]")),
        ("a gap between tensors", "ends at 4", two([0, 4], [8, 16])),
        ("tensors that overlap", "ends at 12", two([0, 12], [8, 16])),
    ]
}

#[rustfmt::skip] // A case a line.
fn containers(model: &Model) -> Vec<Case> {
    let packed = |format: &str| {
        let path = model.path(format);
        stdout(&lacuna(&[
            "compress",
            &model.weights(),
            "-o",
            &path,
            "--format",
            format,
        ]));
        Parts::of(&fs::read(path).unwrap())
    };
    let (sparse, codes, groups) = (packed("2:3@f16"), packed("w3g8"), packed("w4g8s50"));
    let changed = |of: &Parts, change: &dyn Fn(&mut Parts)| {
        let mut parts = of.clone();
        change(&mut parts);
        parts.bytes()
    };
    let up = "layers.0.up";
    let section = |name: &str| format!("{up}.{name}");
    let without = |of: &Parts, name: &str| {
        changed(of, &|p| {
            // Renamed, so that the header still accounts for all bytes.
            let tensor = p.header.remove(&section(name)).unwrap();
            p.header.insert("other".into(), tensor);
        })
    };
    let filled =
        |of: &Parts, name: &str, byte: u8| changed(of, &|p| p.content(&section(name)).fill(byte));
    let entry =
        |of: &Parts, field: &str, value: Value| changed(of, &|p| p.entry(field, value.clone()));
    let shaped = |of: &Parts, name: &str, dtype: &str, shape: &[usize]| {
        changed(of, &|p| {
            let tensor = p.tensor(&section(name));
            (tensor["dtype"], tensor["shape"]) = (dtype.into(), shape.into());
        })
    };
    let meta = |of: &Parts, key: &str, text: Option<&str>| {
        changed(of, &|p| {
            let metadata = p.header["__metadata__"].as_object_mut().unwrap();
            match text {
                Some(text) => metadata.insert(key.into(), text.into()),
                None => metadata.remove(key),
            };
        })
    };
    let half = |bits: u16| {
        let bits = bits.to_le_bytes();
        changed(&codes, &|p| {
            p.content(&section("scales"))[..2].copy_from_slice(&bits);
        })
    };
    vec![
        ("no version", "no lacuna.version", meta(&sparse, "lacuna.version", None)),
        ("a later version", "\"2\"", meta(&sparse, "lacuna.version", Some("2"))),
        ("a version that is no number", "\"one\"", meta(&sparse, "lacuna.version", Some("one"))),
        ("an entry that is no JSON", "layers.0.up", meta(&sparse, "lacuna.layers.0.up", Some("{"))),
        ("an entry without a format", "missing field `format`", meta(&sparse, "lacuna.layers.0.up", Some(r#"{"rows":12,"cols":20}"#))),
        ("an unknown format", "9of9", entry(&sparse, "format", "9of9".into())),
        ("more kept than there are", "4:3", entry(&sparse, "format", "4:3@f16".into())),
        ("another pattern", "[12, 7]", entry(&sparse, "format", "1:3@f16".into())),
        ("no rows", "rows is 0", entry(&sparse, "rows", 0.into())),
        ("rows past 2^32", "4294967296", entry(&sparse, "rows", (1u64 << 32).into())),
        ("other rows", "[13, 14]", entry(&sparse, "rows", 13.into())),
        ("other columns", "[12, 16]", entry(&sparse, "cols", 24.into())),
        ("a factor that is no power of two", "factor is 3", entry(&codes, "factor", 3.into())),
        ("no values", "layers.0.up.values", without(&sparse, "values")),
        ("no indices", "layers.0.up.indices", without(&sparse, "indices")),
        ("values of another type", "type is BF16", shaped(&sparse, "values", "BF16", &[12, 14])),
        ("values of another shape", "[14, 12]", shaped(&sparse, "values", "F16", &[14, 12])),
        ("values that are not finite", "row 0, column 0 is NaN", filled(&sparse, "values", 0xff)),
        ("indices that repeat", "must ascend", filled(&sparse, "indices", 0)),
        ("indices past the window", "not below m", filled(&sparse, "indices", 0xff)),
        ("no codes", "layers.0.up.codes", without(&codes, "codes")),
        ("no scales", "layers.0.up.scales", without(&codes, "scales")),
        ("no zeros", "layers.0.up.zeros", without(&codes, "zeros")),
        ("codes of another shape", "[8, 12]", shaped(&codes, "codes", "U8", &[8, 12])),
        ("scales of another type", "type is BF16", shaped(&codes, "scales", "BF16", &[12, 3])),
        ("a scale that is infinite", "scale inf", half(0x7c00)),
        ("a scale that is no number", "scale NaN", half(0x7e00)),
        ("a scale below the normal halves", "2^-14", half(1)),
        ("bits after the last zero", "from bit 1 on", filled(&codes, "zeros", 0xff)),
        ("bits after the last code", "from bit 4 on", filled(&codes, "codes", 0xff)),
        ("bits to a code past eight", "9 bits", entry(&codes, "format", "w9g8".into())),
        ("no offsets of rows", "layers.0.up.row_offsets", without(&groups, "row_offsets")),
        ("offsets of rows that begin late", "the first is 0", filled(&groups, "row_offsets", 1)),
        ("offsets of rows past the groups", "offset 99", changed(&groups, &|p| { let offsets = p.content(&section("row_offsets")); let last = offsets.len() - 4; offsets[last] = 99; })),
        ("groups twice", "must ascend", filled(&groups, "group_indices", 0)),
        ("groups past the columns", "past the last column", filled(&groups, "group_indices", 9)),
        ("no numbers of groups", "layers.0.up.group_indices", without(&groups, "group_indices")),
        ("numbers of groups of another type", "type is I8", shaped(&groups, "group_indices", "I8", &[24])),
        ("a share of everything", "100 %", entry(&groups, "format", "w4g8s100".into())),
        ("a share of other rows", "expected [36]", entry(&groups, "format", "w4g8s30".into())),
        ("a file cut short", "1552 bytes", {
            let mut bytes = groups.bytes();
            bytes.truncate(bytes.len() - 5);
            bytes
        }),
    ]
}

/// Checkpoints of other programs, each a weight `P`.
#[rustfmt::skip] // A case a line.
fn checkpoints() -> Vec<Case> {
    let words = |n: usize| vec![0x77u8; 4 * n];
    let halves = |n: usize| [0x00, 0x3c].repeat(n);
    let gptq = |zeros: &[usize], scales: &[usize], order: &[u32]| {
        let order: Vec<u8> = order.iter().flat_map(|i| i.to_le_bytes()).collect();
        Parts::with(&[
            ("P.g_idx", "I32", &[order.len() / 4], &order),
            ("P.qweight", "I32", &[8, 32], &words(256)),
            ("P.qzeros", "I32", zeros, &words(zeros.iter().product())),
            ("P.scales", "F16", scales, &halves(scales.iter().product())),
        ])
        .bytes()
    };
    let order: Vec<u32> = (0..64).map(|col| col / 32).collect();
    let mut wild = order.clone();
    wild[7] = 5;
    let mask = |rows: &[u8]| {
        Parts::with(&[
            ("P.bitmask", "U8", &[2, 1], rows),
            ("P.compressed", "F16", &[2, 4], &halves(8)),
            (
                "P.shape",
                "I64",
                &[2],
                &[[2u8, 0, 0, 0, 0, 0, 0, 0], [8, 0, 0, 0, 0, 0, 0, 0]].concat(),
            ),
        ])
        .bytes()
    };
    vec![
        ("GPTQ: zeros of another shape", "[3, 4]", gptq(&[3, 4], &[2, 32], &order)),
        ("GPTQ: scales of another shape", "[2, 31]", gptq(&[2, 4], &[2, 31], &order)),
        ("GPTQ: no scales at all", "[0, 32]", gptq(&[2, 4], &[0, 32], &order)),
        ("GPTQ: a column of no group", "column 7 is 5", gptq(&[2, 4], &[2, 32], &wild)),
        ("GPTQ: columns without a group", "[63]", gptq(&[2, 4], &[2, 32], &order[..63])),
        ("codes without scales", "P.scales", Parts::with(&[("P.qweight", "I32", &[8, 32], &words(256)), ("P.qzeros", "I32", &[2, 4], &words(8))]) .bytes()),
        ("three of four bits", "is 3, expected 2", mask(&[0b0011_0111, 0b0011_0011])),
        ("one of four bits", "is 1, expected 2", mask(&[0b0011_0001, 0b0011_0011])),
    ]
}

#[rustfmt::skip] // A case a line.
fn gguf_files() -> Vec<Case> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let file = |magic: &[u8], version: u32, counts: [u64; 2], rest: &[u8]| {
        let [tensors, entries] = counts.map(u64::to_le_bytes);
        [magic, &version.to_le_bytes(), &tensors, &entries, rest].concat()
    };
    let entry = |key: &str, kind: u32, value: &[u8]| {
        let entry = [&text(key), &kind.to_le_bytes()[..], value].concat();
        file(b"GGUF", 3, [0, 1], &entry)
    };
    let tensor = |dims: &[u64], kind: u32, offset: u64| {
        let mut info = text("a");
        info.extend((dims.len() as u32).to_le_bytes());
        info.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
        info.extend(kind.to_le_bytes());
        info.extend(offset.to_le_bytes());
        info.resize(128, 0);
        file(b"GGUF", 3, [1, 0], &info)
    };
    let array = |kind: u32, len: u64| [&kind.to_le_bytes()[..], &len.to_le_bytes()].concat();
    vec![
        ("GGUF: a magic word that is not", "0x47554747", file(b"GGUG", 3, [0, 0], &[])),
        ("GGUF: version 99", "version is 99", file(b"GGUF", 99, [0, 0], &[])),
        ("GGUF: the other byte order", "big-endian", file(b"GGUF", 3 << 24, [0, 0], &[])),
        ("GGUF: more tensors than bytes", "1152921504606846976", file(b"GGUF", 3, [1 << 60, 0], &[])),
        ("GGUF: more entries than bytes", "1152921504606846976", file(b"GGUF", 3, [0, 1 << 60], &[])),
        ("GGUF: a text of 2^64 - 1 bytes", "18446744073709551615", entry("a", 8, &u64::MAX.to_le_bytes())),
        ("GGUF: an unknown kind of value", "type 77", entry("a", 77, &[0; 8])),
        ("GGUF: a list past the end", "18446744073709551615", entry("a", 9, &array(4, u64::MAX))),
        ("GGUF: an alignment of nothing", "alignment is 0", entry("general.alignment", 4, &[0; 4])),
        ("GGUF: an alignment of three", "alignment is 3", entry("general.alignment", 4, &[3, 0, 0, 0])),
        ("GGUF: a truth that is neither", "value 2", entry("a", 7, &[2])),
        ("GGUF: nine dimensions", "dimensions is 9", tensor(&[1; 9], 0, 0)),
        ("GGUF: a shape that overflows", "1099511627776", tensor(&[1 << 40, 1 << 40], 0, 0)),
        ("GGUF: an unknown type", "type is 99", tensor(&[32], 99, 0)),
        ("GGUF: rows that are no whole blocks", "length is 33", tensor(&[33], 8, 0)),
        ("GGUF: a tensor past the end", "1099511627904", tensor(&[32], 0, 1 << 40)),
    ]
}

#[test]
fn malformed_files_are_named_and_leave_nothing() {
    let model = Model::new();
    let cases = [frames(), containers(&model), checkpoints(), gguf_files()].concat();
    let mut failures = String::new();
    for (name, says, bytes) in &cases {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let out = path("out.safetensors");
        // Of the commands that write files, only `compress` reads GGUF.
        let (input, arguments) = if name.starts_with("GGUF") {
            (path("x.gguf"), vec!["compress", "--format", "2:4"])
        } else {
            (path("x.safetensors"), vec!["unpack"])
        };
        fs::write(&input, bytes).unwrap();
        let output = lacuna(&[&arguments[..], &[&input, "-o", &out]].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        let left = fs::read_dir(folder.path()).unwrap().count();
        eprint!("{name}: {message}");
        if code(&output) != 4
            || message.lines().count() != 1
            || !message.contains(says)
            || left != 1
        {
            let _ = writeln!(
                failures,
                "{name}: {}, {left} files, {message}",
                code(&output)
            );
        }
    }
    assert!(failures.is_empty(), "of {} cases\n{failures}", cases.len());
}
