//! Checkpoints of other programs, given to the commands. No adapter needed.

mod common;

use common::{Folder, code, json, lacuna, stdout};
use lacuna::format::{Matrix, bits};
use lacuna_io::{RawTensor, TensorDtype, WeightFile, save};
use std::{fs, path::Path};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");

fn i32s(shape: [usize; 2], words: &[u32]) -> RawTensor {
    RawTensor {
        dtype: TensorDtype::I32,
        shape: shape.to_vec(),
        bytes: words.iter().flat_map(|w| w.to_le_bytes()).collect(),
    }
}

/// A weight of 4-bit codes as GPTQ v2 stores it.
fn gptq(name: &str, weight: &Matrix) -> [(String, RawTensor); 3] {
    let Matrix::Quantized(w) = weight else {
        panic!("{name} has codes");
    };
    let (rows, cols, groups, codes) = (w.rows(), w.cols(), w.groups(), w.codes());
    let (words, zero_words) = (cols / 8, rows / 8);
    let mut qweight = vec![0; words * rows];
    let mut qzeros = vec![0; groups * zero_words];
    let mut scales = vec![0.0; groups * rows];
    for row in 0..rows {
        for col in 0..cols {
            let word = std::slice::from_mut(&mut qweight[col / 8 * rows + row]);
            bits::set(word, 4, col % 8, codes.codes()[row * cols + col].into());
        }
        for group in 0..groups {
            let word = &mut qzeros[group * zero_words..][..zero_words];
            bits::set(word, 4, row, codes.zero(row * groups + group) as u32);
            scales[group * rows + row] =
                codes.factor() * codes.scales()[row * groups + group].to_f32();
        }
    }
    [
        (format!("{name}.qweight"), i32s([words, rows], &qweight)),
        (
            format!("{name}.qzeros"),
            i32s([groups, zero_words], &qzeros),
        ),
        (
            format!("{name}.scales"),
            RawTensor::from_f32(&[groups, rows], &scales),
        ),
    ]
}

/// Writes the model in the folder `packed` to another folder in GPTQ's layout.
fn to_gptq(packed: &str, folder: &str) {
    fs::create_dir(folder).expect("a folder");
    for entry in fs::read_dir(packed).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(
            &path,
            Path::new(folder).join(path.file_name().expect("a name")),
        )
        .expect("a copy");
    }
    let file = WeightFile::open(packed).expect("what compress wrote");
    let mut tensors = vec![];
    for module in file.modules() {
        let weight = file.weight(module.name()).expect("a weight");
        match &weight {
            Matrix::Dense(w) => tensors.push((
                format!("{}.weight", module.name()),
                RawTensor::from_values(&[w.rows(), w.cols()], w.values()),
            )),
            coded => tensors.extend(gptq(module.name(), coded)),
        }
    }
    for tensor in file.plain_tensors() {
        tensors.push((tensor.name.into(), file.raw(tensor.name).expect("a tensor")));
    }
    save(format!("{folder}/model.safetensors"), tensors).expect("it can be written");
    let config = fs::read_to_string(format!("{packed}/config.json")).expect("a configuration");
    let said = r#"{"quantization_config":{"quant_method":"gptq","checkpoint_format":"gptq_v2","sym":false},"#;
    fs::write(
        format!("{folder}/config.json"),
        config.replacen('{', said, 1),
    )
    .expect("writable");
}

#[test]
fn a_model_of_codes_is_one_model_in_every_layout() {
    let folder = Folder::new();
    let path = |name| folder.path(name);
    let text = path("text.txt");
    let heldout = fs::read_to_string(format!("{MODEL}/heldout.txt")).expect("it is shipped");
    fs::write(&text, &heldout[..200]).expect("writable");
    let perplexity = |model: &str| {
        let args = ["--text", &text, "--ctx", "128", "--device", "cpu", "--json"];
        json(&[&["eval", model][..], &args].concat())["perplexity"].as_f64()
    };

    let container = path("container");
    stdout(&lacuna(&[
        "compress", MODEL, "-o", &container, "--format", "w4g32",
    ]));
    let expected = perplexity(&container);
    assert!(expected.is_some());

    let others = path("gptq");
    to_gptq(&container, &others);
    assert_eq!(perplexity(&others), expected);
    let inspected = json(&["inspect", &others, "--json"]);
    let weights = inspected["weights"].as_array().expect("weights");
    let coded: Vec<_> = weights.iter().filter(|w| w["layout"] == "GPTQ").collect();
    assert_eq!(coded.len(), 4 * 7);
    assert!(coded.iter().all(|w| w["format"] == "w4g32"), "{}", coded[0]);
    let listed = stdout(&lacuna(&["inspect", &others]));
    assert!(
        listed.contains("zero points v2: a field says gptq_v2"),
        "{listed}"
    );
    let prompt = ["--prompt", "ROMEO:", "--max-tokens", "8", "--device", "cpu"];
    let generated = |model: &str| {
        let all = stdout(&lacuna(&[&["generate", model][..], &prompt].concat()));
        all.lines().next().map(str::to_owned)
    };
    assert_eq!(generated(&others), generated(&container));

    // Unpacked from either form, it can be read again; so can the dense model.
    for (from, to) in [(&container, path("packed-1")), (&others, path("packed-2"))] {
        stdout(&lacuna(&[
            "unpack",
            from,
            "-o",
            &to,
            "--as",
            "pack-quantized",
        ]));
        assert_eq!(perplexity(&to), expected);
        let config = fs::read_to_string(format!("{to}/config.json")).expect("a configuration");
        assert!(
            config.contains("pack-quantized") && !config.contains("gptq"),
            "{config}"
        );
    }
    let dense = path("dense");
    stdout(&lacuna(&["unpack", &others, "-o", &dense]));
    assert_eq!(perplexity(&dense), expected);
    let config = fs::read_to_string(format!("{dense}/config.json")).expect("a configuration");
    assert!(!config.contains("quantization_config"), "{config}");

    // Codes of weights that are not selected stay codes.
    let again = path("again");
    let only = ["--format", "2:4@f16", "--tensor", "*.0.mlp.up_proj"];
    stdout(&lacuna(
        &[&["compress", &others, "-o", &again][..], &only].concat(),
    ));
    let file = WeightFile::open(&again).expect("an output");
    let name = |layer: usize| format!("model.layers.{layer}.mlp.up_proj");
    let format = |layer| {
        file.module(&name(layer))
            .expect("a weight")
            .format()
            .to_string()
    };
    assert_eq!((format(0), format(1)), ("2:4@f16".into(), "w4g32".into()));
    let input = WeightFile::open(&container).expect("it was read before");
    assert_eq!(
        file.weight(&name(1)).expect("codes"),
        input.weight(&name(1)).expect("codes")
    );
}

