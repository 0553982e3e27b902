//! Tensors of checkpoints.

use crate::files::{
    Folder, Gguf, Meta, QWEN2, add_biases, assert_names, config, ramp, shapes, with,
};
use half::f16;
use lacuna::format::{Dtype, Format, Matrix, Values};
use lacuna_io::{GgufFile, Output, RawTensor, save};
use lacuna_llm::{Checkpoint, EMBEDDING, Error, HEAD, Linear, Recipe, apply};
use serde_json::json;
use std::path::Path;

const DENSE_BF16: Format = Format::Dense(Dtype::Bf16);

fn values(matrix: &Matrix) -> Vec<f32> {
    matrix.to_dense().values().to_f32()
}

#[test]
fn safetensors_come_as_they_are() {
    let folder = Folder::new(&config("llama")).tensors(&shapes(false));
    for path in [folder.path(), folder.path().join("model.safetensors")] {
        let c = Checkpoint::open(path).unwrap();
        assert_eq!(c.modules().len(), 15);
        for module in c.modules() {
            let w = c.matrix(&module).unwrap();
            assert_eq!(w.format(), DENSE_BF16);
            assert_eq!(c.format(&module).unwrap(), DENSE_BF16);
            assert_eq!(c.stored_format(&module).unwrap(), "bf16");
            assert_eq!(values(&w), ramp(w.rows() * w.cols()));
        }
        // A tied head is the embedding.
        assert_eq!(c.matrix(HEAD).unwrap(), c.matrix(EMBEDDING).unwrap());
        assert_eq!(c.norm("model.norm").unwrap(), ramp(8));
        assert_eq!(
            c.norm("model.layers.1.input_layernorm.weight").unwrap(),
            ramp(8)
        );
        assert_eq!(
            c.vector("model.layers.0.self_attn.q_proj.bias").unwrap(),
            None
        );
    }
}

#[test]
fn rows_of_the_embedding_come_alone() {
    let folder = Folder::new(&config("llama")).tensors(&shapes(false));
    let (_dir, gguf) = Gguf::model("llama").save();
    for path in [folder.path(), gguf] {
        let c = Checkpoint::open(path).unwrap();
        for module in [EMBEDDING, HEAD, "model.layers.0.self_attn.q_proj"] {
            let all = c.matrix(module).unwrap();
            for rows in [0..all.rows(), 3..7, 5..6, 8..8] {
                let part = c.matrix_rows(module, rows.clone()).unwrap();
                assert_eq!((part.rows(), part.cols()), (rows.len(), 8));
                assert_eq!(values(&part), values(&all)[rows.start * 8..rows.end * 8]);
                assert_eq!(part.format(), all.format());
            }
        }
        for rows in [9..17, std::ops::Range { start: 2, end: 1 }] {
            assert_names(c.matrix_rows(EMBEDDING, rows), &[EMBEDDING, "0..16"]);
        }
    }
}

#[test]
fn norms_of_gemma_are_one_plus_what_safetensors_hold() {
    let folder = Folder::new(&config("gemma3_text")).tensors(&shapes(true));
    let c = Checkpoint::open(folder.path()).unwrap();
    let plus: Vec<f32> = ramp(4).iter().map(|w| 1.0 + w).collect();
    assert_eq!(c.norm("model.layers.0.self_attn.k_norm").unwrap(), plus);
    let (_dir, path) = Gguf::model("gemma3").save();
    let c = Checkpoint::open(path).unwrap();
    assert_eq!(c.norm("model.layers.0.self_attn.k_norm").unwrap(), ramp(4));
    assert_eq!(
        c.norm("model.layers.1.post_feedforward_layernorm").unwrap(),
        ramp(8)
    );
}

