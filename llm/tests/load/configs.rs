//! `config.json`.

use crate::files::{Folder, QWEN2, add_biases, assert_names, config, shapes, with};
use lacuna_llm::{Activation, Checkpoint, Config, Error, Rope, RopeScaling};
use serde_json::{Value, json};

fn open(json: &Value) -> Result<Checkpoint, Error> {
    let gemma = json["model_type"]
        .as_str()
        .unwrap_or("")
        .starts_with("gemma3");
    let mut shapes = shapes(gemma);
    if json["model_type"] == "qwen2" {
        add_biases(&mut shapes, &QWEN2);
    }
    if json["model_type"] == "qwen3" {
        for layer in 0..2 {
            for norm in ["q_norm", "k_norm"] {
                let name = format!("model.layers.{layer}.self_attn.{norm}.weight");
                shapes.insert(name, vec![4]);
            }
        }
    }
    Checkpoint::open(Folder::new(json).tensors(&shapes).path())
}

#[track_caller]
fn read(json: &Value) -> Config {
    match open(json) {
        Ok(checkpoint) => checkpoint.config().clone(),
        Err(e) => panic!("{e}"),
    }
}

fn windows(config: &Config) -> Vec<Option<usize>> {
    config.layers.iter().map(|l| l.window).collect()
}

#[test]
fn llama_is_read() {
    let c = read(&config("llama"));
    assert_eq!((c.vocab, c.hidden, c.ffn), (16, 8, 12));
    assert_eq!((c.heads, c.kv_heads, c.head_dim), (2, 1, 4));
    assert_eq!((c.max_positions, c.norm_eps), (64, 1e-5));
    assert_eq!((c.query_scale, c.embedding_scale), (0.5, 1.0));
    assert_eq!(windows(&c), [None, None]);
    assert_eq!((c.bos, c.eos.as_slice()), (Some(1), [2].as_slice()));
    assert_eq!(c.activation, Activation::Silu);
    assert!(c.tied_head && !c.norm_plus_one && !c.post_norms && !c.qk_norms);
    let rope = Rope {
        theta: 10_000.0,
        scaling: RopeScaling::None,
    };
    assert_eq!(c.ropes, [rope]);
}

#[test]
fn the_size_of_a_head_follows_from_the_others() {
    assert_eq!(
        read(&with(config("llama"), json!({ "head_dim": null }))).head_dim,
        4
    );
    // Qwen 3 has a head size of its own if the file states none.
    let qwen = with(config("qwen3"), json!({ "head_dim": null }));
    assert_names(open(&qwen), &["q_proj", "[8, 8]", "[256, 8]"]);
}

