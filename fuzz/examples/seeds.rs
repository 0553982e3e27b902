//! Writes the well-formed files of the corpus: one of each kind that a target reads.
//!
//! Run `cargo run --release -p lacuna-fuzz --example seeds` after a change of what writes them. Files
//! that fuzzing found stay as they are.

#[path = "../../io/tests/common/mod.rs"]
mod common;

use common::{
    Folder,
    gguf::{ARRAY, F32, Gguf, I32, TEXT, U32, array, sample, text},
    layouts::{Coded, bitmask, stream, two_of_four, whole},
    write_weight,
};
use lacuna::{
    Caps,
    caps::DeviceClass,
    compress::compress,
    format::{Dense, Format, Matrix, Thresholds},
    kernel::{Layout, Packed},
};
use lacuna_fuzz::sketch_of;
use lacuna_io::{Origin, RawTensor, ThresholdFile, save};
use lacuna_prune::{
    Accumulator, ChannelSums, GateQuantiles, Gated, Quantiles, Shared, StatisticsWriter,
};
use std::{collections::BTreeMap, error::Error, fs, path::Path};

type Done = Result<(), Box<dyn Error>>;

/// A format of each kind, with a shape that cuts its last window or group short.
const FORMATS: [(&str, usize, usize); 13] = [
    ("f32", 2, 3),
    ("bf16", 3, 5),
    ("2:4@f16", 3, 10),
    ("1:32x2@bf16", 3, 33),
    ("3:5x4@f32", 6, 13),
    ("1:1@f16", 2, 3),
    ("w4g8", 3, 20),
    ("w3row-sym", 2, 11),
    ("w2g8-real", 3, 20),
    ("2:4x8+w2g16", 9, 20),
    ("w3g8s50", 2, 28),
    ("w8g16s75-sym", 18, 40),
    ("w4g8s60-ragged", 5, 36),
];

fn main() -> Done {
    for (name, rows, cols) in FORMATS {
        let format: Format = name.parse()?;
        let weight = weight(format, rows, cols)?;
        let file = name.replace(':', "of").replace(['@', '+'], "-");
        put(
            "formats",
            &file,
            format!("{name} {rows} {cols}\n").as_bytes(),
        )?;

        let folder = Folder::new();
        write_weight(&folder.path("x"), &weight);
        let bytes = fs::read(folder.path("x"))?;
        put("tensors", &file, &sketch_of(&bytes, None))?;
        put("safetensors", &file, &bytes)?;

        for (class, word) in [(DeviceClass::Gpu, "gpu"), (DeviceClass::Cpu, "cpu")] {
            for (layout, lies) in [(Layout::Rows, "rows"), (Layout::Bands, "bands")] {
                let max_binding_bytes = 1 << 14;
                let caps = Caps {
                    class,
                    max_binding_bytes,
                    ..Caps::PORTABLE
                };
                // Not every format can lie in bands.
                if let Ok(packed) = Packed::new(&weight, layout, &caps) {
                    put(
                        "packed",
                        &format!("{file}-{word}-{lies}"),
                        &packed.to_bytes(),
                    )?;
                }
            }
        }
    }
    layouts()?;
    index()?;
    thresholds()?;
    statistics()?;
    models()?;
    put("gguf", "every-type", &sample(3).bytes())?;
    put("gguf", "version-2", &sample(2).bytes())
}

