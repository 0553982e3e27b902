//! `compress` jobs that are interrupted, split and joined, of models and GGUF files. No adapter needed.

mod common;

use common::{Folder, Model, code, command, json, lacuna, stdout};
use lacuna::{compress, format::Matrix};
use lacuna_io::{RawTensor, WeightFile, save};
use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");

fn compress(input: &str, out: &str, more: &[&str]) -> std::process::Output {
    lacuna(&[&["compress", input, "-o", out], more].concat())
}

fn weights(folder: &str) -> Vec<u8> {
    fs::read(Path::new(folder).join("model.safetensors")).expect("weights")
}

fn error(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_split_job_joins_to_the_same_bytes_as_a_whole_one() {
    let folder = Folder::new();
    let format = ["--format", "w4g16s50-ragged"];
    let whole = folder.path("whole");
    // As a shell completes it.
    let report = stdout(&compress(MODEL, &format!("{whole}/"), &format));
    assert!(
        !Path::new(&folder.path("whole.parts")).exists(),
        "it cleans up"
    );
    assert!(Path::new(&whole).join("tokenizer.json").exists());

    let (parts, merged) = (folder.path("parts"), folder.path("merged"));
    for layers in ["2..4", "0..1"] {
        let layers = [&format[..], &["--layers", layers]].concat();
        stdout(&compress(MODEL, &parts, &layers));
    }
    let output = lacuna(&["merge", &parts, "-o", &merged]);
    assert_eq!(code(&output), 4, "a layer is missing");
    assert!(
        error(&output).contains("1 of 5 parts: layer-00001"),
        "{}",
        error(&output)
    );
    assert!(!Path::new(&merged).exists());
    stdout(&compress(
        MODEL,
        &parts,
        &[&format[..], &["--layers", "1..2"]].concat(),
    ));
    assert_eq!(stdout(&lacuna(&["merge", &parts, "-o", &merged])), report);
    assert_eq!(weights(&merged), weights(&whole));

    let file = folder.path("alone.safetensors");
    stdout(&lacuna(&["merge", &parts, "-o", &file]));
    assert_eq!(
        fs::read(file).unwrap(),
        weights(&whole),
        "a file by its name"
    );
    assert_eq!(
        code(&lacuna(&["merge", &parts, "-o", &merged])),
        2,
        "it is there"
    );
}

/// The result depends neither on the split nor on the number of threads.
#[test]
fn statistics_give_the_same_bytes_whatever_the_split() {
    let folder = Folder::new();
    let (text, stats, others) = (
        folder.path("text.txt"),
        folder.path("stats"),
        folder.path("others"),
    );
    for (file, words) in [
        (&stats, "To be, or not to be, "),
        (&others, "All the world "),
    ] {
        fs::write(&text, words.repeat(20)).unwrap();
        let args = ["calibrate", MODEL, "--text", &text, "-o", file];
        stdout(&lacuna(&[&args[..], &["--device", "cpu"]].concat()));
    }
    for method in [
        &["--format", "2:4", "--score", "sparsegpt"][..],
        &[
            "--format",
            "w4g16s50",
            "--score",
            "wanda",
            "--recover",
            "layer",
        ],
    ] {
        let by = |stats| [method, &["--stats", stats]].concat();
        let (whole, parts) = (folder.path("whole"), folder.path("parts"));
        let report = stdout(&compress(MODEL, &whole, &by(&stats)));
        for layers in ["1..4", "0..1"] {
            let args = [&by(&stats)[..], &["--layers", layers]].concat();
            let args = [&["compress", MODEL, "-o", &parts][..], &args].concat();
            let one = command(&args).env("RAYON_NUM_THREADS", "1").output();
            stdout(&one.expect("the binary starts"));
        }
        let merged = folder.path("merged");
        assert_eq!(stdout(&lacuna(&["merge", &parts, "-o", &merged])), report);
        assert_eq!(weights(&merged), weights(&whole));

        let refused = compress(
            MODEL,
            &parts,
            &[&by(&others)[..], &["--layers", "0..4"]].concat(),
        );
        assert_eq!(code(&refused), 2);
        let message = error(&refused);
        assert!(message.contains("its statistics is"), "{message}");
        for used in [&whole, &parts, &merged] {
            fs::remove_dir_all(used).unwrap();
        }
    }
}

#[test]
fn a_started_job_goes_on_and_refuses_to_become_another() {
    let folder = Folder::new();
    let (out, parts) = (folder.path("out"), folder.path("out.parts"));
    let format = ["--format", "2:4"];
    stdout(&compress(
        MODEL,
        &parts,
        &[&format[..], &["--layers", "0..1"]].concat(),
    ));
    let other = compress(MODEL, &out, &["--format", "1:4"]);
    assert_eq!(code(&other), 2);
    let message = error(&other);
    assert!(
        message.contains("its format is 2:4, this job's is 1:4"),
        "{message}"
    );

    let output = compress(MODEL, &out, &format);
    stdout(&output);
    assert_eq!(
        error(&output).matches("done before").count(),
        2,
        "layer 0 and the rest"
    );
    let whole = folder.path("whole");
    stdout(&compress(MODEL, &whole, &format));
    assert_eq!(weights(&out), weights(&whole));
}

/// A model with layers large enough for a kill to land in the middle of a job.
fn large(folder: &Folder) -> String {
    let path = folder.path("large.safetensors");
    let side = 512;
    let values: Vec<f32> = (0..side * side)
        .map(|i| ((i * 7919) % 1009) as f32 - 500.0)
        .collect();
    let tensor = RawTensor::from_f32(&[side, side], &values);
    let tensors = (0..24).map(|layer| (format!("layers.{layer}.up.weight"), tensor.clone()));
    save(&path, tensors).expect("a model");
    path
}

#[test]
fn a_killed_job_goes_on_where_it_was() {
    let folder = Folder::new();
    let input = large(&folder);
    let (out, whole) = (folder.path("out"), folder.path("whole"));
    let format = ["--format", "w4g16s50"];
    stdout(&compress(&input, &whole, &format));

    let mut child = command(&["compress", &input, "-o", &out, "--format", "w4g16s50"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let first = Path::new(&folder.path("out.parts")).join("layer-00000.json");
    let begin = Instant::now();
    while !first.exists() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    if Path::new(&out).exists() {
        return eprintln!("it was done before it could be killed");
    }
    let output = compress(&input, &out, &format);
    stdout(&output);
    assert!(
        error(&output).contains("layer-00000 (1 of 25)"),
        "{}",
        error(&output)
    );
    assert!(error(&output).contains("done before"));
    assert_eq!(fs::read(&out).unwrap(), fs::read(&whole).unwrap());
    assert!(
        !Path::new(&folder.path("out.parts")).exists(),
        "nothing is left"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_job_exits_130_and_leaves_no_output() {
    let folder = Folder::new();
    let input = large(&folder);
    let out = folder.path("out");
    let mut child = command(&["compress", &input, "-o", &out, "--format", "w4g16s50"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let first = Path::new(&folder.path("out.parts")).join("layer-00000.json");
    let begin = Instant::now();
    while !first.exists() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(killed.expect("kill").success());
    match child.wait().expect("an end").code() {
        Some(130) => assert!(!Path::new(&out).exists() && first.exists()),
        code => assert_eq!(code, Some(0), "it was done before it was interrupted"),
    }
}

#[test]
fn corrupt_shards_are_refused_by_merge_and_computed_again_by_compress() {
    let folder = Folder::new();
    let parts = folder.path("out.parts");
    let format = ["--format", "w3g32"];
    stdout(&compress(
        MODEL,
        &parts,
        &[&format[..], &["--layers", "0..4"]].concat(),
    ));
    let shard = Path::new(&parts).join("layer-00002.safetensors");
    let sound = fs::read(&shard).expect("a shard");
    let mut broken = sound.clone();
    *broken.last_mut().expect("bytes") ^= 1;
    fs::write(&shard, &broken).expect("writable");
    let merged = folder.path("merged");
    let output = lacuna(&["merge", &parts, "-o", &merged]);
    assert_eq!(code(&output), 4);
    assert!(error(&output).contains("layer-00002.safetensors: it is corrupt"));

    // Sound tensors beside the report of another job.
    fs::write(&shard, &sound).expect("writable");
    let record = Path::new(&parts).join("layer-00002.json");
    let text = fs::read_to_string(&record).expect("a report");
    let id = text.split('"').nth(3).expect("an id").to_owned();
    fs::write(&record, text.replace(&id, &"0".repeat(64))).expect("writable");
    let output = lacuna(&["merge", &parts, "-o", &merged]);
    assert_eq!(code(&output), 4);
    assert!(
        error(&output).contains("belongs to another job"),
        "{}",
        error(&output)
    );

    let output = compress(MODEL, &folder.path("out"), &format);
    stdout(&output);
    assert_eq!(error(&output).matches("done before").count(), 4);
    assert_eq!(
        code(&lacuna(&["merge", &folder.path("nowhere"), "-o", &merged])),
        4
    );
}

#[test]
fn codes_survive_the_file_bit_by_bit() {
    let model = Model::new();
    let input = WeightFile::open(model.weights()).unwrap();
    for format in [
        "2:4@f32",
        "1:3x4@f16",
        "w4g8",
        "w3g16-sym",
        "w5row",
        "w7g32",
        "w2row-sym",
        "w8g8",
        "w5g16-real",
        "2:4+w4g8",
        "1:4x2+w3g16-sym",
        "w4g8s50",
        "w3g8s40-ragged",
        "w2g8s30-sym-ragged",
        "w8g16s10-sym",
    ] {
        let (out, dense) = (model.path("out"), model.path("dense"));
        stdout(&compress(&model.weights(), &out, &["--format", format]));
        stdout(&lacuna(&["unpack", &out, "-o", &dense]));
        for module in ["layers.0.up", "layers.0.down"] {
            let Matrix::Dense(weight) = input.weight(module).unwrap() else {
                panic!("the input is dense");
            };
            let expected = compress::compress(&weight, format.parse().unwrap()).unwrap();
            let file = WeightFile::open(&out).unwrap();
            assert_eq!(file.weight(module).unwrap(), expected, "{format}");
            let unpacked = WeightFile::open(&dense).unwrap().weight(module).unwrap();
            assert_eq!(unpacked, expected.to_dense().into(), "{format}");
        }
    }
}

#[test]
fn recipes_and_reports_say_what_each_weight_costs() {
    let folder = Folder::new();
    let recipe = folder.path("recipe");
    fs::write(
        &recipe,
        "* = w4g16s50\n*embed* = dense\n*down_proj = 2:4@f16\n",
    )
    .unwrap();
    let format = format!("@{recipe}");
    let out = folder.path("out");
    let args = ["compress", MODEL, "-o", &out, "--json", "--format", &format];
    let report = json(&args);
    let rows = report["weights"].as_array().unwrap();
    assert_eq!(rows.len(), 28);
    let row = |name: &str| rows.iter().find(|r| r["name"] == name).unwrap();
    let down = row("model.layers.0.mlp.down_proj");
    assert_eq!(
        (&down["to"], &down["bits_per_weight"]),
        (&"2:4@f16".into(), &9.0.into())
    );
    let up = row("model.layers.0.mlp.up_proj");
    // Half of the groups of 16, each with a scale of 16 bits, a zero of 4 and a group number of 8, and
    // an offset of 32 bits per row.
    let bits = up["bits_per_weight"].as_f64().unwrap();
    let expected = 0.5 * (4.0 + (8.0 + 16.0 + 4.0) / 16.0) + 32.0 * 769.0 / (768.0 * 256.0);
    assert!((bits - expected).abs() < 1e-9, "{bits} {expected}");
    assert!(up["output_error"].is_null(), "no inputs are known");
    fs::write(&recipe, "nothing = 2:4\n").unwrap();
    assert_eq!(code(&lacuna(&args)), 2);
}

#[test]
fn what_makes_no_sense_is_refused_before_work_begins() {
    let folder = Folder::new();
    let out = folder.path("out");
    let format = ["--format", "2:4"];
    let refused = |more: &[&str]| {
        let output = compress(MODEL, &out, &[&format[..], more].concat());
        (code(&output), error(&output))
    };
    for (more, text) in [
        (
            &["--score", "wanda"][..],
            "--score wanda needs --stats or --activations",
        ),
        (&["--layers", "3..5"], "layers 0..4"),
        (&["--layers", "3..3"], "A..B"),
    ] {
        let (code, message) = refused(more);
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(text), "{message}");
    }
    let empty = folder.path("recipe");
    fs::write(&empty, "# nothing\n").unwrap();
    for (format, exits, text) in [
        ("@", 2, "the name of a recipe's file"),
        (&format!("@{empty}"), 4, &*empty),
    ] {
        let output = compress(MODEL, &out, &["--format", format]);
        let message = error(&output);
        assert!(
            code(&output) == exits && message.contains(text),
            "{message}"
        );
    }
    fs::remove_file(&empty).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(Path::new(&out).join("mine"), "x").unwrap();
    assert_eq!(refused(&[]).0, 2, "the folder is not empty");
    assert_eq!(refused(&["--layers", "0..1"]).0, 2, "it is no work folder");
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);

    let output = compress(MODEL, &format!("{out}/.."), &format);
    assert_eq!(code(&output), 2);
    assert!(error(&output).contains("no name"), "{}", error(&output));
    #[cfg(unix)]
    for to in ["empty", "nowhere"] {
        let (target, link) = (folder.path(to), folder.path(&format!("to_{to}")));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        if to == "empty" {
            fs::create_dir(&target).unwrap();
        }
        let output = compress(MODEL, &link, &format);
        assert_eq!(code(&output), 2);
        assert!(error(&output).contains("is a link"), "{}", error(&output));
    }
}