#[test]
fn windows_follow_each_architecture() {
    let window = json!({ "sliding_window": 16 });
    assert_eq!(
        windows(&read(&with(config("mistral"), window.clone()))),
        [Some(16); 2]
    );
    assert_eq!(windows(&read(&config("mistral"))), [Some(4096); 2]);
    let mut none = config("mistral");
    none["sliding_window"] = Value::Null;
    assert_eq!(windows(&read(&none)), [None; 2]);
    assert_eq!(
        windows(&read(&with(config("llama"), window.clone()))),
        [None; 2]
    );
    assert_eq!(windows(&read(&with(config("qwen2"), window))), [None; 2]);
    let used = json!({ "sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1 });
    assert_eq!(
        windows(&read(&with(config("qwen2"), used))),
        [None, Some(16)]
    );
    // Windows begin at a layer beyond these, the 28th, if nothing is said.
    let unsaid = json!({ "sliding_window": 16, "use_sliding_window": true });
    assert_eq!(windows(&read(&with(config("qwen2"), unsaid))), [None; 2]);
    let typed = json!({
        "sliding_window": 8,
        "use_sliding_window": true,
        "layer_types": ["sliding_attention", "full_attention"],
    });
    assert_eq!(
        windows(&read(&with(config("qwen3"), typed))),
        [Some(8), None]
    );
}

#[test]
fn gemma_has_norms_scales_and_ropes_of_its_own() {
    let json = with(
        config("gemma3_text"),
        json!({ "sliding_window": 16, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16,
                "tie_word_embeddings": null, "bos_token_id": 2, "eos_token_id": [1, 106] }),
    );
    let c = read(&json);
    assert_eq!(windows(&c), [Some(16), None]);
    assert_eq!((c.layers[0].rope, c.layers[1].rope), (1, 0));
    assert_eq!((c.ropes[0].theta, c.ropes[1].theta), (1e6, 1e4));
    assert_eq!((c.query_scale, c.embedding_scale), (0.25, 8f32.sqrt()));
    assert_eq!(c.activation, Activation::GeluTanh);
    assert_eq!(c.eos, [1, 106]);
    assert!(c.tied_head && c.norm_plus_one && c.post_norms && c.qk_norms);

    // Whether the head is tied is what the outer object says, or the architecture.
    for (outer, tied) in [
        (json!(true), true),
        (json!(null), true),
        (json!(false), false),
    ] {
        let text = with(json.clone(), json!({ "tie_word_embeddings": !tied }));
        let gemma = json!({ "model_type": "gemma3", "text_config": text });
        let opened = open(&with(gemma, json!({ "tie_word_embeddings": outer })));
        if tied {
            assert!(opened.unwrap().config().tied_head);
        } else {
            assert_names(opened, &["lm_head.weight"]);
        }
    }

    // The same as the text part of a model with vision, where linear scaling is common.
    let text = with(
        json,
        json!({ "rope_scaling": { "rope_type": "linear", "factor": 8.0 } }),
    );
    let outer = json!({ "model_type": "gemma3", "text_config": text, "eos_token_id": [1, 5] });
    let c = read(&outer);
    assert_eq!(c.architecture, "gemma3");
    assert_eq!(c.ropes[0].scaling, RopeScaling::Linear(8.0));
    assert_eq!(c.ropes[1].scaling, RopeScaling::None);
    assert_eq!(c.eos, [1, 5]);
}

/// Frequencies by the formulas of the paper, computed independently.
#[test]
fn yarn_slows_the_pairs_that_turn_seldom() {
    let yarn =
        json!({ "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096 });
    let lengthened =
        json!({ "max_position_embeddings": 4096, "rope_scaling": yarn, "rope_theta": 1e4 });
    let c = read(&with(config("qwen2"), lengthened));
    assert_eq!(c.max_positions, 32_768);
    assert!((c.ropes[0].attention() - 1.207_944_154_167_983_6).abs() < 1e-12);
    let expected = [
        1.0,
        0.316_227_766_016_837_94,
        0.1,
        0.024_705_294_220_065_46,
        0.005_625,
        0.001_087_032_945_682_880_2,
        0.000_125,
        3.952_847_075_210_474e-5,
    ];
    for (given, expected) in c.ropes[0].frequencies(16).into_iter().zip(expected) {
        assert!(
            (given / expected - 1.0).abs() < 1e-12,
            "{given} for {expected}"
        );
    }
    let table = c.ropes[0].table(16, 1);
    assert_eq!(table[..2], [1.207_944_2, 0.0]);

    for (fields, attention) in [
        (json!({ "attention_factor": 1.5 }), 1.5),
        (json!({ "mscale": 1.0, "mscale_all_dim": 1.0 }), 1.0),
        (
            json!({ "mscale": 0.707, "mscale_all_dim": 1.0 }),
            1.147_016_517_0 / 1.207_944_154_2,
        ),
    ] {
        let yarn = json!({ "type": "yarn", "factor": 8.0, "beta_fast": 16, "beta_slow": 2 });
        let c = read(&with(
            config("llama"),
            json!({ "rope_scaling": with(yarn, fields) }),
        ));
        let RopeScaling::Yarn {
            fast,
            slow,
            original,
            attention: given,
            ..
        } = c.ropes[0].scaling
        else {
            panic!("it is yarn")
        };
        assert_eq!((fast, slow), (16.0, 2.0));
        assert_eq!((original * 8.0) as usize, c.max_positions);
        assert!((given - attention).abs() < 1e-9, "{given} for {attention}");
    }
}

#[test]
fn both_styles_of_rope_are_read() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low: 1.0,
        high: 4.0,
        original: 8192.0,
    };
    let old = json!({ "rope_theta": 500_000.0, "rope_scaling": llama3.clone() });
    assert_eq!(
        read(&with(config("llama"), old)).ropes,
        [Rope {
            theta: 500_000.0,
            scaling
        }]
    );
    let new = json!({ "rope_parameters": with(llama3, json!({ "rope_theta": 7.0 })) });
    let c = read(&with(config("llama"), new));
    assert_eq!(
        c.ropes,
        [Rope {
            theta: 7.0,
            scaling
        }]
    );
    // Unlike YaRN, files of this rule state the context after it was lengthened.
    assert_eq!(c.max_positions, 64);
    let linear = json!({ "rope_type": "linear", "factor": 2 });
    let both = json!({ "rope_parameters": linear, "rope_scaling": linear });
    let c = read(&with(config("qwen3"), both));
    assert_eq!(c.ropes[0].scaling, RopeScaling::Linear(2.0));
    let legacy = json!({ "rope_scaling": { "type": "linear", "factor": 2 } });
    let c = read(&with(config("qwen2"), legacy));
    assert_eq!(c.ropes[0].scaling, RopeScaling::Linear(2.0));
    let by_kind = json!({ "rope_parameters": {
        "full_attention": { "rope_type": "linear", "factor": 4.0, "rope_theta": 3e6 },
        "sliding_attention": { "rope_type": "default", "rope_theta": 2e4 },
    }});
    let c = read(&with(config("gemma3_text"), by_kind));
    assert_eq!(
        c.ropes[0],
        Rope {
            theta: 3e6,
            scaling: RopeScaling::Linear(4.0)
        }
    );
    assert_eq!(
        c.ropes[1],
        Rope {
            theta: 2e4,
            scaling: RopeScaling::None
        }
    );
}

#[test]
fn the_context_before_it_was_lengthened_is_found() {
    let original = |json: Value| match read(&json).ropes[0].scaling {
        RopeScaling::Llama3 { original, .. } | RopeScaling::Yarn { original, .. } => {
            original as usize
        }
        ref other => panic!("{other:?}"),
    };
    let key = "original_max_position_embeddings";
    let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0 });
    let yarn = json!({ "rope_type": "yarn", "factor": 4.0 });
    for scaling in [llama3, yarn] {
        let inner = with(scaling.clone(), json!({ key: 32 }));
        let llama = |scaling: &Value, top: Value| {
            let json = with(
                config("llama"),
                json!({ "rope_scaling": scaling, key: top }),
            );
            original(json)
        };
        // The context of the model, which may be the default; then the outer key, then the inner one.
        assert_eq!(llama(&scaling, Value::Null), 64);
        let absent = json!({ "rope_scaling": scaling, "max_position_embeddings": null });
        assert_eq!(original(with(config("llama"), absent)), 2048);
        assert_eq!(llama(&inner, Value::Null), 32);
        assert_eq!(llama(&scaling, json!(16)), 16);
        assert_eq!(llama(&inner, json!(16)), 16);
        // With an object for each kind of layers, the outer key does not count.
        let kinds = json!({ "rope_parameters": { "full_attention": inner }, key: 16 });
        assert_eq!(original(with(config("gemma3_text"), kinds)), 32);
    }
}