#[test]
fn text_parts_of_larger_models_are_found() {
    for (from, to) in [
        ("model.", "language_model.model."),
        ("model.", "model.language_model."),
        ("model.", ""),
    ] {
        let named = shapes(true)
            .into_iter()
            .map(|(name, shape)| (name.replacen(from, to, 1), shape))
            .collect();
        let text = config("gemma3_text");
        let config = json!({ "model_type": "gemma3", "text_config": text });
        let c = Checkpoint::open(Folder::new(&config).tensors(&named).path()).unwrap();
        assert_eq!(values(&c.matrix(EMBEDDING).unwrap()), ramp(128));
    }
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    for name in shapes(false).into_keys() {
        let mut less = shapes(false);
        less.remove(&name);
        // Without the last norm, the text part of a larger model is not found either.
        let result = Checkpoint::open(Folder::new(&config("llama")).tensors(&less).path());
        assert!(matches!(result, Err(Error::MissingTensor { .. })));
        assert_names(result, &[&name]);
        let mut other = shapes(false);
        other.insert(name.clone(), vec![2, 3]);
        let result = Checkpoint::open(Folder::new(&config("llama")).tensors(&other).path());
        assert!(matches!(result, Err(Error::TensorShape { .. })));
        assert_names(result, &[&name, "[2, 3]"]);
    }
    let untied = with(config("llama"), json!({ "tie_word_embeddings": false }));
    let result = Checkpoint::open(Folder::new(&untied).tensors(&shapes(false)).path());
    assert_names(result, &["lm_head.weight"]);
}

#[test]
fn what_the_model_does_not_have_is_refused() {
    let folder = Folder::new(&config("llama")).tensors(&shapes(false));
    let c = Checkpoint::open(folder.path()).unwrap();
    for module in [
        "",
        "model.layers.2.mlp.up_proj",
        "model.layers.01.mlp.up_proj",
        "model.layers.0.mlp",
        "model.norm",
        "model.layers.0.mlp.up_proj.weight",
    ] {
        assert!(
            matches!(c.matrix(module), Err(Error::UnknownModule { .. })),
            "{module}"
        );
        assert!(c.format(module).is_err() && c.stored_format(module).is_err());
    }
    for norm in [
        "model",
        "model.layers.0.self_attn.q_norm",
        "model.layers.9.input_layernorm",
    ] {
        assert!(
            matches!(c.norm(norm), Err(Error::UnknownModule { .. })),
            "{norm}"
        );
    }
    assert!(matches!(
        c.vector("model.norm"),
        Err(Error::UnknownModule { .. })
    ));
}

#[test]
fn biases_are_those_that_the_configuration_demands() {
    let open = |json: &serde_json::Value, shapes: &_| {
        Checkpoint::open(Folder::new(json).tensors(shapes).path())
    };
    let (attention, mlp) = (&Linear::ALL[..4], &Linear::ALL[4..]);
    let said = with(
        config("llama"),
        json!({ "attention_bias": true, "mlp_bias": true }),
    );
    for (json, linears) in [(&config("qwen2"), &QWEN2[..]), (&said, &Linear::ALL)] {
        let mut shapes = shapes(false);
        add_biases(&mut shapes, linears);
        let c = open(json, &shapes).unwrap();
        let names: Vec<String> = shapes
            .keys()
            .filter(|n| n.ends_with("bias"))
            .cloned()
            .collect();
        for name in names {
            let shape = shapes[&name].clone();
            assert_eq!(c.vector(&name).unwrap(), Some(ramp(shape[0])));
            shapes.insert(name.clone(), vec![3]);
            assert_names(open(json, &shapes), &[&name, "[3]", &format!("{shape:?}")]);
            shapes.remove(&name);
            let missing = open(json, &shapes);
            assert!(matches!(missing, Err(Error::MissingTensor { .. })));
            assert_names(missing, &[&name]);
            shapes.insert(name, shape);
        }
    }
    let only_attention = with(config("llama"), json!({ "attention_bias": true }));
    let only_mlp = with(
        config("llama"),
        json!({ "attention_bias": false, "mlp_bias": true }),
    );
    for (json, granted, denied) in [
        (config("llama"), &[][..], attention),
        (config("llama"), &[], mlp),
        (config("mistral"), &[], attention),
        (config("qwen2"), &QWEN2, &attention[3..]),
        (config("qwen2"), &QWEN2, mlp),
        (only_attention, attention, mlp),
        (only_mlp, mlp, attention),
    ] {
        for &linear in denied {
            let mut shapes = shapes(false);
            add_biases(&mut shapes, granted);
            open(&json, &shapes).unwrap();
            add_biases(&mut shapes, &[linear]);
            let refused = open(&json, &shapes);
            assert!(matches!(refused, Err(Error::Unsupported { .. })));
            let name = format!("{}.bias", linear.module(0));
            assert_names(refused, &[&name, "attention_bias", "mlp_bias"]);
        }
    }
}