#[test]
fn conventions_can_be_said() {
    let folder = Folder::new();
    let (file, x) = (folder.path("a.safetensors"), folder.path("x.safetensors"));
    let words = [0x7654_3210; 8];
    let tensors = [
        ("P.qweight", i32s([1, 8], &words)),
        ("P.qzeros", i32s([1, 1], &[0x7777_7777])),
        ("P.scales", RawTensor::from_f32(&[1, 8], &[1.0; 8])),
    ];
    save(&file, tensors).expect("a file");
    save(&x, [("x", RawTensor::from_f32(&[1, 8], &[1.0; 8]))]).expect("an input");
    // Codes 0 … 7 add up to 28, from which eight zero points are subtracted.
    for (said, sum) in [(None, -36.0), (Some("v1"), -36.0), (Some("v2"), -28.0)] {
        let out = folder.path("y.safetensors");
        let args = [
            "matmul", &file, "--tensor", "P", "--input", &x, "-o", &out, "--device", "cpu",
        ];
        let said = said.map(|v| ["--gptq-zeros", v]);
        stdout(&lacuna(
            &[&args[..], said.as_ref().map_or(&[], |s| &s[..])].concat(),
        ));
        assert_eq!(common::y(&out).1, [sum; 8]);
    }
    let args = ["inspect", &file, "--gptq-zeros", "v3"];
    assert_eq!(code(&lacuna(&args)), 2);
}

#[test]
fn what_cannot_be_read_is_listed_and_ends_who_needs_it() {
    let folder = Folder::new();
    let file = folder.path("a.safetensors");
    let half = RawTensor {
        dtype: TensorDtype::F16,
        shape: vec![1, 64],
        bytes: vec![0; 128],
    };
    let tensors = [
        ("marlin.B", i32s([4, 64], &[0; 256])),
        ("marlin.s", half.clone()),
        ("gptq.qweight", i32s([8, 64], &[0; 512])),
        ("gptq.scales", half),
        ("plain.weight", RawTensor::from_f32(&[1, 4], &[1.0; 4])),
    ];
    save(&file, tensors).expect("a file");
    let report = json(&["inspect", &file, "--json"]);
    let refused: Vec<_> = report["refused"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    assert_eq!(refused[0]["reason"], "there is no tensor \"gptq.qzeros\"");
    assert_eq!(
        (refused[1]["name"].as_str(), refused[1]["layout"].as_str()),
        (Some("marlin"), Some("Marlin"))
    );
    assert_eq!(report["weights"][0]["name"], "plain");
    let text = stdout(&lacuna(&["inspect", &file]));
    assert!(
        text.contains("not readable") && text.contains("2 not readable"),
        "{text}"
    );
    let (out, x) = (folder.path("out"), folder.path("x.safetensors"));
    for args in [
        &["unpack", &file, "-o", &out][..],
        &["compress", &file, "-o", &out, "--format", "w4g8"],
    ] {
        let output = lacuna(args);
        assert_eq!(code(&output), 4);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(
            message.contains("weight \"gptq\", as GPTQ: there is no tensor"),
            "{message}"
        );
        assert!(!Path::new(&out).exists());
    }
    save(&x, [("x", RawTensor::from_f32(&[1, 4], &[1.0; 4]))]).expect("an input");
    let product = |module: &str| {
        lacuna(&[
            "matmul", &file, "--tensor", module, "--input", &x, "-o", &out, "--device", "cpu",
        ])
    };
    assert_eq!(code(&product("plain")), 0);
    assert_eq!(code(&product("marlin")), 4);
}

#[test]
fn a_job_goes_on_only_where_its_input_is_read_as_before() {
    let folder = Folder::new();
    let file = folder.path("a.safetensors");
    let tensors = [
        ("layers.0.up.qweight", i32s([1, 8], &[0x7654_3210; 8])),
        ("layers.0.up.qzeros", i32s([1, 1], &[0x7777_7777])),
        (
            "layers.0.up.scales",
            RawTensor::from_f32(&[1, 8], &[1.0; 8]),
        ),
    ];
    save(&file, tensors).expect("a file");
    let parts = folder.path("parts");
    let layers = |zeros: &str| {
        let args = ["--format", "2:4", "--layers", "0..1", "--gptq-zeros", zeros];
        lacuna(&[&["compress", &file, "-o", &parts][..], &args].concat())
    };
    assert_eq!(code(&layers("v1")), 0);
    assert_eq!(code(&layers("v1")), 0);
    assert_eq!(code(&layers("v2")), 2);
}
