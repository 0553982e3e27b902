//! The faults of checkpoints, by their numbers: each is a typed error, or legal and right.
//!
//! Those of our own containers are elsewhere: 30 and 31 (indices) in `containers.rs`, 32 to 34
//! (offsets, numbers of groups) in `coded.rs`, 37 (a pattern that is only claimed) in the
//! engine's `formats.rs`.

mod common;

use common::{
    layouts::{Checkpoint, Coded, bitmask, f16s, i32s, i64s, stream, two_of_four, u8s, whole},
    message_of,
};
use lacuna_io::{Error, RawTensor, Refusal, TensorDtype};

/// Why the weight `P` is refused: when the file is opened, or when the weight is read.
#[track_caller]
fn refusal(checkpoint: &Checkpoint) -> Refusal {
    let file = checkpoint
        .open()
        .expect("one weight is no reason to refuse a file");
    let error = file.weight("P").expect_err("the weight is invalid");
    message_of(&error);
    match error {
        Error::Layout { reason, .. } => *reason,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn assert_refused(checkpoint: &Checkpoint, parts: &[&str]) {
    let reason = refusal(checkpoint).to_string();
    for part in parts {
        assert!(reason.contains(part), "{reason:?} lacks {part:?}");
    }
}

fn values(checkpoint: &Checkpoint) -> Vec<f32> {
    let file = checkpoint.open().unwrap();
    file.weight("P").unwrap().to_dense().values().to_f32()
}

/// A symmetric weight of 32 x 64 with 4-bit codes in groups of 32.
fn coded() -> Coded {
    Coded::random(32, 64, 4, 32, 11).symmetric()
}

#[test]
fn case_16_shapes_that_do_not_divide() {
    // Inputs: 5 rows of words have 160 bits, which is no whole number of 3-bit codes.
    let three = Coded::random(32, 64, 3, 32, 11).symmetric().gptq(1);
    assert_refused(
        &three
            .without("P.g_idx")
            .with("P.qweight", i32s(&[5, 32], &[0; 160])),
        &["P.qweight", "[5, 32]", "3-bit"],
    );
    // Outputs: 12 zero points of 4 bits do not fill whole words.
    let odd = Checkpoint::default()
        .with("P.qweight", i32s(&[4, 12], &[0; 48]))
        .with("P.qzeros", i32s(&[1, 2], &[0; 2]))
        .with("P.scales", f16s(&[1, 12], &[1.0; 12]));
    assert_refused(&odd, &["P.qzeros", "[1, 2]", "12 outputs"]);
    // Groups: 64 inputs do not divide into 3, and nothing says how long a group is.
    let three = coded()
        .gptq(1)
        .without("P.g_idx")
        .with("P.scales", f16s(&[3, 32], &[1.0; 96]))
        .with("P.qzeros", i32s(&[3, 4], &[0x7777_7777; 12]));
    assert_refused(&three, &["P.scales", "[3, 32]", "64 columns"]);
    assert_refused(
        &coded().gptq(1).with("P.scales", f16s(&[0, 32], &[])),
        &["P.scales", "[0, 32]"],
    );
    // A group size of −1, or beyond the inputs, is one group.
    for size in [-1, 4096] {
        let whole = Coded::random(32, 64, 4, 64, 11).symmetric();
        let file = whole.gptq(1).config(&format!(r#"{{"group_size":{size}}}"#));
        assert_eq!(values(&file), whole.values());
    }
}

#[test]
fn case_17_lists_of_groups() {
    let with = |order: &[u32]| coded().gptq(1).with("P.g_idx", i32s(&[order.len()], order));
    let mut order: Vec<u32> = (0..64).map(|col| col / 32).collect();
    order[5] = 2;
    assert_refused(
        &with(&order),
        &["P.g_idx", "group of column 5 is 2", "0 to 1"],
    );
    order[5] = u32::MAX;
    assert_refused(&with(&order), &["group of column 5 is -1"]);
    assert_refused(&with(&order[..63]), &["P.g_idx", "[63]", "[64]"]);
    assert!(matches!(
        refusal(&with(&[0; 64])),
        Refusal::Ambiguous { .. }
    ));
    // Zeros are no order where the configuration denies one.
    let config = |desc_act| format!(r#"{{"quant_method":"gptq","desc_act":{desc_act}}}"#);
    let zeros = with(&[0; 64]).config(&config(false));
    assert_eq!(values(&zeros), coded().values());
    let zeros = with(&[0; 64]).config(&config(true));
    assert!(matches!(refusal(&zeros), Refusal::Ambiguous { .. }));
    let ones = with(&[1; 64]).config(&config(false));
    assert!(matches!(refusal(&ones), Refusal::Ambiguous { .. }));
    // A list that descends is legal.
    let mut descending = coded();
    descending.order.reverse();
    assert_eq!(values(&descending.gptq(1)), descending.values());
}

#[test]
fn case_18_zero_points_of_either_convention() {
    for minus in [0, 1] {
        let file = coded().gptq(minus);
        assert_eq!(values(&file), coded().values(), "{minus}");
    }
    // Zero points that differ show no convention; without other hints they are read as v1.
    let mut mixed = coded();
    mixed.zeros[0] = 9;
    assert_eq!(values(&mixed.gptq(1)), mixed.values());
}

#[test]
fn case_19_a_stored_zero_of_all_ones() {
    let mut coded = coded();
    coded.zeros[3] = 16;
    let file = coded.gptq(1).config(r#"{"sym":false}"#);
    assert_eq!(values(&file), coded.values());
    let file = file.open().unwrap();
    let warnings = file.module("P").unwrap().warnings();
    assert!(
        warnings[0].contains("1 of 64 stored zero points are 15"),
        "{warnings:?}"
    );
    // v2 can store all ones as they are.
    coded.zeros[3] = 15;
    let file = coded
        .gptq(0)
        .config(r#"{"sym":false,"checkpoint_format":"gptq_v2"}"#);
    assert_eq!(values(&file), coded.values());
    assert!(
        file.open()
            .unwrap()
            .module("P")
            .unwrap()
            .warnings()
            .is_empty()
    );
}

#[test]
fn case_20_scales_of_every_kind() {
    // Zero, the smallest half, a negative and the largest one: legal, and exact.
    let mut coded = coded();
    let tiny = half::f16::from_bits(1).to_f32();
    coded.scales[..4].copy_from_slice(&[0.0, -0.0, -0.5, 65504.0]);
    assert_eq!(values(&coded.gptq(1)), coded.values());
    coded.scales[..4].copy_from_slice(&[0.0, tiny, -tiny, 0.5]);
    assert_eq!(values(&coded.gptq(1)), coded.values());
    let both = coded.gptq(1).open().unwrap();
    assert_eq!(both.module("P").unwrap().format().to_string(), "w4g32-sym");
    // The smallest and the largest half together have no common factor.
    coded.scales[3] = 65504.0;
    let file = coded.gptq(1);
    assert_eq!(
        file.open()
            .unwrap()
            .module("P")
            .unwrap()
            .format()
            .to_string(),
        "f32"
    );
    assert_eq!(values(&file), coded.values());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        coded.scales[2] = bad;
        for file in [coded.gptq(1), coded.awq(), coded.pack_quantized(stream)] {
            assert_refused(&file, &["scale", "element", "a finite scale"]);
        }
    }
}

#[test]
fn case_21_bits() {
    // For 3, 5 and 6 bits the number of words tells the two packings apart.
    for bits in [3, 5, 6] {
        let coded = Coded::random(4, 320, bits, 32, 5);
        assert_eq!(
            values(&coded.pack_quantized(stream)),
            coded.values(),
            "{bits}"
        );
        assert_eq!(
            values(&coded.pack_quantized(whole)),
            coded.values(),
            "{bits}"
        );
    }
    // If both packings take as many words, the file is refused, unless they are the same.
    let few = Coded::random(4, 20, 3, 20, 5)
        .symmetric()
        .pack_quantized(stream);
    let three = r#"{"config_groups":{"g":{"weights":{"num_bits":3}}}}"#;
    assert!(matches!(
        refusal(&few.config(three)),
        Refusal::Ambiguous { .. }
    ));
    let few = Coded::random(4, 10, 3, 10, 5).symmetric();
    assert_eq!(
        values(&few.pack_quantized(stream).config(three)),
        few.values()
    );
    // Seven bits in whole words take as many words as eight. Eight use the upper bits of some word, ...
    let mut eight = Coded::random(4, 64, 8, 32, 5).symmetric();
    assert_eq!(values(&eight.pack_quantized(stream)), eight.values());
    // ... or are all 0, and so are their zero points, ...
    (eight.codes, eight.zeros) = (vec![0; 4 * 64], vec![0; 4 * 2]);
    assert_eq!(values(&eight.pack_quantized(stream)), eight.values());
    // ... and for seven the configuration decides.
    let seven = Coded::random(4, 64, 7, 32, 5).symmetric();
    let file = seven.pack_quantized(whole);
    assert!(matches!(refusal(&file), Refusal::Ambiguous { .. }));
    let file = file.config(r#"{"config_groups":{"g":{"weights":{"num_bits":7}}}}"#);
    assert_eq!(values(&file), seven.values());
    // No other number of bits is accepted.
    for words in [0, 1, 9, 33] {
        let file = coded()
            .gptq(1)
            .with("P.qzeros", i32s(&[2, words], &vec![0; 2 * words]));
        assert_refused(&file, &["P.qzeros", &format!("[2, {words}]")]);
        let file = coded()
            .pack_quantized(stream)
            .with("P.weight_packed", i32s(&[32, words], &vec![0; 32 * words]));
        assert_refused(&file, &["P.weight_packed", &format!("[32, {words}]")]);
    }
    // 5-bit codes of GPTQ lie in planes of bits.
    let five = Coded::random(32, 64, 5, 32, 5).symmetric().gptq(1);
    assert_refused(&five, &["P.qzeros", "2, 3, 4 or 8 bits"]);
    let unpacked = coded().gptq(1).with("P.qzeros", i32s(&[2, 32], &[7; 64]));
    assert_refused(&unpacked, &["these are not packed"]);
}

#[test]
fn case_22_awq_is_not_taken_for_gptq_nor_gptq_for_awq() {
    // Whatever the configuration says.
    let coded = coded();
    let awq = coded
        .awq()
        .config(r#"{"quant_method":"gptq","bits":4,"group_size":32}"#);
    assert_eq!(values(&awq), coded.values());
    let gptq = coded
        .gptq(1)
        .config(r#"{"quant_method":"awq","version":"gemm"}"#);
    assert_eq!(values(&gptq), coded.values());
}

#[test]
fn case_23_planes_of_bits() {
    let file = coded()
        .gptq(0)
        .config(r#"{"quant_method":"gptq","checkpoint_format":"gptq_p"}"#);
    assert!(matches!(refusal(&file), Refusal::Unread { .. }));
    assert_refused(&file, &["gptq_p", "planes"]);
}

#[test]
fn case_24_a_shape_that_contradicts_the_words() {
    let with = |shape: &[i64]| {
        coded()
            .pack_quantized(stream)
            .with("P.weight_shape", i64s(&[shape.len()], shape))
    };
    assert_refused(&with(&[32, 640]), &["P.weight_packed", "640 codes"]);
    assert_refused(&with(&[31, 64]), &["P.weight_packed", "31 rows"]);
    assert_refused(&with(&[32, -64]), &["P.weight_shape", "-64"]);
    assert_refused(&with(&[32, i64::MAX]), &["P.weight_packed"]);
    assert_refused(&with(&[0, 0]), &["P.weight_packed"]);
    assert_refused(&with(&[32, 0]), &["P.weight_packed", "0 codes"]);
    assert_refused(&with(&[32, 64, 1]), &["P.weight_shape", "[3]"]);
}

#[test]
fn case_25_zero_points_packed_the_wrong_way() {
    let coded = Coded::random(32, 64, 4, 8, 11);
    let along_columns = i32s(&[32, 1], &[0; 32]);
    assert_refused(
        &coded
            .pack_quantized(stream)
            .with("P.weight_zero_point", along_columns),
        &["P.weight_zero_point", "[32, 1]", "[4, 8]", "along the rows"],
    );
    let wrong = coded.gptq(1).with("P.qzeros", i32s(&[4, 8], &[0; 32]));
    assert_refused(&wrong, &["P.qzeros", "[4, 8]"]);
}

#[test]
fn case_26_tensors_that_are_missing() {
    for (file, names) in [
        (coded().gptq(1), vec!["P.qweight", "P.qzeros", "P.scales"]),
        (coded().awq(), vec!["P.qweight", "P.qzeros", "P.scales"]),
        (
            coded().pack_quantized(stream),
            vec!["P.weight_packed", "P.weight_scale", "P.weight_shape"],
        ),
        (
            bitmask(2, 8, &[1.0; 16], &two_of_four(2, 8, 3), false),
            vec!["P.bitmask", "P.compressed", "P.shape"],
        ),
    ] {
        for name in names {
            let reason = refusal(&file.clone().without(name));
            assert_eq!(
                reason,
                Refusal::Missing {
                    tensor: name.into()
                }
            );
        }
    }
    let bits = bitmask(2, 8, &[1.0; 16], &[true; 16], true);
    let reason = refusal(
        &bits
            .clone()
            .with("P.compressed", RawTensor::from_f32(&[4, 4], &[1.0; 16])),
    );
    assert!(matches!(reason, Refusal::Shape { .. }), "{reason}");
    let reason = refusal(&bits.without("P.row_offsets"));
    assert_eq!(
        reason,
        Refusal::Missing {
            tensor: "P.row_offsets".into()
        }
    );
}

#[test]
fn case_27_a_weight_that_is_there_twice() {
    for file in [coded().gptq(1), coded().pack_quantized(stream)] {
        let file = file.with("P.weight", RawTensor::from_f32(&[32, 64], &[1.0; 2048]));
        assert!(matches!(refusal(&file), Refusal::Twice { .. }));
    }
}

#[test]
fn case_28_bits_that_are_not_two_of_four() {
    let with = |mask: u8| {
        Checkpoint::default()
            .with("P.compressed", RawTensor::from_f32(&[2, 4], &[1.0; 8]))
            .with("P.bitmask", u8s(&[2, 1], &[0b0110_0011, mask]))
            .with("P.shape", i64s(&[2, 1], &[2, 8]))
    };
    assert_refused(&with(0b0111_0011), &["P.bitmask", "row 1", "4..8", "is 3"]);
    assert_refused(&with(0b0011_0000), &["row 1", "0..4", "is 0"]);
    assert_eq!(
        values(&with(0b1100_1001))[8..],
        [1., 0., 0., 1., 0., 0., 1., 1.]
    );
    // With any sparsity, the total and the offsets of rows must fit the mask.
    let kept = [true, false, true, true, false, true];
    let file = bitmask(2, 3, &[1.0; 6], &kept, true);
    let long = file
        .clone()
        .with("P.compressed", RawTensor::from_f32(&[5], &[1.0; 5]));
    assert_refused(&long, &["P.bitmask", "number of bits set is 4", "5"]);
    for offsets in [[0, 1], [0, 3], [1, 3]] {
        assert_refused(
            &file.clone().with("P.row_offsets", i64s(&[2], &offsets)),
            &["P.row_offsets", "offset of row"],
        );
    }
}

#[test]
fn case_29_bits_beyond_the_last_column() {
    let file =
        bitmask(1, 9, &[1.0; 9], &[true; 9], true).with("P.bitmask", u8s(&[1, 2], &[255, 3]));
    assert_refused(&file, &["P.bitmask", "0x03", "no bit from 1 on"]);
    let file = bitmask(1, 12, &[1.0; 12], &two_of_four(1, 12, 5), false)
        .with("P.bitmask", u8s(&[1, 2], &[0b0101_0101, 0b0101_0101]));
    assert_refused(&file, &["P.bitmask", "no bit from 4 on"]);
}

#[test]
fn case_35_values_of_another_number() {
    let file = bitmask(2, 8, &[1.0; 16], &two_of_four(2, 8, 3), false);
    let short = file.with("P.compressed", RawTensor::from_f32(&[2, 3], &[1.0; 6]));
    assert_refused(&short, &["P.compressed", "[2, 3]", "[2, 4]"]);
    let short = coded().gptq(1).with("P.scales", f16s(&[2, 31], &[1.0; 62]));
    assert_refused(&short, &["P.scales", "[2, 31]", "[groups, 32]"]);
}

#[test]
fn case_36_columns_that_windows_of_four_do_not_divide() {
    let file = bitmask(
        1,
        6,
        &[1.0; 6],
        &[true, true, false, false, true, false],
        false,
    );
    assert_refused(
        &file,
        &["P.shape", "number of columns is 6", "multiple of 4"],
    );
}

#[test]
fn case_38_odd_values_are_kept_as_they_are() {
    let kept = two_of_four(1, 8, 3);
    let tiny = f32::from_bits(1);
    let odd = [-0.0, tiny, -0.0, tiny, -0.0, -tiny, -0.0, -tiny];
    let file = bitmask(1, 8, &odd, &kept, false);
    let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let expected = odd
        .iter()
        .zip(&kept)
        .map(|(v, &k)| if k { *v } else { 0.0 })
        .collect();
    assert_eq!(bits(values(&file)), bits(expected));
    // NaN is refused among the kept values of a sparse weight; a dense one may hold it.
    let nan = bitmask(1, 8, &[f32::NAN; 8], &kept, false);
    assert!(matches!(
        refusal(&nan),
        Refusal::Engine(lacuna::Error::NotFinite { .. })
    ));
    let nan = bitmask(1, 8, &[f32::NAN; 8], &kept, true);
    assert_eq!(values(&nan).iter().filter(|v| v.is_nan()).count(), 4);
}

#[test]
fn case_39_weights_of_zeros() {
    let none = bitmask(3, 5, &[0.0; 15], &[false; 15], true);
    assert_eq!(values(&none), [0.0; 15]);
    let mut zeros = coded();
    zeros.scales.fill(0.0);
    assert!(values(&zeros.gptq(1)).iter().all(|&v| v == 0.0));
}

#[test]
fn types_that_do_not_belong() {
    for (file, name, expected) in [
        (coded().gptq(1), "P.scales", "F32, F16 or BF16"),
        (coded().gptq(1), "P.qweight", "I32"),
        (coded().gptq(1), "P.qzeros", "I32"),
        (coded().gptq(1), "P.g_idx", "I32"),
        (coded().pack_quantized(stream), "P.weight_packed", "I32"),
        (
            coded().pack_quantized(stream),
            "P.weight_scale",
            "F32, F16 or BF16",
        ),
        (coded().pack_quantized(stream), "P.weight_shape", "I64"),
        (
            bitmask(2, 8, &[1.0; 16], &two_of_four(2, 8, 3), false),
            "P.compressed",
            "F32, F16 or BF16",
        ),
        (
            bitmask(2, 8, &[1.0; 16], &two_of_four(2, 8, 3), false),
            "P.bitmask",
            "U8",
        ),
        (
            bitmask(2, 8, &[1.0; 16], &[true; 16], true),
            "P.row_offsets",
            "I64",
        ),
    ] {
        let at = file
            .tensors
            .iter()
            .find(|(n, _)| n == name)
            .expect("it is there");
        let shape = at.1.shape.clone();
        let other = RawTensor {
            dtype: TensorDtype::U32,
            bytes: vec![0; 4 * shape.iter().product::<usize>()],
            shape,
        };
        let reason = refusal(&file.with(name, other));
        let Refusal::Type {
            tensor,
            got,
            expected: needed,
        } = &reason
        else {
            panic!("{reason}")
        };
        assert_eq!(
            (tensor.as_str(), got.as_str(), *needed),
            (name, "U32", expected)
        );
    }
}