#[test]
fn zeros_are_no_bias() {
    let folder = Folder::new(&config("llama"));
    let tensors = shapes(false).into_iter().map(|(name, shape)| {
        let values = ramp(shape.iter().product());
        (name, RawTensor::from_f32(&shape, &values))
    });
    let bias = (
        "model.layers.0.mlp.down_proj.bias".to_owned(),
        RawTensor::from_f32(&[8], &[0.0; 8]),
    );
    save(
        folder.path().join("model.safetensors"),
        tensors.chain([bias]),
    )
    .unwrap();
    Checkpoint::open(folder.path()).unwrap();
}

/// A tied model that stores a head of `values` under `name`.
fn with_head(config: &serde_json::Value, name: &str, values: &[f32]) -> Folder {
    let folder = Folder::new(config);
    let tensors = shapes(false).into_iter().map(|(name, shape)| {
        let values = ramp(shape.iter().product());
        (name, RawTensor::from_f32(&shape, &values))
    });
    let head = (name.to_owned(), RawTensor::from_f32(&[16, 8], values));
    save(
        folder.path().join("model.safetensors"),
        tensors.chain([head]),
    )
    .unwrap();
    folder
}

#[test]
fn a_stored_head_counts_where_it_differs_from_the_embedding() {
    let tied = config("llama");
    let same = Checkpoint::open(with_head(&tied, "lm_head.weight", &ramp(128)).path()).unwrap();
    assert!(same.config().tied_head);
    let mut other = ramp(128);
    other[127] += 0.5;
    let c = Checkpoint::open(with_head(&tied, "lm_head.weight", &other).path()).unwrap();
    assert!(!c.config().tied_head && c.modules().contains(&HEAD.to_owned()));
    assert_eq!(values(&c.matrix(HEAD).unwrap()), other);
    assert_eq!(values(&c.matrix(EMBEDDING).unwrap()), ramp(128));
    // What cannot be the head is refused, not ignored.
    let mut shapes = shapes(false);
    shapes.insert("lm_head.weight".into(), vec![15, 8]);
    let opened = Checkpoint::open(Folder::new(&tied).tensors(&shapes).path());
    assert_names(opened, &["lm_head.weight", "[15, 8]", "[16, 8]"]);
}

#[test]
fn codes_of_an_embedding_are_compared_with_the_head() {
    let said = json!({ "quant_method": "compressed-tensors",
        "config_groups": { "group_0": { "weights": { "num_bits": 4 } } } });
    let said = json!({ "quantization_config": said });
    let folder = Folder::new(&with(config("llama"), said));
    // Words whose codes all stand for 0.
    let words = RawTensor {
        dtype: lacuna_io::TensorDtype::I32,
        shape: vec![16, 1],
        bytes: vec![0x88; 64],
    };
    for (head, tied) in [(0.0, true), (1.0, false)] {
        let mut tensors = with_codes(EMBEDDING, &words);
        tensors.push((
            "lm_head.weight".into(),
            RawTensor::from_f32(&[16, 8], &[head; 128]),
        ));
        save(folder.path().join("model.safetensors"), tensors).unwrap();
        let c = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(c.config().tied_head, tied);
        assert_eq!(values(&c.matrix(HEAD).unwrap()), [head; 128]);
    }
}

