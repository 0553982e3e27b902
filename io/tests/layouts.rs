//! Weights in the layouts of other programs: known files, and files that are refused.

mod common;

use common::{
    Folder,
    layouts::{
        Checkpoint, Coded, bf16s, f16s, i8s, i32s, i64s, read, read_from, stream, u8s, whole,
    },
};
use lacuna_io::{Layout, Module, RawTensor, Reading, TensorDtype, WeightFile, ZeroPoints};

/// The configuration of compressed-tensors for codes of `bits` bits.
fn of_bits(bits: u32) -> String {
    format!(r#"{{"config_groups":{{"group_0":{{"weights":{{"num_bits":{bits}}}}}}}}}"#)
}

fn evidence(module: &Module) -> String {
    module.evidence().join("; ")
}

#[test]
fn sparse_24_bitmask_of_the_package_is_the_engines_two_of_four() {
    // compressed-tensors 0.14.0 wrote this for [[0,1,0,2,3,0,4,0],[5,6,0,0,0,0,7,8]].
    let file = Checkpoint::default()
        .with(
            "P.compressed",
            f16s(&[2, 4], &[1., 2., 3., 4., 5., 6., 7., 8.]),
        )
        .with("P.bitmask", u8s(&[2, 1], &[90, 195]))
        .with("P.shape", i64s(&[2, 1], &[2, 8]));
    for file in [file.clone(), file.long_names()] {
        let (module, matrix, values) = read(&file);
        assert_eq!(module.layout(), Layout::Sparse24Bitmask);
        assert_eq!(matrix.format().to_string(), "2:4@f16");
        let expected = [
            0., 1., 0., 2., 3., 0., 4., 0., 5., 6., 0., 0., 0., 0., 7., 8.,
        ];
        assert_eq!(values, expected);
    }
}

#[test]
fn sparse_bitmask_of_the_package_is_dense() {
    // compressed-tensors 0.14.0 wrote this for [[0,1,0,2,0,0,0,0,3],[0…0]].
    let file = Checkpoint::default()
        .with("P.compressed", RawTensor::from_f32(&[3], &[1., 2., 3.]))
        .with("P.bitmask", u8s(&[2, 2], &[10, 1, 0, 0]))
        .with("P.row_offsets", i64s(&[2], &[0, 3]))
        .with("P.shape", i64s(&[2], &[2, 9]));
    for file in [file.clone(), file.long_names()] {
        let (module, matrix, values) = read(&file);
        assert_eq!(module.layout(), Layout::SparseBitmask);
        assert_eq!(matrix.format().to_string(), "f32");
        let row = [0., 1., 0., 2., 0., 0., 0., 0., 3.];
        assert_eq!(values, [row, [0.; 9]].concat());
    }
}

#[test]
fn pack_quantized_words_of_the_package_are_the_codes() {
    // int8 −8 … 7 in 4 bits.
    let scale = bf16s(&[1, 1], &[0.5]);
    let file = Checkpoint::default()
        .with(
            "P.weight_packed",
            i32s(&[1, 2], &[0x7654_3210, 0xfedc_ba98]),
        )
        .with("P.weight_scale", scale.clone())
        .with("P.weight_shape", i64s(&[2], &[1, 16]));
    let (module, matrix, values) = read(&file.config(&of_bits(4)));
    assert_eq!(module.layout(), Layout::PackQuantized);
    assert_eq!(matrix.format().to_string(), "w4g16-sym");
    let expected: Vec<f32> = (-8..8).map(|v| v as f32 / 2.0).collect();
    assert_eq!(values, expected);

    // −4 … 3 twice in 3 bits: whole codes in a word, as version 0.14 packs them, and across words, as 0.20.
    let twice: Vec<f32> = (0..16).map(|i| (i % 8 - 4) as f32 / 2.0).collect();
    for (words, lie) in [
        ([0x08fa_c688, 0x0003_eb1a], "whole ones"),
        ([0x88fa_c688, 0x0000_fac6], "across words"),
    ] {
        // Both packings take two words for sixteen columns, so only the version decides.
        let file = Checkpoint::default()
            .with("P.weight_packed", i32s(&[1, 2], &words))
            .with("P.weight_scale", scale.clone())
            .with("P.weight_shape", i64s(&[2], &[1, 16]))
            .config(&of_bits(3));
        let error = file.open().unwrap().module("P").unwrap_err().to_string();
        assert!(error.contains("3 bits or 3 bits, whole ones"), "{error}");
        let minor = if lie == "whole ones" { 14 } else { 20 };
        let versioned = of_bits(3).replacen('{', &format!(r#"{{"version":"0.{minor}.0","#), 1);
        assert_eq!(read(&file.config(&versioned)).2, twice);

        // For 64 columns the packings take different numbers of words, which tell them apart.
        let fields: Vec<u32> = (0..64).map(|i| i % 8).collect();
        let pack = if lie == "whole ones" { whole } else { stream };
        let packed = pack(&fields, 3);
        assert_eq!(packed[0], words[0]);
        let file = Checkpoint::default()
            .with("P.weight_packed", i32s(&[1, packed.len()], &packed))
            .with("P.weight_scale", scale.clone())
            .with("P.weight_shape", i64s(&[2], &[1, 64]));
        let (module, matrix, values) = read(&file);
        assert!(evidence(&module).contains(lie), "{:?}", module.evidence());
        assert_eq!(matrix.format().to_string(), "w3g64-sym");
        assert_eq!(values, twice.repeat(4));
    }
}

#[test]
fn zero_points_of_pack_quantized_are_packed_along_the_rows() {
    // What the package made of the zeros 0,8,10,12,7,5,3,14 | 15,9,11,13,6,4,2,15 of two groups.
    let zeros = [[0u32, 8, 10, 12, 7, 5, 3, 14], [15, 9, 11, 13, 6, 4, 2, 15]];
    let file = Checkpoint::default()
        .with("P.weight_packed", i32s(&[8, 2], &[0; 16]))
        .with("P.weight_scale", f16s(&[8, 2], &[1.0; 16]))
        .with("P.weight_shape", i64s(&[2], &[8, 16]))
        .with(
            "P.weight_zero_point",
            i32s(&[1, 2], &[0xe357_ca80, 0xf246_db9f]),
        )
        .config(&of_bits(4));
    let (_, matrix, values) = read(&file);
    assert_eq!(matrix.format().to_string(), "w4g8");
    for (row, of_row) in values.chunks(16).enumerate() {
        for (group, of_group) in of_row.chunks(8).enumerate() {
            assert_eq!(of_group, [-(zeros[group][row] as f32); 8]);
        }
    }
    // Older files store zero points unpacked and signed.
    let signed: Vec<i8> = (0..16).map(|i| zeros[i % 2][i / 2] as i8 - 8).collect();
    let old = file.with("P.weight_zero_point", i8s(&[8, 2], &signed));
    assert_eq!(read(&old).2, values);
}

#[test]
fn gptq_of_known_words() {
    // A word holds eight inputs of 4 bits, the lowest bits first; v1 stores zeros minus one.
    let file = Checkpoint::default()
        .with("P.qweight", i32s(&[1, 8], &[0x7654_3210; 8]))
        .with("P.qzeros", i32s(&[1, 1], &[0x7777_7777]))
        .with("P.scales", f16s(&[1, 8], &[2.0; 8]));
    let (module, matrix, values) = read(&file);
    assert_eq!(module.layout(), Layout::Gptq);
    assert_eq!(matrix.format().to_string(), "w4g8-sym");
    let row: Vec<f32> = (0..8).map(|code| 2.0 * (code - 8) as f32).collect();
    assert_eq!(values, row.repeat(8));
    assert!(
        evidence(&module).contains("v1: all of 1 symmetric"),
        "{module:?}"
    );
}

#[test]
fn gptq_of_three_bits_goes_on_in_the_next_word() {
    // The packer's pattern: ten codes, two bits, one bit, ten, one bit, two bits, ten.
    let codes: Vec<u32> = (0..32).map(|i| (i * 5 + 3) % 8).collect();
    let (mut words, c) = ([0u32; 3], &codes);
    for i in 0..10 {
        words[0] |= c[i] << (3 * i);
        words[1] |= c[11 + i] << (3 * i + 1);
        words[2] |= c[22 + i] << (3 * i + 2);
    }
    words[0] |= c[10] << 30;
    words[1] |= c[10] >> 2 | c[21] << 31;
    words[2] |= c[21] >> 1;
    let of_rows = |words: [u32; 3]| words.iter().flat_map(|&w| [w; 32]).collect::<Vec<_>>();
    let file = Checkpoint::default()
        .with("P.qweight", i32s(&[3, 32], &of_rows(words)))
        .with("P.qzeros", i32s(&[1, 3], &stream(&[3; 32], 3)))
        .with("P.scales", f16s(&[1, 32], &[1.0; 32]));
    let row: Vec<f32> = codes.iter().map(|&code| code as f32 - 4.0).collect();
    assert_eq!(read(&file).2, row.repeat(32));
}

#[test]
fn awq_words_hold_outputs_in_their_order() {
    // Outputs 0 … 7 of one input lie in nibbles 0, 4, 1, 5, 2, 6, 3, 7.
    let file = Checkpoint::default()
        .with("P.qweight", i32s(&[8, 1], &[0x7531_6420; 8]))
        .with("P.qzeros", i32s(&[1, 1], &[0]))
        .with("P.scales", f16s(&[1, 8], &[1.0; 8]));
    let (module, matrix, values) = read(&file);
    assert_eq!(
        (module.layout(), matrix.format().to_string()),
        (Layout::Awq, "w4g8".into())
    );
    for (row, of_row) in values.chunks(8).enumerate() {
        assert_eq!(of_row, [row as f32; 8]);
    }
}

#[test]
fn conventions_of_gptq_are_asked_for_then_shown_then_said() {
    let symmetric = Coded::random(32, 64, 4, 32, 7).symmetric();
    let mixed = Coded::random(32, 64, 4, 32, 7);
    let says = |file: Checkpoint, format: &str| {
        file.config(&format!(
            r#"{{"quant_method":"gptq","checkpoint_format":"{format}"}}"#
        ))
    };
    // What a symmetric weight shows outweighs the field.
    for (minus, field, lie) in [
        (1, "gptq", "show it"),
        (0, "gptq_v2", "show it"),
        (1, "gptq_v2", "though a field says gptq_v2"),
        (0, "gptq", "though a field says gptq"),
    ] {
        let (module, matrix, values) = read(&says(symmetric.gptq(minus), field));
        assert_eq!(values, symmetric.values(), "{minus} {field}");
        assert_eq!(matrix.format().to_string(), "w4g32-sym");
        assert!(evidence(&module).contains(lie), "{:?}", module.evidence());
    }
    // A weight that is not symmetric shows nothing.
    for (minus, field) in [(1, "gptq"), (0, "gptq_v2")] {
        let coded = mixed.clone().zeros(|zero| zero.max(minus));
        let (module, _, values) = read(&says(coded.gptq(minus), field));
        assert_eq!(values, coded.values());
        assert!(
            evidence(&module).contains("a field says"),
            "{:?}",
            module.evidence()
        );
    }
    // Beside a symmetric weight it follows that one.
    let beside = says(mixed.gptq(0), "gptq");
    let beside = symmetric
        .gptq(0)
        .tensors
        .into_iter()
        .fold(beside, |file, (name, tensor)| {
            file.with(&name.replace("P.", "Q."), tensor)
        });
    let file = beside.open().unwrap();
    let values = file.weight("P").unwrap().to_dense().values().to_f32();
    assert_eq!(values, mixed.values());
    // What the caller asks for outweighs both.
    let asked = Reading::default().with_gptq_zeros(Some(ZeroPoints::V2));
    let file = says(symmetric.gptq(1), "gptq").open_as(asked).unwrap();
    let mut lower = symmetric.clone();
    lower.zeros.fill(7);
    assert_eq!(read_from(&file).2, lower.values());
}

#[test]
fn other_orders_of_groups_are_decoded_exactly() {
    let mut coded = Coded::random(16, 64, 4, 16, 3).zeros(|zero| zero.max(1));
    coded.order = (0..64).map(|col| (col * 7 % 4) as u32).collect();
    let (module, matrix, values) = read(&coded.gptq(1));
    assert_eq!(matrix.format().to_string(), "f32");
    assert_eq!(values, coded.values());
    assert!(
        evidence(&module).contains("desc_act"),
        "{:?}",
        module.evidence()
    );

    let packed = Coded::random(16, 64, 4, 16, 3);
    let packed = Coded {
        order: coded.order.clone(),
        ..packed
    };
    let file = packed
        .pack_quantized(stream)
        .with("P.weight_g_idx", i32s(&[64], &packed.order));
    assert_eq!(read(&file).2, packed.values());
    // A list of groups that was never filled.
    let even = Coded::random(16, 64, 4, 16, 3);
    let file = even
        .pack_quantized(stream)
        .with("P.weight_g_idx", i32s(&[64], &[u32::MAX; 64]));
    assert_eq!(read(&file).2, even.values());
}

#[test]
fn what_the_engine_lacks_becomes_what_it_has() {
    let bits = |file: &Checkpoint| read(file).1.format().to_string();
    // A zero one past the last code takes one more bit.
    let coded = Coded::random(32, 64, 4, 32, 9).zeros(|zero| zero + 1);
    assert!(coded.zeros.contains(&16));
    let (module, matrix, values) = read(&coded.gptq(1).config(r#"{"sym":false}"#));
    assert_eq!(
        (matrix.format().to_string(), values),
        ("w5g32".into(), coded.values())
    );
    assert_eq!(module.warnings().len(), 1, "{:?}", module.warnings());
    // 8-bit codes cannot get one more bit.
    let mut coded = Coded::random(32, 64, 8, 32, 9).zeros(|zero| zero.max(1));
    coded.zeros[5] = 256;
    let file = coded.gptq(1).config(r#"{"sym":false}"#);
    assert_eq!(bits(&file), "f32");
    assert_eq!(read(&file).2, coded.values());
    // Long groups become several.
    let long = Coded::random(8, 512, 4, 256, 9);
    let file = long.pack_quantized(stream);
    assert_eq!(
        (bits(&file), read(&file).2),
        ("w4g128".into(), long.values())
    );
    // Groups of no multiple of 8 columns are not kept as codes.
    let short = Coded::random(8, 36, 4, 12, 9);
    let file = short.pack_quantized(stream);
    assert_eq!((bits(&file), read(&file).2), ("f32".into(), short.values()));
    // One group for the whole row.
    let row = Coded::random(8, 320, 4, 320, 9);
    let file = row.pack_quantized(stream);
    assert_eq!((bits(&file), read(&file).2), ("w4row".into(), row.values()));
}

#[test]
fn a_scale_for_all_rows_is_one_for_each() {
    let mut coded = Coded::random(8, 64, 8, 64, 2).symmetric();
    coded.scales.fill(0.25);
    for shape in [&[][..], &[1], &[1, 1]] {
        let file = coded
            .pack_quantized(stream)
            .config(&of_bits(8))
            .with("P.weight_scale", RawTensor::from_f32(shape, &[0.25]));
        assert_eq!(read(&file).2, coded.values(), "{shape:?}");
    }
    let each = coded
        .pack_quantized(stream)
        .config(&of_bits(8))
        .with("P.weight_scale", RawTensor::from_f32(&[8], &[0.25; 8]));
    assert_eq!(read(&each).2, coded.values());
}

#[test]
fn last_groups_may_be_short_where_the_configuration_says_so() {
    let coded = Coded::random(8, 80, 4, 32, 4);
    let file = coded.pack_quantized(stream);
    let error = file
        .clone()
        .open()
        .unwrap()
        .module("P")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("groups that 80 columns divide into"),
        "{error}"
    );
    let file = file.config(r#"{"config_groups":{"a":{"weights":{"num_bits":4,"group_size":32}}}}"#);
    assert_eq!(read(&file).2, coded.values());
}

#[test]
fn configurations_of_older_exporters_are_read_and_lies_are_not_believed() {
    let coded = Coded::random(8, 80, 4, 32, 4);
    let folder = Folder::new();
    folder.put(
        "quant_config.json",
        br#"{"w_bit":4,"q_group_size":32,"zero_point":true}"#,
    );
    let path = coded.awq().save(&folder);
    assert_eq!(
        read_from(&WeightFile::open(path).unwrap()).2,
        coded.values()
    );

    let coded = Coded::random(32, 64, 3, 32, 4).symmetric();
    let file = coded
        .gptq(1)
        .config(r#"{"bits":33,"group_size":-7,"sym":"no","quant_method":"awq"}"#);
    assert_eq!(read(&file).2, coded.values());
    let folder = Folder::new();
    folder.put("config.json", b"{");
    let error = WeightFile::open(coded.gptq(1).save(&folder))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("config.json") && error.contains("JSON"),
        "{error}"
    );
}

#[test]
fn a_folder_with_one_file_of_any_name_is_a_checkpoint() {
    let folder = Folder::new();
    let path = Coded::random(32, 64, 4, 32, 4)
        .symmetric()
        .gptq(1)
        .save(&folder);
    let named = folder.path("gptq_model-4bit-128g.safetensors");
    std::fs::rename(&path, &named).unwrap();
    let parent = named.parent().unwrap();
    assert!(WeightFile::open(parent).unwrap().module("P").is_ok());
    std::fs::copy(&named, folder.path("other.safetensors")).unwrap();
    assert!(WeightFile::open(parent).is_err());
}

#[test]
fn shards_may_hold_the_tensors_of_one_weight() {
    let coded = Coded::random(32, 64, 4, 32, 4).symmetric();
    let folder = Folder::new();
    let mut map = vec![];
    for (i, (name, tensor)) in coded.gptq(0).tensors.into_iter().enumerate() {
        let file = format!("model-{i}.safetensors");
        map.push(format!(r#""{name}":"{file}""#));
        lacuna_io::save(folder.path(&file), [(name, tensor)]).unwrap();
    }
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","));
    let index = folder.put("model.safetensors.index.json", index.as_bytes());
    let file = WeightFile::open(index.parent().unwrap()).unwrap();
    assert_eq!(read_from(&file).2, coded.values());
}

#[test]
fn names_that_end_so_by_chance_make_no_weight() {
    let plain = RawTensor::from_f32(&[2, 2], &[1.0; 4]);
    let names = [
        "a.scales",
        "b.shape",
        "c.bitmask",
        "d.meta",
        "e.s",
        "f.B",
        "g.codes",
        "h.g_idx",
        "i.weight",
        "i.weight_scale",
        "i.weight_zero_point",
        "qweight",
        ".qweight",
    ];
    let add = |file: Checkpoint, name: &&str| file.with(name, plain.clone());
    let file = names
        .iter()
        .fold(Checkpoint::default(), add)
        .open()
        .unwrap();
    assert_eq!(file.refused().count(), 0);
    assert_eq!(file.modules().map(Module::name).collect::<Vec<_>>(), ["i"]);
    assert_eq!(file.plain_tensors().count(), names.len() - 1);
}

#[test]
fn unread_layouts_are_refused_by_name_and_reason() {
    let word = |shape: &[usize]| i32s(shape, &vec![0; shape.iter().product()]);
    let zeros = |dtype, shape: &[usize]| RawTensor {
        dtype,
        shape: shape.to_vec(),
        bytes: vec![
            0;
            shape.iter().product::<usize>() * if dtype == TensorDtype::I16 { 2 } else { 1 }
        ],
    };
    let halves = |shape: &[usize]| f16s(shape, &vec![1.0; shape.iter().product()]);
    let file = |tensors: &[(&str, RawTensor)]| {
        let add =
            |file: Checkpoint, (name, tensor): &(&str, RawTensor)| file.with(name, tensor.clone());
        tensors.iter().fold(Checkpoint::default(), add)
    };
    for (name, tensors) in [
        (
            "marlin-24",
            vec![
                ("P.weight_packed", word(&[2, 64])),
                ("P.meta", zeros(TensorDtype::I16, &[2, 64])),
                ("P.scale_packed", halves(&[1, 32])),
            ],
        ),
        (
            "Marlin",
            vec![("P.B", word(&[4, 64])), ("P.s", halves(&[1, 64]))],
        ),
        (
            "AWQ GEMV",
            vec![
                ("P.qweight", word(&[64, 32])),
                ("P.qzeros", word(&[64, 1])),
                ("P.scales", halves(&[64, 8])),
            ],
        ),
        (
            "AWQ GEMV",
            vec![
                ("P.qweight", zeros(TensorDtype::I16, &[16, 64])),
                ("P.scales", halves(&[2, 64])),
            ],
        ),
        (
            "nvfp4 or mxfp4",
            vec![
                ("P.weight_packed", zeros(TensorDtype::U8, &[8, 8])),
                ("P.weight_scale", zeros(TensorDtype::F8_E4M3, &[8, 1])),
            ],
        ),
        (
            "float-quantized",
            vec![
                ("P.weight", zeros(TensorDtype::F8_E4M3, &[8, 8])),
                ("P.weight_scale", RawTensor::from_f32(&[1], &[1.0])),
            ],
        ),
        (
            "int-quantized",
            vec![
                ("P.weight", i8s(&[8, 8], &[1; 64])),
                ("P.weight_scale", RawTensor::from_f32(&[8, 1], &[1.0; 8])),
            ],
        ),
        (
            "bitsandbytes",
            vec![
                ("P.weight", u8s(&[32, 1], &[0; 32])),
                ("P.weight.absmax", RawTensor::from_f32(&[1], &[1.0])),
            ],
        ),
        ("HQQ", vec![("P.W_q", u8s(&[8, 8], &[0; 64]))]),
        (
            "AQLM",
            vec![
                ("P.codes", zeros(TensorDtype::I16, &[8, 8, 1])),
                ("P.codebooks", halves(&[1, 16, 1, 8])),
            ],
        ),
        ("QuIP#", vec![("P.Qidxs", word(&[8, 8]))]),
    ] {
        let file = file(&tensors).open().unwrap();
        let refused: Vec<_> = file.refused().collect();
        assert_eq!(refused.len(), 1, "{name}");
        assert_eq!(
            (refused[0].name(), refused[0].layout().to_string()),
            ("P", name.into())
        );
        let error = file.weight("P").unwrap_err();
        let message = common::message_of(&error);
        assert!(
            message.contains(&format!("weight \"P\", as {name}: ")),
            "{message}"
        );
        assert!(file.check_readable().is_err());
        assert!(file.plain_tensors().count() == tensors.len());
    }
}
