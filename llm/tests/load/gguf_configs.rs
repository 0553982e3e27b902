//! Metadata of GGUF files.

use crate::files::{Gguf, Meta, assert_names};
use lacuna_llm::{Activation, Checkpoint, Config, Error, Rope, RopeScaling};

fn open(file: &Gguf) -> Result<Checkpoint, Error> {
    let (_dir, path) = file.save();
    Checkpoint::open(path)
}

#[track_caller]
fn read(file: &Gguf) -> Config {
    match open(file) {
        Ok(checkpoint) => checkpoint.config().clone(),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn llama_is_read() {
    let mut file = Gguf::model("llama");
    file.set("llama.rope.freq_base", Meta::F32(500_000.0));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(2));
    let tokens = ["a", "b", "c", "<|eot_id|>", "<|endoftext|>"]
        .map(String::from)
        .to_vec();
    file.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    let c = read(&file);
    assert_eq!((c.vocab, c.hidden, c.ffn, c.layers.len()), (16, 8, 12, 2));
    assert_eq!((c.heads, c.kv_heads, c.head_dim), (2, 1, 4));
    assert_eq!(
        (c.max_positions, c.norm_eps, c.query_scale),
        (64, 1e-5, 0.5)
    );
    assert_eq!((c.bos, c.eos.as_slice()), (Some(1), [2, 3, 4].as_slice()));
    assert!(c.tied_head && !c.norm_plus_one && !c.post_norms && !c.qk_norms);
    assert_eq!(
        c.ropes,
        [Rope {
            theta: 500_000.0,
            scaling: RopeScaling::None
        }]
    );
}

#[test]
fn gemma_is_read() {
    let c = read(&Gguf::model("gemma3"));
    assert_eq!(c.layers[0].window, Some(16));
    assert_eq!(
        (c.layers[0].rope, c.ropes[0].theta, c.ropes[1].theta),
        (1, 1e6, 1e4)
    );
    assert_eq!(
        (c.activation, c.embedding_scale),
        (Activation::GeluTanh, 8f32.sqrt())
    );
    assert!(c.tied_head && !c.norm_plus_one && c.post_norms && c.qk_norms);
    let mut file = Gguf::model("gemma3");
    file.set("gemma3.attention.sliding_window_pattern", Meta::U32(2));
    assert_eq!(read(&file).layers[1].window, None);
}

#[test]
fn heads_and_scaled_ropes_are_found() {
    let mut file = Gguf::model("llama");
    file.f32s("output.weight", &[16, 8], &[0.5; 128]);
    file.set("llama.rope.scaling.type", "linear".into());
    file.set("llama.rope.scaling.factor", Meta::F32(4.0));
    let c = read(&file);
    assert!(!c.tied_head);
    assert_eq!(c.ropes[0].scaling, RopeScaling::Linear(4.0));

    let mut file = Gguf::model("qwen2");
    file.set("qwen2.rope.scaling.type", "yarn".into());
    file.set("qwen2.rope.scaling.factor", Meta::F32(4.0));
    file.set(
        "qwen2.rope.scaling.original_context_length",
        Meta::U32(32768),
    );
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        fast: 32.0,
        slow: 1.0,
        original: 32768.0,
        attention: 1.0 + 0.1 * 4f64.ln(),
    };
    let c = read(&file);
    assert_eq!((c.ropes[0].scaling, c.max_positions), (yarn, 131_072));
    file.set("qwen2.rope.scaling.attn_factor", Meta::F32(2.0));
    let attention = 2.0 * (1.0 + 0.1 * 4f64.ln());
    assert!((read(&file).ropes[0].attention() - attention).abs() < 1e-12);

    let llama3 = RopeScaling::Llama3 {
        factor: 32.0,
        low: 1.0,
        high: 4.0,
        original: 8192.0,
    };
    let mut file = Gguf::model("llama");
    file.set("llama.rope.freq_base", Meta::F32(5_000_000.0));
    let frequencies = |scaling| {
        Rope {
            theta: 5_000_000.0,
            scaling,
        }
        .frequencies(4)
    };
    let plain = frequencies(RopeScaling::None).into_iter();
    let factors: Vec<f32> = plain
        .zip(frequencies(llama3))
        .map(|(a, b)| (a / b) as f32)
        .collect();
    assert_eq!(factors, [1.0, 32.0]);
    file.f32s("rope_freqs.weight", &[2], &factors);
    assert_eq!(read(&file).ropes[0].scaling, llama3);
    let mut both = file.clone();
    both.set("llama.rope.scaling.type", "linear".into());
    both.set("llama.rope.scaling.factor", Meta::F32(4.0));
    assert_names(open(&both), &["rope_freqs.weight", "rope.scaling"]);
    file.f32s("rope_freqs.weight", &[2], &[3.0, 5.0]);
    assert_names(open(&file), &["rope_freqs.weight", "Llama 3"]);
    file.f32s("rope_freqs.weight", &[3], &[1.0; 3]);
    assert_names(open(&file), &["rope_freqs.weight", "[3]", "[2]"]);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases: [(&str, Meta, &str); 9] = [
        ("general.architecture", "gemma2".into(), "gemma3"),
        ("llama.rope.scaling.type", "longrope".into(), "linear"),
        ("llama.expert_count", Meta::U32(8), "experts"),
        ("split.count", Meta::U32(2), "-00001-of-00002.gguf"),
        ("llama.final_logit_softcapping", Meta::F32(30.0), "none"),
        (
            "llama.attention.value_length",
            Meta::U32(8),
            "4, the size of a head",
        ),
        (
            "llama.rope.dimension_count",
            Meta::U32(2),
            "4, the size of a head",
        ),
        ("llama.embedding_length", Meta::U32(0), "1 to"),
        (
            "llama.attention.head_count_kv",
            Meta::U32(3),
            "divisor of 2",
        ),
    ];
    for (key, value, part) in cases {
        let mut file = Gguf::model("llama");
        file.set(key, value);
        assert_names(open(&file), &[key, part]);
    }
    let mut file = Gguf::model("qwen2");
    file.set("qwen2.attention.sliding_window", Meta::U32(8));
    assert_names(open(&file), &["qwen2.attention.sliding_window", "8"]);
    let mut file = Gguf::model("gemma3");
    file.metadata.remove("gemma3.attention.sliding_window");
    assert_names(open(&file), &["gemma3.attention.sliding_window", "missing"]);
    let mut file = Gguf::model("llama");
    file.set("llama.block_count", "two".into());
    assert_names(open(&file), &["llama.block_count", "two"]);
}

#[test]
fn no_mutation_panics() {
    for architecture in ["llama", "gemma3"] {
        let model = Gguf::model(architecture);
        let values = [
            Meta::U32(0),
            Meta::U32(3),
            Meta::U32(u32::MAX),
            Meta::F32(f32::NAN),
            Meta::F32(-1.0),
            "x".into(),
            Meta::Texts(vec!["y".into()]),
            Meta::Bool(true),
            Meta::I32s(vec![1, 2]),
            Meta::F32s(vec![]),
        ];
        for key in model.metadata.keys() {
            for value in &values {
                let mut file = model.clone();
                file.set(key, value.clone());
                let _ = open(&file).map(|c| c.matrix("model.embed_tokens"));
            }
            let mut file = model.clone();
            file.metadata.remove(key);
            let _ = open(&file);
        }
        for name in model.tensors.keys() {
            let mut file = model.clone();
            file.tensors.remove(name);
            assert_names(open(&file), &[name]);
            let mut file = model.clone();
            file.f32s(name, &[3], &[1.0; 3]);
            assert_names(open(&file), &[name]);
        }
    }
}