/// The rows in the order in which llama.cpp's converter puts those of heads of 4.
fn interleaved(rows: &[Vec<f32>]) -> Vec<f32> {
    let heads = rows.chunks(4);
    heads
        .flat_map(|h| [&h[0], &h[2], &h[1], &h[3]])
        .flatten()
        .copied()
        .collect()
}

#[test]
fn interleaved_rows_are_put_back() {
    for (architecture, moved) in [("llama", true), ("qwen2", false)] {
        let mut file = Gguf::model(architecture);
        let rows: Vec<Vec<f32>> = ramp(64).chunks(8).map(<[f32]>::to_vec).collect();
        file.f32s("blk.0.attn_q.weight", &[8, 8], &interleaved(&rows));
        let bias: Vec<Vec<f32>> = ramp(8).iter().map(|&b| vec![b]).collect();
        file.f32s("blk.0.attn_q.bias", &[8], &interleaved(&bias));
        file.f32s("blk.0.attn_k.weight", &[4, 8], &interleaved(&rows[..4]));
        let (_dir, path) = file.save();
        let c = Checkpoint::open(path).unwrap();
        let q = c.matrix(&Linear::Q.module(0)).unwrap();
        assert_eq!(values(&q) == ramp(64), moved);
        let k = c.matrix(&Linear::K.module(0)).unwrap();
        assert_eq!(values(&k) == ramp(64)[..32], moved);
        let bias = c.vector("model.layers.0.self_attn.q_proj.bias").unwrap();
        assert_eq!(bias.unwrap() == ramp(8), moved);
        // Values of other products keep their order.
        assert_eq!(values(&c.matrix(&Linear::V.module(0)).unwrap()), ramp(32));
        assert_eq!(c.stored_format(&Linear::V.module(0)).unwrap(), "f32");
    }
}

/// A model whose embedding is 16 rows of 32 values in `Q8_0`, with `scale` for row 9.
fn quantised(architecture: &str, scale: f16) -> Gguf {
    let mut file = Gguf::model(architecture);
    file.set(&format!("{architecture}.embedding_length"), Meta::U32(32));
    let mut wide = file.clone();
    for (name, (shape, ..)) in &file.tensors {
        let shape: Vec<usize> = match shape[..] {
            [rows, 8] if !name.contains("attn_output") => vec![rows, 32],
            [8, cols] => vec![32, cols],
            [8] => vec![32],
            ref other => other.to_vec(),
        };
        wide.f32s(name, &shape, &ramp(shape.iter().product()));
    }
    let embedding = (vec![16, 32], 8, eight_bits(16, scale));
    wide.tensors.insert("token_embd.weight".into(), embedding);
    wide
}

/// Rows of one block of `Q8_0` each, with `scale` for row 9.
fn eight_bits(rows: u8, scale: f16) -> Vec<u8> {
    blocks(
        rows,
        |row| if row == 9 { scale } else { f16::from_f32(0.5) },
    )
}

/// Rows of one block of `Q8_0`.
fn blocks(rows: u8, scale: impl Fn(u8) -> f16) -> Vec<u8> {
    let block = |row: u8| {
        let d = scale(row);
        let q = (0..32u8).map(move |i| if i == 7 { 100 + row } else { i });
        d.to_le_bytes().into_iter().chain(q)
    };
    (0..rows).flat_map(block).collect()
}

/// Rows of 32 values of a tensor as its file decodes, out of Llama's interleaved order of heads of four.
fn decoded(path: &Path, tensor: &str, interleaved: bool) -> Vec<f32> {
    let values = GgufFile::open(path).unwrap().read_f32(tensor).unwrap();
    let from = |row: usize| {
        let to = [0, 2, 1, 3][row % 4];
        if interleaved { row / 4 * 4 + to } else { row }
    };
    let rows = 0..values.len() / 32;
    let row = |row| &values[from(row) * 32..][..32];
    rows.flat_map(row).copied().collect()
}