#[test]
fn zeros_of_yarn_mean_not_given() {
    let yarn = json!({ "type": "yarn", "factor": 8.0 });
    let zeros = json!({ "mscale": 0, "mscale_all_dim": 0.0, "beta_fast": 0, "beta_slow": 0 });
    let scaling = |yarn: Value| {
        read(&with(config("llama"), json!({ "rope_scaling": yarn }))).ropes[0].scaling
    };
    assert_eq!(scaling(with(yarn.clone(), zeros)), scaling(yarn.clone()));
    let one = json!({ "mscale": 0.707, "mscale_all_dim": 0 });
    assert_eq!(scaling(with(yarn.clone(), one)), scaling(yarn));
}

#[test]
fn null_heads_of_keys_are_as_many_as_heads() {
    for model_type in ["llama", "mistral", "qwen2", "qwen3"] {
        let mut json = config(model_type);
        json["num_key_value_heads"] = Value::Null;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, json.to_string()).unwrap();
        assert_eq!(
            Config::from_json_file(&file).unwrap().kv_heads,
            2,
            "{model_type}"
        );
    }
}

#[test]
fn gemma_wants_its_ropes_by_kind_of_layer() {
    let flat = |rope: Value| {
        open(&with(
            config("gemma3_text"),
            json!({ "rope_parameters": rope }),
        ))
    };
    for rope in [
        json!({ "rope_type": "linear", "factor": 8.0 }),
        json!({ "rope_theta": 500.0 }),
    ] {
        assert_names(
            flat(rope),
            &["rope_parameters", "full_attention", "sliding_attention"],
        );
    }
    // These say what holds without them.
    for rope in [
        json!({}),
        json!({ "rope_type": "default", "rope_theta": 1e6 }),
    ] {
        flat(rope).unwrap();
    }
    let pattern = json!({ "_sliding_window_pattern": 2, "sliding_window": 8 });
    assert_eq!(
        windows(&read(&with(config("gemma3_text"), pattern))),
        [Some(8); 2]
    );
}

