//! Commands that read and write files. No adapter needed.

mod common;

use common::{COLS, Model, ROWS, code, json, lacuna, stdout, y};
use lacuna_io::WeightFile;
use std::{fs, path::Path};

#[test]
fn a_weight_survives_compressing_inspecting_unpacking_and_multiplying() {
    let model = Model::new();
    let (packed, dense) = (model.path("packed"), model.path("dense"));
    let report = json(&[
        "compress",
        &model.weights(),
        "-o",
        &packed,
        "--format",
        "2:4",
        "--json",
    ]);
    let names: Vec<_> = report["weights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["name"].clone())
        .collect();
    assert_eq!(
        names,
        ["layers.0.down", "layers.0.up"],
        "embeddings stay as they are"
    );
    let error = report["weights"][0]["relative_error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.6, "{error}");
    assert!(report["bytes_after"].as_u64() < report["bytes_before"].as_u64());

    let report = json(&["inspect", &packed, "--json"]);
    let up = &report["weights"].as_array().unwrap()[2];
    assert_eq!(
        (up["name"].as_str(), up["format"].as_str()),
        (Some("layers.0.up"), Some("2:4@f32"))
    );
    assert_eq!(up["patterns"][0]["violating"], 0);
    assert!(stdout(&lacuna(&["inspect", &packed])).contains("layers.0.up"));

    stdout(&lacuna(&["unpack", &packed, "-o", &dense]));
    let file = WeightFile::open(&dense).unwrap();
    let tensor = file.tensor("layers.0.up.weight").unwrap();
    assert_eq!(tensor.shape, [ROWS, COLS]);
    assert!(file.tensor("layers.0.up.bias").is_some() && file.tensor("norm.weight").is_some());

    let x = model.input(3, COLS);
    let product = |weights: &str, name: &str| {
        let out = model.path(name);
        stdout(&lacuna(&[
            "matmul",
            weights,
            "--tensor",
            // The name of the tensor is as good as that of the weight.
            ["layers.0.up", "layers.0.up.weight"][usize::from(name == "y2")],
            "--input",
            &x,
            "-o",
            &out,
            "--device",
            "cpu",
        ]));
        y(out)
    };
    let from_packed = product(&packed, "y1");
    assert_eq!(from_packed.0, [3, ROWS]);
    assert_eq!(from_packed, product(&dense, "y2"));
    assert_ne!(
        from_packed,
        product(&model.weights(), "y3"),
        "pruning shows"
    );
}

#[test]
fn an_input_is_no_output() {
    let model = Model::new();
    let (weights, x) = (model.weights(), model.input(1, COLS));
    for args in [
        &["compress", &weights, "-o", &weights, "--format", "2:4"][..],
        &["unpack", &weights, "-o", &weights],
        &[
            "compress",
            &weights,
            "-o",
            &x,
            "--format",
            "2:4",
            "--activations",
            &x,
        ],
        &[
            "matmul",
            &weights,
            "--tensor",
            "layers.0.up",
            "--input",
            &x,
            "-o",
            &x,
        ],
    ] {
        let before = [&weights, &x].map(|file| fs::read(file).unwrap());
        let output = lacuna(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(code(&output) == 2 && said.contains("is an input"), "{said}");
        assert_eq!(before, [&weights, &x].map(|file| fs::read(file).unwrap()));
    }
}

#[test]
fn a_file_is_not_named_like_a_folder() {
    let model = Model::new();
    let (weights, x, out) = (model.weights(), model.input(1, COLS), model.path("out/"));
    let matmul = ["--tensor", "layers.0.up", "--input", &x, "-o", &out];
    for args in [
        &["compress", &weights, "-o", &out, "--format", "2:4"][..],
        &["unpack", &weights, "-o", &out],
        &[&["matmul", &weights][..], &matmul].concat(),
        // Before anything else is looked at.
        &["calibrate", "nowhere", "--text", "nowhere", "-o", &out],
        &[
            "thresholds",
            "nowhere",
            "--method",
            "cats",
            "-o",
            &out,
            "--sparsity",
            "0.5",
        ],
        &[
            "eval",
            &weights,
            "--text",
            &x,
            "--dump-logits",
            &out,
            "--positions",
            "1",
        ],
    ] {
        let output = lacuna(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            code(&output) == 2 && said.contains("names a folder"),
            "{args:?}: {said}"
        );
    }
    assert!(!Path::new(&model.path("out.parts")).exists());
}

#[test]
fn weights_of_a_gguf_model_have_one_name_in_every_command() {
    let model = Model::new();
    let (file, out) = (model.path("x.gguf"), model.path("out"));
    fs::copy("../fuzz/corpus/gguf/model", &file).unwrap();
    let listed = json(&["inspect", &file, "--json"]);
    let weights = listed["weights"].as_array().unwrap();
    let gate = weights.iter().find(|w| w["layout"] == "GGUF F32").unwrap();
    let name = gate["name"].as_str().unwrap();
    assert!(name.starts_with("model.layers.0."), "{name}");
    let args = ["--format", "w4g8", "--tensor", name, "--json"];
    let report = json(&[&["compress", &file, "-o", &out][..], &args].concat());
    assert_eq!(report["weights"][0]["name"], gate["name"]);
}

#[test]
fn quantised_weights_go_through_every_command() {
    let model = Model::new();
    let x = model.input(2, COLS);
    for format in [
        "w4g8",
        "w3row-sym",
        "w3g8-real",
        "2:4+w4g8",
        "w4g8s50",
        "w2g8s30-sym-ragged",
    ] {
        let (packed, dense) = (model.path("packed"), model.path("dense"));
        let args = ["-o", &packed, "--format", format, "--json"];
        let report = json(&[&["compress", &model.weights()][..], &args].concat());
        let down = &report["weights"][0];
        assert_eq!(down["to"], format);

        let listed = json(&["inspect", &packed, "--json"]);
        let weights = listed["weights"].as_array().unwrap();
        let up = weights.iter().find(|w| w["name"] == "layers.0.up").unwrap();
        assert_eq!(up["format"], format);
        assert!(up["bytes"].as_u64() < up["dense_bytes"].as_u64(), "{up}");
        assert!(up["exact"].is_null());
        let text = stdout(&lacuna(&["inspect", &packed]));
        assert!(
            text.contains(format) && text.contains("n/a (quantised)"),
            "{text}"
        );

        stdout(&lacuna(&["unpack", &packed, "-o", &dense]));
        let product = |weights: &str, out: String| {
            let args = ["--tensor", "layers.0.up", "--input", &x, "-o", &out];
            let all = [&["matmul", weights, "--device", "cpu"][..], &args].concat();
            stdout(&lacuna(&all));
            y(out)
        };
        let (a, b) = (
            product(&packed, model.path("y1")),
            product(&dense, model.path("y2")),
        );
        assert_eq!(a, b, "{format}");

        // Real zeros become dense where others read: compressed-tensors has none.
        if format.ends_with("-real") {
            let others = model.path("others");
            let args = ["unpack", &packed, "-o", &others, "--as", "pack-quantized"];
            stdout(&lacuna(&args));
            assert_eq!(a, product(&others, model.path("y3")), "{format}");
        }
    }
    for wrong in ["w4g12", "w9g8", "w4g8s0", "2:3+w4g8"] {
        let args = [
            "compress",
            &model.weights(),
            "-o",
            &model.path("no"),
            "--format",
            wrong,
        ];
        assert_ne!(code(&lacuna(&args)), 0, "{wrong}");
    }
}

#[test]
fn the_bias_is_added() {
    let model = Model::new();
    let (x, out) = (model.input(1, COLS), model.path("y"));
    let args = [
        "--tensor",
        "layers.0.up",
        "--input",
        &x,
        "-o",
        &out,
        "--device",
        "cpu",
    ];
    stdout(&lacuna(
        &[&["matmul", &model.weights()], &args[..]].concat(),
    ));
    let file = WeightFile::open(model.weights()).unwrap();
    let (weight, bias) = (
        file.weight("layers.0.up").unwrap(),
        file.bias("layers.0.up").unwrap(),
    );
    let x = WeightFile::open(x).unwrap().f32_tensor("x").unwrap().values;
    let truth = lacuna::reference::linear(&weight, &x, 1, bias.as_deref()).unwrap();
    assert!(truth.compare(&y(out).1).unwrap().passes());
}

#[test]
fn empty_dimensions_are_legal() {
    let model = Model::new();
    for (tensor, x, shape) in [
        ("layers.0.up", model.input(0, COLS), vec![0, ROWS]),
        ("empty", model.input(2, 0), vec![2, 3]),
    ] {
        let out = model.path("y");
        let args = [
            "matmul",
            &model.weights(),
            "--tensor",
            tensor,
            "--input",
            &x,
            "-o",
            &out,
        ];
        stdout(&lacuna(&[&args[..], &["--device", "cpu"]].concat()));
        assert_eq!(y(out), (shape.clone(), vec![0.0; shape[0] * shape[1]]));
    }
}

#[test]
fn what_fails_leaves_no_file_and_does_not_touch_the_old_one() {
    let model = Model::new();
    let out = model.path("out");
    std::fs::write(&out, "old").unwrap();
    // 2.1 · 10³⁸ does not fit into f16.
    let big = model.path("big.safetensors");
    let values = vec![2.1e38; 8];
    lacuna_io::save(
        &big,
        [("a.weight", lacuna_io::RawTensor::from_f32(&[2, 4], &values))],
    )
    .unwrap();
    let before = model.names();
    let output = lacuna(&["compress", &big, "-o", &out, "--format", "2:4@f16"]);
    assert_eq!(code(&output), 4);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("\"a\""),
        "the error names the weight"
    );
    assert_eq!(model.names(), before);
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
}