#[test]
fn blocks_of_codes_stay_codes() {
    for architecture in ["llama", "qwen2"] {
        let mut file = quantised(architecture, f16::ONE);
        let q = (vec![8, 32], 8, eight_bits(8, f16::ONE));
        file.tensors.insert("blk.0.attn_q.weight".into(), q);
        let five = [[0x00, 0x38, 0xff, 0, 0xff, 0].as_slice(), &[0x9a; 16]].concat();
        let v = (vec![4, 32], 6, five.repeat(4));
        file.tensors.insert("blk.0.attn_v.weight".into(), v);
        let (_dir, path) = file.save();
        let c = Checkpoint::open(&path).unwrap();
        let interleaved = architecture == "llama";
        for (linear, tensor, stored, format) in [
            (Linear::Q, "blk.0.attn_q.weight", "Q8_0", "w8g32-sym"),
            (Linear::V, "blk.0.attn_v.weight", "Q5_0", "w5g32-sym"),
        ] {
            let module = linear.module(0);
            let format: Format = format.parse().unwrap();
            assert_eq!(c.stored_format(&module).unwrap(), stored);
            assert_eq!(c.format(&module).unwrap(), format);
            let codes = c.matrix(&module).unwrap();
            assert_eq!(codes.format(), format);
            let decoded = decoded(&path, tensor, interleaved && linear == Linear::Q);
            assert_eq!(values(&codes), decoded, "{architecture} {module}");
            for rows in [0..1, 1..4, 3..4, 4..4] {
                let part = c.matrix_rows(&module, rows.clone()).unwrap();
                assert_eq!(part.format(), format);
                assert_eq!(values(&part), decoded[rows.start * 32..rows.end * 32]);
            }

            // Codes are pruned to f16 values, as a dense f16 weight is.
            let recipe = Recipe::uniform("2:4".parse().unwrap());
            let pruned = c.compressed(&module, &recipe).unwrap();
            assert_eq!(pruned.format().to_string(), "2:4@f16");
        }
    }
}

#[test]
fn rows_of_codes_stay_codes() {
    let (_dir, path) = quantised("qwen2", f16::from_f32(2.0)).save();
    let c = Checkpoint::open(path).unwrap();
    assert_eq!(c.stored_format(EMBEDDING).unwrap(), "Q8_0");
    assert_eq!(c.format(HEAD).unwrap().to_string(), "w8g32-sym");
    let whole = c.matrix(EMBEDDING).unwrap().to_dense();
    assert_eq!((whole.get(9, 7), whole.get(9, 8)), (218.0, 16.0));
    assert!(c.reads_rows(HEAD).unwrap());
    let rows = c.matrix_rows(HEAD, 9..11).unwrap();
    assert_eq!(rows.format(), c.format(HEAD).unwrap());
    let rows = rows.to_dense();
    assert_eq!((rows.get(0, 7), rows.get(1, 31)), (218.0, 15.5));
}

#[test]
fn blocks_with_a_least_value_stay_codes() {
    let mut file = quantised("llama", f16::ONE);
    // Q4_1: 0.5 · q − 2 + row.
    let block = |row: u8| {
        let least = f16::from_f32(f32::from(row) - 2.0).to_le_bytes();
        [&[0x00, 0x38], &least[..], &[0x10 * row + 3; 16]].concat()
    };
    let q = (vec![8, 32], 3, (0..8).flat_map(block).collect());
    file.tensors.insert("blk.0.attn_q.weight".into(), q);
    let (_dir, path) = file.save();
    let c = Checkpoint::open(&path).unwrap();
    let module = Linear::Q.module(0);
    assert_eq!(c.stored_format(&module).unwrap(), "Q4_1");
    let codes = c.matrix(&module).unwrap();
    assert_eq!(codes.format().to_string(), "w4g32-real");
    assert_eq!(c.format(&module).unwrap(), codes.format());
    // Rows are interleaved, and their zeros with them.
    let decoded = decoded(&path, "blk.0.attn_q.weight", true);
    assert_eq!(values(&codes), decoded);
    let part = c.matrix_rows(&module, 3..7).unwrap();
    assert_eq!(values(&part), decoded[3 * 32..7 * 32]);
}

