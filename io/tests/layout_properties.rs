//! Weights in the layouts of other programs: random files against naive decoders, and written files
//! read back.

mod common;

use common::{
    Folder,
    layouts::{Coded, bitmask, read, read_from, stream, two_of_four, whole},
};
use lacuna::{
    compress::compress,
    format::{Dense, Dtype, Format, Matrix},
};
use lacuna_io::{Layout, Output, WeightFile, pack_quantized_config};
use proptest::prelude::*;
use std::path::PathBuf;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_gptq_files_decode_as_a_naive_decoder_says(
        bits in prop::sample::select(vec![2usize, 3, 4, 8]), rows in 1..4usize, cols in 1..5usize,
        group in prop::sample::select(vec![8usize, 16, 32, 64, 1024]), v2: bool, listed: bool, seed: u64,
    ) {
        let (rows, cols) = (32 * rows, 32 * cols);
        let minus = u32::from(!v2);
        let coded = Coded::random(rows, cols, bits, group, seed).zeros(|zero| zero + minus);
        let field = if v2 { "gptq_v2" } else { "gptq" };
        let mut file = coded.gptq(minus).config(&format!(
            r#"{{"sym":false,"group_size":{group},"checkpoint_format":"{field}"}}"#
        ));
        if !listed {
            file = file.without("P.g_idx");
        }
        prop_assert_eq!(read(&file).2, coded.values());
    }

    #[test]
    fn random_awq_files_decode_as_a_naive_decoder_says(
        rows in 1..6usize, cols in 1..80usize, group in 1..80usize, seed: u64,
    ) {
        let coded = Coded::random(8 * rows, cols, 4, group, seed);
        let file = coded.awq().config(&format!(r#"{{"group_size":{group}}}"#));
        prop_assert_eq!(read(&file).2, coded.values());
    }

    #[test]
    fn random_pack_quantized_files_decode_as_a_naive_decoder_says(
        bits in 2..=8usize, rows in 1..20usize, cols in 1..300usize, group in 1..140usize,
        symmetric: bool, old: bool, exponent in -20..12i32, seed: u64,
    ) {
        let coded = Coded::random(rows, cols, bits, group, seed).scaled(exponent);
        let coded = if symmetric { coded.symmetric() } else { coded };
        let minor = if old { 14 } else { 20 };
        let file = coded.pack_quantized(if old { whole } else { stream }).config(&format!(
            r#"{{"version":"0.{minor}.1","config_groups":
                {{"g":{{"weights":{{"num_bits":{bits},"group_size":{group}}}}}}}}}"#
        ));
        let (module, _, values) = read(&file);
        prop_assert_eq!(values, coded.values());
        // Groups of a multiple of 8 columns, or of the whole row, are never decoded.
        if group % 8 == 0 || group >= cols {
            prop_assert!(!module.format().to_string().contains("f32"), "{:?}", module);
        }
    }

    #[test]
    fn random_bitmasks_decode_as_a_naive_decoder_says(
        rows in 1..9usize, cols in 1..40usize, seed: u64, half: bool, long: bool,
    ) {
        let cols = if half { 4 * cols } else { cols };
        let values: Vec<f32> = (1..=rows * cols).map(|i| i as f32).collect();
        let kept = if half {
            two_of_four(rows, cols, seed)
        } else {
            (0..rows * cols).map(|i| seed.rotate_left(i as u32 * 7) % 3 == 0).collect()
        };
        let file = bitmask(rows, cols, &values, &kept, !half);
        let file = if long { file.long_names() } else { file };
        let expected: Vec<f32> = values.iter().zip(&kept).map(|(v, &k)| if k { *v } else { 0.0 }).collect();
        let (module, _, got) = read(&file);
        prop_assert_eq!(got, expected);
        prop_assert_eq!(module.format().pattern().is_some(), half);
    }
}

/// A file with the weight `P` as `pack-quantized`.
fn written_for_others(folder: &Folder, weight: &Matrix) -> PathBuf {
    let (rows, cols, factor) = (
        weight.rows(),
        weight.cols(),
        weight.codes().unwrap().factor(),
    );
    let mut output = Output::new();
    output
        .pack_quantized("P", weight.format(), rows, cols, factor)
        .unwrap();
    let path = folder.path("model.safetensors");
    let mut writer = output.create(&path).unwrap();
    writer.pack_quantized("P", weight).unwrap();
    writer.finish().unwrap();
    path
}

