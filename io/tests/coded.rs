//! Quantised and group-pruned weights in files, and every way in which they can be malformed.

mod common;

use common::{Folder, assert_refused, file_with, read_all, write_weight};
use lacuna::{
    compress::compress,
    format::{Codes, Dense, Format, Gqs, Matrix, Quantized, Values},
};
use lacuna_io::{Kind, Output, WeightFile, stored_bytes};
use std::fmt::Write as _;

type Section = (&'static str, &'static str, Vec<usize>, Vec<u8>);

/// A weight `P` in parts that a test may change.
#[derive(Clone)]
struct File {
    entry: String,
    sections: Vec<Section>,
}

impl File {
    fn new(format: &str, rows: usize, cols: usize, sections: Vec<Section>) -> Self {
        let entry = format!(r#"{{"format":"{format}","rows":{rows},"cols":{cols}}}"#);
        Self { entry, sections }
    }

    fn bytes(&self) -> Vec<u8> {
        let (mut tensors, mut data) = (String::new(), vec![]);
        for (name, dtype, shape, bytes) in &self.sections {
            let (from, to) = (data.len(), data.len() + bytes.len());
            let _ = write!(
                tensors,
                r#","P.{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{from},{to}]}}"#
            );
            data.extend(bytes);
        }
        let entry = self.entry.replace('"', "\\\"");
        let header =
            format!(r#"{{"__metadata__":{{"lacuna.version":"1","lacuna.P":"{entry}"}}{tensors}}}"#);
        file_with(&header, &data)
    }

    /// Replaces the bytes of a section; its shape stays as it is.
    fn bytes_of(mut self, name: &str, bytes: &[u8]) -> Self {
        self.section(name).3 = bytes.to_vec();
        self
    }

    /// Replaces a section by another.
    fn replaced(mut self, name: &str, dtype: &'static str, shape: &[usize], len: usize) -> Self {
        let section = self.section(name);
        *section = (section.0, dtype, shape.to_vec(), vec![0; len]);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.sections.retain(|s| s.0 != name);
        self
    }

    fn with(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    fn entry(mut self, from: &str, to: &str) -> Self {
        assert!(self.entry.contains(from), "{from}");
        self.entry = self.entry.replace(from, to);
        self
    }

    fn section(&mut self, name: &str) -> &mut Section {
        let found = self.sections.iter_mut().find(|s| s.0 == name);
        found.expect("the valid file has the section")
    }
}

/// 2 x 12 of `w3g8`: 36 bits of codes and 6 bits of zeros in a row.
fn quantized() -> File {
    let sections = vec![
        (
            "codes",
            "U8",
            vec![2, 5],
            vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        ),
        ("scales", "F16", vec![2, 2], [0, 0x3c].repeat(4)),
        ("zeros", "U8", vec![2, 1], vec![0x3f, 0]),
    ];
    File::new("w3g8", 2, 12, sections)
}

/// 1 x 12 of `w4g8-real`, whose zeros are 7.5 and −1.
fn real() -> File {
    let sections = vec![
        ("codes", "U8", vec![1, 6], vec![0x10, 2, 3, 4, 5, 6]),
        ("scales", "F16", vec![1, 2], [0, 0x3c].repeat(2)),
        ("zeros", "F16", vec![1, 2], vec![0x80, 0x47, 0, 0xbc]),
    ];
    File::new("w4g8-real", 1, 12, sections)
}

/// 1 x 8 of `2:4+w4g8`.
fn both() -> File {
    let sections = vec![
        ("codes", "U8", vec![1, 2], vec![0x21, 0x43]),
        ("scales", "F16", vec![1, 1], vec![0, 0x3c]),
        ("zeros", "U8", vec![1, 1], vec![0x0f]),
        ("indices", "U32", vec![1, 1], vec![0b11_01_01_00, 0, 0, 0]),
    ];
    File::new("2:4+w4g8", 1, 8, sections)
}

/// 2 x 28 of `w3g8s50`: 2 of 4 groups a row, 12 bits of zeros.
fn pruned() -> File {
    let sections = vec![
        ("row_offsets", "U32", vec![3], words(&[0, 2, 4])),
        ("group_indices", "U8", vec![4], vec![0, 3, 1, 2]),
        ("codes", "U8", vec![4, 3], (0..12).collect()),
        ("scales", "F16", vec![4], [0, 0x3c].repeat(4)),
        ("zeros", "U8", vec![2], vec![0xff, 0x0f]),
    ];
    File::new("w3g8s50", 2, 28, sections)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn halves(first: [u8; 2], count: usize) -> Vec<u8> {
    [first.to_vec(), [0, 0x3c].repeat(count - 1)].concat()
}

#[test]
fn the_valid_files_of_these_tests_are_valid() {
    for file in [quantized(), both(), pruned()] {
        read_all(&file.bytes()).unwrap();
        let scaled = file.clone().entry(r#""cols""#, r#""factor":0.25,"cols""#);
        read_all(&scaled.bytes()).unwrap();
    }
    let ragged = pruned().entry("s50", "s50-ragged");
    read_all(&ragged.clone().bytes()).unwrap();
    let uneven = ragged
        .bytes_of("row_offsets", &words(&[0, 4, 4]))
        .bytes_of("group_indices", &[0, 1, 2, 3]);
    read_all(&uneven.bytes()).unwrap();
}

#[test]
fn scales_that_shaders_may_not_see_are_refused() {
    for (scale, shown) in [
        ([0x00, 0x00], "0"),
        ([0x00, 0x80], "-0"),
        ([0xff, 0x03], "0.00006"),
        ([0x01, 0x80], "-0.00000005"),
        ([0x00, 0x7c], "inf"),
        ([0x00, 0xfc], "-inf"),
        ([0x00, 0x7e], "NaN"),
    ] {
        for (file, count) in [(quantized(), 4), (both(), 1), (pruned(), 4)] {
            let file = file.bytes_of("scales", &halves(scale, count));
            assert_refused(
                &file.bytes(),
                &["\"P\"", "scale", shown, "element 0", "2^-14"],
            );
        }
    }
}

#[test]
fn real_zeros_are_read_and_are_numbers() {
    let folder = Folder::new();
    let file = WeightFile::open(folder.put("x", &real().bytes())).unwrap();
    let values = file.weight("P").unwrap().to_dense();
    let values: Vec<f32> = [0, 1, 8, 11].map(|col| values.get(0, col)).to_vec();
    assert_eq!(values, vec![-7.5, -6.5, 6.0, 1.0]);
    for (half, shown) in [([0, 0x7c], "inf"), ([0, 0xfe], "NaN"), ([1, 0], "2^-14")] {
        let zeros = real().bytes_of("zeros", &[half, [0; 2]].concat());
        let parts = ["\"P\"", "zero", shown, "element 0", "finite"];
        assert_refused(&zeros.bytes(), &parts);
    }
    let kept = pruned().entry("w3g8s50", "w3g8s50-real");
    assert_refused(&kept.bytes(), &["w3g8s50-real"]);
}

#[test]
fn bits_after_the_last_field_are_refused() {
    for (file, section, bytes) in [
        (quantized(), "codes", &[0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0][..]),
        (quantized(), "zeros", &[0, 0x40]),
        (both(), "zeros", &[0x10]),
        (pruned(), "zeros", &[0, 0x80]),
    ] {
        let file = file.bytes_of(section, bytes);
        assert_refused(&file.bytes(), &[section, "last byte", "zeros from bit"]);
    }
    let indices = both().bytes_of("indices", &[0b11_01_01_00, 1, 0, 0]);
    assert_refused(&indices.bytes(), &["after the last slot"]);
}

#[test]
fn sections_of_the_wrong_type_or_shape_are_refused() {
    for (file, section, dtype, shape, len) in [
        (quantized(), "codes", "I8", &[2, 5][..], 10),
        (quantized(), "codes", "U8", &[2, 4], 8),
        (quantized(), "codes", "U8", &[2, 6], 12),
        (quantized(), "codes", "U8", &[10], 10),
        (quantized(), "scales", "I32", &[2, 2], 16),
        (quantized(), "scales", "BF16", &[2, 2], 8),
        (quantized(), "scales", "F16", &[2, 1], 4),
        (quantized(), "zeros", "F16", &[2, 1], 4),
        (quantized(), "zeros", "U8", &[2, 2], 4),
        (real(), "zeros", "U8", &[1, 2], 2),
        (real(), "zeros", "BF16", &[1, 2], 4),
        (real(), "zeros", "F16", &[1, 1], 2),
        (both(), "indices", "I32", &[1, 1], 4),
        (both(), "indices", "U32", &[1, 2], 8),
        (pruned(), "row_offsets", "U32", &[2], 8),
        (pruned(), "row_offsets", "U32", &[4], 16),
        (pruned(), "row_offsets", "U64", &[3], 24),
        (pruned(), "group_indices", "U16", &[4], 8),
        (pruned(), "group_indices", "U8", &[3], 3),
        (pruned(), "group_indices", "U8", &[5], 5),
        (pruned(), "codes", "U8", &[3, 3], 9),
        (pruned(), "scales", "F16", &[5], 10),
        (pruned(), "scales", "I32", &[4], 16),
        (pruned(), "zeros", "U8", &[1], 1),
    ] {
        let named = format!("\"P.{section}\"");
        let file = file.replaced(section, dtype, shape, len);
        assert_refused(&file.bytes(), &[&named, "expected"]);
    }
}

#[test]
fn missing_sections_are_named() {
    for file in [quantized(), real(), both(), pruned()] {
        for (section, ..) in file.sections.clone() {
            let named = format!("no tensor \"P.{section}\"");
            assert_refused(&file.clone().without(section).bytes(), &[&named]);
        }
    }
}

#[test]
fn sections_that_the_format_does_not_have_are_refused() {
    let symmetric = quantized().entry("w3g8", "w3g8-sym");
    assert_refused(
        &symmetric.bytes(),
        &["\"P.zeros\"", "w3g8-sym", "no section"],
    );
    read_all(&symmetric.without("zeros").bytes()).unwrap();
    for extra in ["values", "indices", "row_offsets", "group_indices"] {
        let file = quantized().with((extra, "U8", vec![0], vec![]));
        assert_refused(&file.bytes(), &[extra, "no section"]);
    }
}

#[test]
fn offsets_that_do_not_rise_from_zero_to_the_number_of_groups_are_refused() {
    for (format, offsets, rule) in [
        ("w3g8s50", [1, 2, 4], "the first is 0"),
        ("w3g8s50", [0, 2, 3], "the last is"),
        ("w3g8s50", [0, 2, 5], "the last is"),
        ("w3g8s50", [0, 2, u32::MAX], "the last is"),
        ("w3g8s50", [0, 1, 4], "balanced"),
        ("w3g8s50-ragged", [0, 5, 4], "a row keeps no more"),
        ("w3g8s50-ragged", [0, u32::MAX, 4], "a row keeps no more"),
        ("w3g8s50-ragged", [4, 4, 4], "the first is 0"),
    ] {
        let file = pruned()
            .entry("w3g8s50", format)
            .bytes_of("row_offsets", &words(&offsets));
        assert_refused(&file.bytes(), &["\"P\"", "row offset", rule]);
    }
    // Offsets that fall, though no row is too long.
    let mut file = pruned()
        .entry("w3g8s50", "w3g8s50-ragged")
        .entry(r#""rows":2"#, r#""rows":3"#);
    file = file.replaced("row_offsets", "U32", &[4], 16);
    file = file.bytes_of("row_offsets", &words(&[0, 4, 2, 6]));
    file = file.replaced("group_indices", "U8", &[6], 6);
    file = file.replaced("codes", "U8", &[6, 3], 18);
    file = file.replaced("scales", "F16", &[6], 12);
    file = file.bytes_of("scales", &halves([0, 0x3c], 6));
    file = file.replaced("zeros", "U8", &[3], 3);
    assert_refused(&file.bytes(), &["row offset 2", "never fall"]);
}

#[test]
fn group_indices_out_of_range_or_order_are_refused() {
    for (indices, rule) in [
        ([0, 4, 1, 2], "past the last column"),
        ([0, 255, 1, 2], "past the last column"),
        ([3, 0, 1, 2], "ascend"),
        ([0, 3, 2, 2], "ascend"),
    ] {
        let file = pruned().bytes_of("group_indices", &indices);
        assert_refused(&file.bytes(), &["\"P\"", "group index", rule]);
    }
    // More than 65536 groups have indices of 32 bits.
    let sections = vec![
        ("row_offsets", "U32", vec![2], words(&[0, 656])),
        ("group_indices", "U32", vec![656], words(&[u32::MAX; 656])),
        ("codes", "U8", vec![656, 2], vec![0; 1312]),
        ("scales", "F16", vec![656], halves([0, 0x3c], 656)),
    ];
    let wide = File::new("w2g8s99-sym", 1, 65_537 * 8, sections);
    assert_refused(
        &wide.clone().bytes(),
        &["4294967295", "past the last column"],
    );
    let ascending: Vec<u32> = (0..656).map(|i| i + 64_881).collect();
    let valid = wide.bytes_of("group_indices", &words(&ascending));
    read_all(&valid.bytes()).unwrap();
}

#[test]
fn column_indices_beside_codes_are_checked_too() {
    for word in [0b11_01_00_00, 0b01_11_01_00] {
        let file = both().bytes_of("indices", &[word, 0, 0, 0]);
        assert_refused(&file.bytes(), &["\"P\"", "index", "ascend"]);
    }
}

#[test]
fn factors_that_are_no_powers_of_two_are_refused() {
    for factor in [
        "0",
        "0.0",
        "3",
        "-2",
        "1.0000001",
        "1024.0001",
        "1e30",
        "1e-30",
        "1e-300",
    ] {
        let entry = format!(r#""factor":{factor},"cols""#);
        let file = quantized().entry(r#""cols""#, &entry);
        assert_refused(
            &file.bytes(),
            &["\"P\"", "factor", "power of two from 2^-80"],
        );
    }
    for factor in ["\"2\"", "1e999", "[2]", "NaN"] {
        let entry = format!(r#""factor":{factor},"cols""#);
        assert_refused(&quantized().entry(r#""cols""#, &entry).bytes(), &["\"P\""]);
    }
}

#[test]
fn formats_outside_the_limits_are_refused() {
    for format in [
        "w1g8",
        "w9g8",
        "w4g0",
        "w4g12",
        "w4g136",
        "w4",
        "w4g",
        "w4rows50",
        "w4g8s0",
        "w4g8s100",
        "w4g8-ragged",
        "w4g8s50-sym-sym",
        "2:4+w4g8s50",
        "2:3+w4g8",
        "0:4+w4g8",
        "w4g8@f16",
        "w99999999999g8",
        "2:4@f16+w4g8",
    ] {
        let file = quantized().entry("w3g8", format);
        assert_refused(&file.bytes(), &["\"P\""]);
    }
}

#[test]
fn shapes_beyond_row_offsets_or_memory_are_refused() {
    let max = u32::MAX.to_string();
    for (format, part) in [
        ("w2g8s1", "the limit of row offsets"),
        ("w2g8s1-ragged", "the limit of row offsets"),
        ("w8g128", "do not fit in memory addresses"),
    ] {
        let file = pruned()
            .entry("w3g8s50", format)
            .entry(r#""rows":2"#, &format!(r#""rows":{max}"#))
            .entry(r#""cols":28"#, &format!(r#""cols":{max}"#));
        let file = File {
            sections: file
                .sections
                .into_iter()
                .filter(|s| s.0 == "codes")
                .collect(),
            ..file
        };
        assert_refused(&file.bytes(), &[part]);
        let (format, side) = (format.parse().unwrap(), u32::MAX as usize);
        assert_eq!(stored_bytes(format, side, side), None);
    }
}

#[test]
fn a_format_without_a_name_cannot_be_declared() {
    let Format::Gqs { pruning, .. } = "w4g8s50".parse().unwrap() else {
        panic!("it is group-pruned");
    };
    let whole_row: Format = "w4row".parse().unwrap();
    let quant = whole_row.quant().unwrap();
    let pattern = "2:3".parse().ok();
    let windows: Format = "w4g8".parse().unwrap();
    for format in [
        Format::Gqs { quant, pruning },
        Format::Quantized {
            pattern,
            quant: windows.quant().unwrap(),
        },
    ] {
        let error = Output::new().weight("P", format, 2, 16).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert_eq!(stored_bytes(format, 2, 16), None);
    }
}

#[test]
fn the_factor_of_very_small_weights_is_written_and_read() {
    let folder = Folder::new();
    for (format, size) in [("w4g8", 1e-12), ("w2g8s50", 1e20), ("2:4+w8g8-sym", 1e-3)] {
        let values: Vec<f32> = (0..48u8).map(|i| (f32::from(i) - 20.0) * size).collect();
        let dense = Dense::from_f32(3, 16, values).unwrap();
        let weight = compress(&dense, format.parse().unwrap()).unwrap();
        assert!(
            weight
                .codes()
                .is_some_and(|c| c.factor().to_bits() != 1f32.to_bits()),
            "{format}"
        );
        let path = folder.path("x");
        write_weight(&path, &weight);
        let file = WeightFile::open(&path).unwrap();
        assert!(file.metadata()["lacuna.P"].contains("\"factor\":"));
        assert_eq!(file.weight("P").unwrap(), weight);
        safetensors::SafeTensors::deserialize(&std::fs::read(&path).unwrap()).unwrap();
    }
}

fn coded(format: &str, codes: Vec<u8>, scales: &[f32], zeros: Vec<u8>) -> Codes {
    let format: Format = format.parse().unwrap();
    let Values::F16(scales) = Values::round(lacuna::format::Dtype::F16, scales).unwrap() else {
        panic!("halves were asked for");
    };
    Codes::new(format.quant().unwrap(), codes, scales, zeros.into(), 1.0).unwrap()
}

fn assert_documented(weight: &Matrix, values: &[f32], sections: &[(&str, &[u8])]) {
    let folder = Folder::new();
    write_weight(&folder.path("x"), weight);
    let file = WeightFile::open(folder.path("x")).unwrap();
    assert_eq!(file.tensors().count(), sections.len());
    for (name, bytes) in sections {
        assert_eq!(
            &file.raw(&format!("P.{name}")).unwrap().bytes,
            bytes,
            "{name}"
        );
    }
    assert_eq!(weight.to_dense().values().to_f32(), values);
    assert_eq!(&file.weight("P").unwrap(), weight);
}

#[test]
fn the_documented_quantised_example_is_what_is_written() {
    let codes = coded(
        "w4g8",
        vec![0, 1, 2, 3, 4, 5, 6, 15, 1, 3],
        &[0.5, 2.0],
        vec![2, 0],
    );
    let weight = Quantized::new(1, 10, None, codes).unwrap().into();
    let values = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 6.5, 2.0, 6.0];
    let sections: [(&str, &[u8]); 3] = [
        ("codes", &[0x10, 0x32, 0x54, 0xf6, 0x31]),
        ("scales", &[0x00, 0x38, 0x00, 0x40]),
        ("zeros", &[0x02]),
    ];
    assert_documented(&weight, &values, &sections);
}

#[test]
fn the_documented_pruned_example_is_what_is_written() {
    let Format::Gqs { pruning, .. } = "w2g8s50".parse().unwrap() else {
        panic!("it is group-pruned");
    };
    let codes = [
        [0, 1, 2, 3, 0, 0, 0, 0],
        [3, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [2; 8],
    ];
    let codes = coded(
        "w2g8s50",
        codes.concat(),
        &[1.0, 0.5, 4.0, 2.0],
        vec![0, 1, 1, 3],
    );
    let offsets = vec![0, 2, 4];
    let weight = Gqs::from_parts(2, 20, pruning, offsets, vec![0, 2, 0, 1], codes).unwrap();
    let mut values = vec![0.0; 40];
    values[1..4].copy_from_slice(&[1.0, 2.0, 3.0]);
    values[16] = 1.0;
    values[20..27].fill(-4.0);
    values[28..36].fill(-2.0);
    let sections: [(&str, &[u8]); 5] = [
        ("row_offsets", &[0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0]),
        ("group_indices", &[0, 2, 0, 1]),
        ("codes", &[0xe4, 0x00, 0x57, 0x55, 0x00, 0x40, 0xaa, 0xaa]),
        ("scales", &[0x00, 0x3c, 0x00, 0x38, 0x00, 0x44, 0x00, 0x40]),
        ("zeros", &[0xd4]),
    ];
    assert_documented(&weight.into(), &values, &sections);
}