#[test]
fn values_that_overflow_f16_are_named() {
    let mut file = quantised("qwen2", f16::ONE);
    // Scales too far apart to be halves of one factor, and values beyond a half.
    let scale = |row| match row {
        9 => f16::from_f32(1000.0),
        _ => f16::from_bits(1),
    };
    let embedding = (vec![16, 32], 8, blocks(16, scale));
    file.tensors.insert("token_embd.weight".into(), embedding);
    let (_dir, path) = file.save();
    let c = Checkpoint::open(path).unwrap();
    let parts = [EMBEDDING, "109000", "row 9, column 7", "bf16"];
    assert_names(c.matrix(EMBEDDING), &parts);
    assert_names(c.matrix_rows(EMBEDDING, 8..10), &parts);
    c.matrix_rows(EMBEDDING, 0..9).unwrap();

    let recipe = Recipe::parse("* = 2:4@f16").unwrap();
    let matrix = lacuna::format::Dense::from_f32(1, 4, vec![0.0, 1.0, -70_000.0, 2.0]).unwrap();
    let result = recipe.compress("x", matrix.into());
    assert!(matches!(
        result,
        Err(Error::F16Overflow { row: 0, col: 2, .. })
    ));
}

#[test]
fn types_that_cannot_be_read_are_refused_when_opened() {
    let mut file = Gguf::model("qwen2");
    let (shape, ..) = file.tensors["blk.0.attn_v.weight"].clone();
    file.tensors
        .insert("blk.0.attn_v.weight".into(), (shape, 24, vec![0; 32]));
    let (_dir, path) = file.save();
    assert_names(
        Checkpoint::open(path),
        &["blk.0.attn_v.weight", "I8", "Q4_K"],
    );
}

#[test]
fn compressed_weights_come_compressed() {
    let folder = Folder::new(&config("llama"));
    let mut plan = Output::new();
    let format: Format = "2:4@bf16".parse().unwrap();
    let module = "model.layers.0.mlp.up_proj";
    plan.weight(module, format, 12, 8).unwrap();
    let tensors: Vec<_> = shapes(false)
        .into_iter()
        .filter(|(name, _)| *name != format!("{module}.weight"))
        .map(|(name, shape)| {
            let values = Values::round(Dtype::Bf16, &ramp(shape.iter().product())).unwrap();
            (name, RawTensor::from_values(&shape, &values))
        })
        .collect();
    for (name, tensor) in &tensors {
        plan.tensor(name, tensor.dtype, &tensor.shape).unwrap();
    }
    let mut writer = plan
        .create(folder.path().join("model.safetensors"))
        .unwrap();
    let dense = lacuna::format::Dense::from_f32(12, 8, ramp(96)).unwrap();
    let sparse = apply(dense.into(), Some(format)).unwrap();
    writer.weight(module, &sparse).unwrap();
    for (name, tensor) in &tensors {
        writer.tensor(name, &tensor.bytes).unwrap();
    }
    writer.finish().unwrap();

    let c = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(c.matrix(module).unwrap(), sparse);
    assert_eq!(c.stored_format(module).unwrap(), "2:4@bf16");
    assert_names(c.matrix_rows(module, 0..4), &[module, "2:4@bf16"]);
    // Compressing to what it is already changes nothing.
    let recipe = Recipe::from_arg("2:4").unwrap();
    assert_eq!(c.compressed(module, &recipe).unwrap(), sparse);
}