/// Kernels multiply the rounding of a group's sums by its scale.
#[test]
fn groups_of_zeros_have_no_larger_scale_than_others() {
    let values = (0..8 * 64).map(|i| match i / 8 % 2 {
        0 => 0.0,
        _ => 1e-5 * ((i * 7919 % 211) as f32 - 105.0),
    });
    let dense = Dense::from_f32(8, 64, values.collect()).unwrap();
    let largest = |weight: &Matrix, of_zeros: bool| {
        let (codes, dense) = (weight.codes().unwrap(), weight.to_dense().values().to_f32());
        let groups = dense.chunks(8).zip(codes.scales());
        let of_kind = groups.filter(|(group, _)| group.iter().all(|&v| v == 0.0) == of_zeros);
        let sizes = of_kind.map(|(_, scale)| codes.factor() * scale.to_f32().abs());
        sizes.fold(0.0, f32::max)
    };
    let check = |weight: &Matrix, what: &str| {
        let [zeros, others] = [true, false].map(|of_zeros| largest(weight, of_zeros));
        assert!(0.0 < zeros && zeros <= others, "{what}: {zeros}, {others}");
    };
    check(
        &compress(&dense, "w4g8-sym".parse().unwrap()).unwrap(),
        "compressed",
    );
    for format in ["w4g8s50", "w4g8s50-sym", "w4g8-sym"] {
        let weight = compress(&dense, format.parse().unwrap()).unwrap();
        let folder = Folder::new();
        let file = WeightFile::open(written_for_others(&folder, &weight)).unwrap();
        check(&file.weight("P").unwrap(), format);
    }
}

/// Writes every format with codes as `pack-quantized` and reads it back.
#[test]
fn codes_written_for_others_come_back_as_the_same_values() {
    const COLS: usize = 128;
    for format in [
        "w4g128",
        "w4g32-sym",
        "w2g8",
        "w3g16",
        "w3row-sym",
        "w5row",
        "w6g8-sym",
        "w7g64",
        "w8g8",
        "2:4+w4g8",
        "1:4x2+w3g16-sym",
        "w4g8s50",
        "w3g8s40-ragged",
        "w2g8s30-sym-ragged",
    ] {
        for size in [1.0, 1e-6, 1e7] {
            let values = (0..13 * COLS).map(|i| size * ((i * 7919 % 211) as f32 - 105.0) / 100.0);
            let dense = Dense::from_f32(13, COLS, values.collect()).unwrap();
            let weight = compress(&dense, format.parse().unwrap()).unwrap();
            let folder = Folder::new();
            let path = written_for_others(&folder, &weight);
            let config = pack_quantized_config([
                ("P", weight.format(), COLS),
                ("lm_head", Format::Dense(Dtype::F16), COLS),
            ]);
            folder.put(
                "config.json",
                format!(r#"{{"quantization_config":{config}}}"#).as_bytes(),
            );

            let file = WeightFile::open(path).unwrap();
            let (module, _, values) = read_from(&file);
            assert_eq!(module.layout(), Layout::PackQuantized);
            assert_eq!(
                values,
                weight.to_dense().values().to_f32(),
                "{format} {size}"
            );
            let quant = weight.format().quant().unwrap();
            let read = module.format().quant().unwrap();
            assert_eq!(
                (read.bits(), read.group_cols(COLS)),
                (quant.bits(), quant.group_cols(COLS)),
                "{format}"
            );
        }
    }
}

#[test]
fn schemes_with_and_without_zeros_are_declared_apart() {
    let [with, without]: [Format; 2] = ["w4g32", "w4g32-sym"].map(|f| f.parse().unwrap());
    let config = pack_quantized_config([("a", with, 64), ("b", without, 64)]);
    let groups = config["config_groups"].as_object().unwrap().values();
    let symmetric: Vec<_> = groups.map(|group| &group["weights"]["symmetric"]).collect();
    assert_eq!(symmetric, [false, true]);
}

#[test]
fn only_codes_are_written_for_others_and_only_as_declared() {
    let dense = Dense::from_f32(8, 16, vec![1.0; 128]).unwrap();
    let mut output = Output::new();
    let none = output.pack_quantized("P", "2:4@f16".parse().unwrap(), 8, 16, 1.0);
    assert!(none.unwrap_err().to_string().contains("has no codes"));
    // The package refuses a shorter group at the end of a row, and reads [8, 2] scales as groups of 10 columns.
    let ragged = output.pack_quantized("P", "w4g16".parse().unwrap(), 8, 20, 1.0);
    assert!(ragged.unwrap_err().to_string().contains("do not divide"));
    output
        .pack_quantized("P", "w4g8".parse().unwrap(), 8, 16, 1.0)
        .unwrap();
    assert!(
        output
            .pack_quantized("P", "w4g8".parse().unwrap(), 8, 16, 1.0)
            .is_err()
    );
    let folder = Folder::new();
    let mut writer = output.create(folder.path("x")).unwrap();
    let other = compress(&dense, "w4g16".parse().unwrap()).unwrap();
    assert!(writer.pack_quantized("P", &other).is_err());
    assert!(writer.pack_quantized("Q", &other).is_err());
}