fn put(target: &str, name: &str, bytes: &[u8]) -> Done {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

fn weight(format: Format, rows: usize, cols: usize) -> lacuna::Result<Matrix> {
    let value = |i: usize| ((i * 37 + 11) % 61) as f32 / 16.0 - 1.875;
    compress(
        &Dense::from_f32(rows, cols, (0..rows * cols).map(value).collect())?,
        format,
    )
}

/// Weights of other programs.
fn layouts() -> Done {
    let coded = |bits| Coded::random(8, 32, bits, 16, 5);
    let kept = two_of_four(2, 12, 77);
    let gptq = r#"{"quant_method":"gptq","bits":4,"group_size":16,"sym":false,"checkpoint_format":"gptq_v2"}"#;
    let packed = r#"{"format":"pack-quantized","config_groups":{"g":{"weights":{"num_bits":3,"group_size":16}}}}"#;
    let mut unordered = coded(4);
    unordered.order.reverse();
    let mut tiny = coded(4).scaled(-16);
    tiny.scales[3] = 0.0;
    for (name, file, config) in [
        ("gptq", coded(4).gptq(1), None),
        ("gptq-v2", coded(4).gptq(0), Some(gptq)),
        (
            "gptq-3-bits",
            Coded::random(32, 32, 3, 16, 5).symmetric().gptq(0),
            None,
        ),
        ("gptq-desc-act", unordered.gptq(1), None),
        ("gptq-small-scales", tiny.gptq(1), None),
        ("awq", coded(4).awq(), None),
        ("pack-quantized", coded(4).pack_quantized(stream), None),
        (
            "pack-quantized-3-bits",
            Coded::random(3, 64, 3, 16, 5).pack_quantized(whole),
            Some(packed),
        ),
        (
            "sparse-24-bitmask",
            bitmask(2, 12, &[1.5; 24], &kept, false),
            None,
        ),
        (
            "sparse-bitmask",
            bitmask(2, 12, &[1.5; 24], &kept, true).long_names(),
            None,
        ),
    ] {
        put("tensors", name, &sketch_of(&file.bytes(), config))?;
        put("safetensors", name, &file.bytes())?;
    }
    Ok(())
}

fn index() -> Done {
    let map = [
        ("a.w.qweight", "a"),
        ("a.w.scales", "a"),
        ("b.weight", "a"),
        ("a.w.qzeros", "b"),
        ("a.w.g_idx", "b"),
    ];
    let map: Vec<String> = map
        .map(|(tensor, file)| format!(r#""{tensor}":"{file}.safetensors""#))
        .into();
    let index = format!(
        r#"{{"metadata":{{"total_size":96}},"weight_map":{{{}}}}}"#,
        map.join(",")
    );
    put("index", "alone", index.as_bytes())?;
    let config = r#"{"quantization_config":{"bits":4,"group_size":-1,"checkpoint_format":"gptq"}}"#;
    put("index", "config", format!("{index}\n{config}").as_bytes())?;
    let older = r#"{"bits":4,"group_size":8,"sym":true,"version":"0.4.2"}"#;
    put(
        "index",
        "older-config",
        format!("{index}\n{{}}\n{older}").as_bytes(),
    )
}

/// The inputs of two modules that share one, and a feed-forward block.
fn statistics() -> Done {
    let folder = Folder::new();
    let path = folder.path("s");
    let modules = ["l.mlp.gate_proj", "l.mlp.up_proj"]
        .map(String::from)
        .to_vec();
    let shared = [Shared { modules, cols: 3 }];
    let gated = [Gated {
        module: "l.mlp".into(),
        channels: 2,
    }];
    for (name, hessian, gates) in [("plain", false, None), ("all", true, Some(&gated[..]))] {
        let mut inputs = Accumulator::new(3, hessian);
        inputs.add(&[1.0, -2.0, 0.5, 0.25, 3.0, -1.0])?;
        let mut writer = StatisticsWriter::create(&path, 2, hessian, &shared, gates)?;
        writer.inputs("l.mlp.gate_proj", &inputs.finish()?)?;
        if gates.is_some() {
            let mut quantiles = Quantiles::default();
            quantiles.extend([1.0, 2.0, 0.5, 0.25, 3.0, 1.0]);
            writer.quantiles("l.mlp.gate_proj", &quantiles.finish()?)?;
            let mut sums = ChannelSums::new(2);
            sums.add(&[0.5, -1.0, 2.0, 0.25]);
            let mut gate = GateQuantiles::new(sums.finish(vec![1.0, 0.5])?);
            gate.add(&[0.5, 1.0, -0.25, 2.0]);
            writer.gate("l.mlp", &gate.finish()?)?;
        }
        writer.finish()?;
        put("statistics", name, &sketch_of(&fs::read(&path)?, None))?;
    }
    Ok(())
}

fn thresholds() -> Done {
    let values = vec![0.0, 0.25, f32::INFINITY, 1e-40];
    let many = Thresholds::new(values)?.expecting(0.5)?;
    let file = ThresholdFile {
        origin: Origin {
            method: "chess".into(),
            sparsity: Some(0.5),
            attention: true,
            ppl_increase: Some([0.01, 0.009]),
            ..Origin::default()
        },
        modules: BTreeMap::from([
            ("model.layers.0.mlp".into(), many),
            (
                "model.layers.0.self_attn.q_proj".into(),
                Thresholds::scalar(0.125)?,
            ),
        ]),
    };
    let folder = Folder::new();
    file.save(folder.path("t"))?;
    put(
        "thresholds",
        "chess",
        &sketch_of(&fs::read(folder.path("t"))?, None),
    )?;
    save(
        folder.path("none"),
        [("a.active", RawTensor::from_f32(&[1], &[0.5]))],
    )?;
    put(
        "thresholds",
        "no-thresholds",
        &sketch_of(&fs::read(folder.path("none"))?, None),
    )
}

/// Configurations and tokenizers, as folders and as GGUF files.
fn models() -> Done {
    let common = r#""hidden_size":8,"num_attention_heads":2,"num_hidden_layers":2,"intermediate_size":16,"vocab_size":9"#;
    for (name, rest) in [
        (
            "llama",
            r#""model_type":"llama","num_key_value_heads":1,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}"#,
        ),
        (
            "mistral",
            r#""model_type":"mistral","num_key_value_heads":2,"head_dim":4,"sliding_window":null,"rope_theta":1e6"#,
        ),
        (
            "qwen2",
            r#""model_type":"qwen2","num_key_value_heads":1,"use_sliding_window":true,"sliding_window":4,"max_window_layers":1,"rope_scaling":{"type":"linear","factor":2.0}"#,
        ),
        (
            "qwen3",
            r#""model_type":"qwen3","num_key_value_heads":2,"tie_word_embeddings":true,"eos_token_id":[1,2]"#,
        ),
        (
            "gemma3",
            r#""model_type":"gemma3_text","num_key_value_heads":1,"head_dim":4,"query_pre_attn_scalar":4,"layer_types":["sliding_attention","full_attention"],"rope_parameters":{"full_attention":{"rope_theta":1e6},"sliding_attention":{"rope_type":"default"}}"#,
        ),
    ] {
        put("config", name, format!("{{{common},{rest}}}").as_bytes())?;
    }
    let text = format!("{{{common},{}}}", r#""num_key_value_heads":2"#);
    put(
        "config",
        "gemma3-nested",
        format!(r#"{{"model_type":"gemma3","text_config":{text}}}"#).as_bytes(),
    )?;

    let words = r#"{"version":"1.0","added_tokens":[{"id":3,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0,"b":1,"[UNK]":2},"unk_token":"[UNK]"}}"#;
    let pairs = r#"{"added_tokens":[],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"a":{"id":"a","ids":[0],"tokens":["a"]}}},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]],"byte_fallback":false}}"#;
    let config = r#"{"bos_token":{"content":"<s>"},"eos_token":"b","add_bos_token":true,"chat_template":"{% for m in messages %}{{ bos_token + m.role }}: {{ m['content'] | trim }}{% endfor %}"}"#;
    put(
        "tokenizer",
        "words",
        format!("{words}\n{config}").as_bytes(),
    )?;
    put("tokenizer", "pairs", pairs.as_bytes())?;

    put("gguf", "tokens-of-pieces", &vocabulary("llama").bytes())?;
    put("gguf", "tokens-of-pairs", &vocabulary("gpt2").bytes())?;
    put("gguf", "model", &model().bytes())
}

/// A vocabulary of either kind, with a template.
fn vocabulary(model: &str) -> Gguf {
    let tokens = ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "ab", "<0x0A>"];
    let kinds = [2i32, 3, 3, 1, 1, 1, 1, 6];
    let tokens: Vec<u8> = tokens.iter().flat_map(text).collect();
    let kinds: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_le_bytes()).collect();
    let scores: Vec<u8> = (0..8).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
    Gguf::new()
        .entry("general.architecture", TEXT, &text("llama"))
        .entry("tokenizer.ggml.model", TEXT, &text(model))
        .entry("tokenizer.ggml.pre", TEXT, &text("default"))
        .entry("tokenizer.ggml.tokens", ARRAY, &array(TEXT, 8, &tokens))
        .entry("tokenizer.ggml.token_type", ARRAY, &array(I32, 8, &kinds))
        .entry("tokenizer.ggml.scores", ARRAY, &array(F32, 8, &scores))
        .entry(
            "tokenizer.ggml.merges",
            ARRAY,
            &array(TEXT, 1, &text("a b")),
        )
        .entry("tokenizer.ggml.bos_token_id", U32, &1u32.to_le_bytes())
        .entry("tokenizer.ggml.eos_token_id", U32, &2u32.to_le_bytes())
        .entry(
            "tokenizer.chat_template",
            TEXT,
            &text("{{ bos_token }}{{ messages[0].content }}"),
        )
}

/// A Llama of one layer of four channels.
fn model() -> Gguf {
    let mut gguf = vocabulary("llama");
    for (key, value) in [
        ("embedding_length", 4u32),
        ("feed_forward_length", 4),
        ("block_count", 1),
        ("context_length", 8),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ] {
        gguf = gguf.entry(&format!("llama.{key}"), U32, &value.to_le_bytes());
    }
    let epsilon = 1e-5f32.to_le_bytes();
    gguf = gguf.entry("llama.attention.layer_norm_rms_epsilon", F32, &epsilon);
    for (name, dims) in [
        ("token_embd", &[4, 8][..]),
        ("output_norm", &[4]),
        ("blk.0.attn_norm", &[4]),
        ("blk.0.attn_q", &[4, 4]),
        ("blk.0.attn_k", &[4, 2]),
        ("blk.0.attn_v", &[4, 2]),
        ("blk.0.attn_output", &[4, 4]),
        ("blk.0.ffn_norm", &[4]),
        ("blk.0.ffn_gate", &[4, 4]),
        ("blk.0.ffn_up", &[4, 4]),
        ("blk.0.ffn_down", &[4, 4]),
    ] {
        let values: Vec<u8> = (0..dims.iter().product::<u64>())
            .flat_map(|i| (i as f32 / 8.0).to_le_bytes())
            .collect();
        gguf = gguf.tensor(&format!("{name}.weight"), dims, 0, &values);
    }
    gguf
}