#[test]
fn a_head_of_its_own_is_read() {
    let mut shapes = shapes(false);
    shapes.insert("lm_head.weight".into(), vec![16, 8]);
    let untied = with(config("llama"), json!({ "tie_word_embeddings": false }));
    let folder = Folder::new(&untied).tensors(&shapes);
    let path = folder.path().join("model.safetensors");
    let c = Checkpoint::open(&path).unwrap();
    assert_eq!(c.modules().last().unwrap(), HEAD);
    assert_eq!(values(&c.matrix(HEAD).unwrap()), ramp(128));

    let mut f32s = Folder::new(&untied);
    f32s = f32s.tensors(&shapes);
    let tensors = shapes.iter().map(|(name, shape)| {
        let count = shape.iter().product();
        (name.as_str(), RawTensor::from_f32(shape, &vec![1.0; count]))
    });
    save(f32s.path().join("model.safetensors"), tensors).unwrap();
    let c = Checkpoint::open(f32s.path()).unwrap();
    assert_eq!(c.stored_format(HEAD).unwrap(), "f32");
}

/// The tensors of the small model, with 4-bit codes for the product `module`: every code is 8, in groups
/// of 8, with a scale of 0.5 and the zero in the middle.
fn with_codes(module: &str, packed: &RawTensor) -> Vec<(String, RawTensor)> {
    let mut tensors = vec![];
    for (name, shape) in shapes(false) {
        if name == format!("{module}.weight") {
            let half = RawTensor::from_f32(&[shape[0], shape[1] / 8], &vec![0.5; shape[0]]);
            let sizes = [shape[0] as u64, shape[1] as u64];
            let sizes = RawTensor {
                dtype: lacuna_io::TensorDtype::I64,
                shape: vec![2],
                bytes: sizes.iter().flat_map(|n| n.to_le_bytes()).collect(),
            };
            tensors.push((format!("{module}.weight_packed"), packed.clone()));
            tensors.push((format!("{module}.weight_scale"), half));
            tensors.push((format!("{module}.weight_shape"), sizes));
        } else {
            let values = Values::round(Dtype::Bf16, &ramp(shape.iter().product())).unwrap();
            tensors.push((name, RawTensor::from_values(&shape, &values)));
        }
    }
    tensors
}

#[test]
fn weights_in_the_layouts_of_others_are_read_or_refused_by_name() {
    let module = Linear::Gate.module(1);
    let said = json!({
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "config_groups": { "group_0": { "weights": { "num_bits": 4 } } },
        },
    });
    let folder = Folder::new(&with(config("llama"), said));
    let packed = |dtype, shape: &[usize]| RawTensor {
        dtype,
        shape: shape.to_vec(),
        bytes: vec![0x88; 48],
    };
    let words = packed(lacuna_io::TensorDtype::I32, &[12, 1]);
    let path = folder.path().join("model.safetensors");
    save(&path, with_codes(&module, &words)).unwrap();
    let c = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(c.format(&module).unwrap().to_string(), "w4g8-sym");
    assert_eq!(c.stored_format(&module).unwrap(), "pack-quantized w4g8-sym");
    let w = c.matrix(&module).unwrap();
    assert_eq!(w.format().to_string(), "w4g8-sym");
    assert_eq!(values(&w), [0.0; 96]);
    assert_eq!(c.stored_bytes(&module).unwrap(), 48 + 48 + 16);
    // The `config.json` that is written beside a copy does not mention the layout.
    let beside = c.files_beside().unwrap();
    let (_, bytes) = beside
        .iter()
        .find(|(name, _)| name == "config.json")
        .unwrap();
    let written: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(written, config("llama"));

    let floats = packed(lacuna_io::TensorDtype::U8, &[12, 4]);
    save(&path, with_codes(&module, &floats)).unwrap();
    let opened = Checkpoint::open(folder.path());
    assert_names(opened, &[&module, "nvfp4 or mxfp4", "floats of 4 bits"]);
}