#[test]
fn end_tokens_come_from_both_files() {
    let folder =
        Folder::new(&with(config("llama"), json!({ "eos_token_id": 3 }))).tensors(&shapes(false));
    folder.put("generation_config.json", br#"{"eos_token_id": [3, 7]}"#);
    assert_eq!(
        Checkpoint::open(folder.path()).unwrap().config().eos,
        [3, 7]
    );
    let mut none = config("llama");
    none["eos_token_id"] = Value::Null;
    none["bos_token_id"] = Value::Null;
    let c = read(&none);
    assert_eq!((c.bos, c.eos.len()), (None, 0));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (changes, parts) in [
        (
            json!({ "model_type": "mixtral" }),
            ["model_type", "mixtral", "qwen3"],
        ),
        (
            json!({ "model_type": "gemma2" }),
            ["model_type", "gemma2", "llama"],
        ),
        (
            json!({ "hidden_act": "relu" }),
            ["hidden_act", "relu", "silu"],
        ),
        (
            json!({ "rope_scaling": { "rope_type": "longrope", "factor": 4.0 } }),
            ["rope_scaling.rope_type", "longrope", "llama3"],
        ),
        (
            json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0, "truncate": false } }),
            ["rope_scaling.truncate", "false", "true"],
        ),
        (
            json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0, "truncate": null } }),
            ["rope_scaling.truncate", "null", "true"],
        ),
        (
            json!({ "rope_scaling": { "type": "dynamic", "factor": 4.0 } }),
            ["rope_scaling.type", "dynamic", "linear"],
        ),
        (
            json!({
                "rope_parameters": { "rope_type": "default", "rope_theta": 1e6 },
                "rope_scaling": { "rope_type": "yarn", "factor": 4.0 },
            }),
            ["rope_scaling", "yarn", "rope_parameters"],
        ),
        (
            json!({ "rope_parameters": { "rope_type": "longrope" } }),
            ["rope_parameters.rope_type", "longrope", "linear"],
        ),
        (
            json!({ "quantization_config": { "transform_config": { "config_groups": { "u": {
                "type": "hadamard",
                "apply": [{ "location": "weight_output" }, { "location": "input" }],
            } } } } }),
            [
                "quantization_config.transform_config",
                "input",
                "weight_input",
            ],
        ),
        (
            json!({ "final_logit_softcapping": 30.0 }),
            ["final_logit_softcapping", "30", "null"],
        ),
        (
            json!({ "attn_logit_softcapping": 50.0 }),
            ["attn_logit_softcapping", "50", "null"],
        ),
        (
            json!({ "num_local_experts": 8 }),
            ["num_local_experts", "8", "experts"],
        ),
        (
            json!({ "use_bidirectional_attention": true }),
            ["use_bidirectional_attention", "true", "false"],
        ),
        (
            json!({ "partial_rotary_factor": 0.5 }),
            ["partial_rotary_factor", "0.5", "1"],
        ),
        (
            json!({ "layer_types": ["full_attention", "chunked_attention"] }),
            ["layer_types", "chunked_attention", "sliding_attention"],
        ),
    ] {
        let result = open(&with(config("llama"), changes));
        assert!(
            matches!(result, Err(Error::Unsupported { .. })),
            "{parts:?}"
        );
        assert_names(result, &parts);
    }
}

#[test]
fn models_that_see_the_future_are_refused() {
    for fine in [json!(true), serde_json::Value::Null] {
        let mut json = config("llama");
        json["is_causal"] = fine;
        read(&json);
    }
    let both = json!({ "is_causal": false });
    assert_names(
        open(&with(config("llama"), both)),
        &["is_causal", "false", "true"],
    );
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    for (changes, parts) in [
        (json!({ "hidden_size": 0 }), ["hidden_size", "0", "1 to"]),
        (
            json!({ "hidden_size": -8 }),
            ["hidden_size", "-8", "whole number"],
        ),
        (
            json!({ "hidden_size": "8" }),
            ["hidden_size", "8", "whole number"],
        ),
        (
            json!({ "hidden_size": 1u64 << 60 }),
            ["hidden_size", "1152921504606846976", "1 to"],
        ),
        (json!({ "head_dim": 3 }), ["head_dim", "3", "even"]),
        (
            json!({ "num_key_value_heads": 3 }),
            ["num_key_value_heads", "3", "divisor of 2"],
        ),
        (
            json!({ "num_attention_heads": 3, "head_dim": null }),
            ["hidden_size", "8", "multiple of 3"],
        ),
        (
            json!({ "num_hidden_layers": 1_000_000 }),
            ["num_hidden_layers", "1000000", "4096"],
        ),
        (
            json!({ "rms_norm_eps": -1.0 }),
            ["rms_norm_eps", "-1", "positive"],
        ),
        (json!({ "rope_theta": 0 }), ["rope_theta", "0", "positive"]),
        (
            json!({ "rope_theta": 1e308 }),
            ["rope_theta", "is 1e308,", "positive"],
        ),
        (
            json!({ "rope_theta": 1e-310 }),
            ["rope_theta", "is 1e-310,", "positive"],
        ),
        (
            json!({ "rope_scaling": 4 }),
            ["rope_scaling", "4", "object"],
        ),
        (
            json!({ "layer_types": ["full_attention"] }),
            ["layer_types", "1", "2 entries"],
        ),
        (
            json!({ "layer_types": ["full_attention", "sliding_attention"] }),
            ["layer_types", "sliding_attention", "sliding_window"],
        ),
        (
            json!({ "eos_token_id": [1, "x"] }),
            ["eos_token_id", "x", "list"],
        ),
        (
            json!({ "tie_word_embeddings": 1 }),
            ["tie_word_embeddings", "1", "true or false"],
        ),
        (
            json!({ "rope_scaling": { "rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
            "high_freq_factor": 4, "original_max_position_embeddings": 8 } }),
            ["high_freq_factor", "4", "more than 4"],
        ),
    ] {
        let result = open(&with(config("llama"), changes));
        assert!(matches!(result, Err(Error::Value { .. })), "{parts:?}");
        assert_names(result, &parts);
    }
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
        "num_hidden_layers",
        "model_type",
    ] {
        let result = open(&with(config("llama"), json!({ key: null })));
        assert!(matches!(result, Err(Error::MissingKey { .. })), "{key}");
        assert_names(result, &[key, "missing"]);
    }
    let missing = json!({ "rope_scaling": { "rope_type": "linear" } });
    assert_names(
        open(&with(config("llama"), missing)),
        &["rope_scaling.factor", "missing"],
    );
}

#[test]
fn a_folder_without_a_configuration_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_names(Checkpoint::open(dir.path()), &["config.json"]);
    for text in ["", "[]", "{", "\u{1b}[2J"] {
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        assert_names(Checkpoint::open(dir.path()), &["config.json"]);
    }
}
