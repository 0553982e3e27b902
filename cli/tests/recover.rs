//! `recover`: trains a compressed model against its dense one, is stopped and continues.
#![cfg(feature = "recover")]

mod common;

use common::{code, lacuna, stdout};
use std::{fs, path::Path};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/train.py");

/// A folder with the compressed model.
fn packed(format: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let packed = path(folder.path(), "packed");
    stdout(&lacuna(&[
        "compress", MODEL, "-o", &packed, "--format", format,
    ]));
    (folder, packed)
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").into()
}

fn weights(folder: &str) -> Vec<u8> {
    fs::read(Path::new(folder).join("model.safetensors")).expect("weights")
}

/// Arguments that make training short enough for a test: 64 windows of 32 bytes.
const LITTLE: [&str; 10] = [
    "--text",
    TEXT,
    "--context",
    "32",
    "--tokens",
    "2048",
    "--batch",
    "128",
    "--block-steps",
    "30",
];

#[test]
fn a_recovered_model_is_nearer_and_as_large() {
    let (folder, packed) = packed("w4g16s50");
    let out = path(folder.path(), "out");
    let arguments = [
        &["recover", MODEL, &packed, "-o", &out, "--json"],
        &LITTLE[..],
        &["--model-steps", "30"],
    ];
    let report = stdout(&lacuna(&arguments.concat()));
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let trained = report["trained"].as_array().expect("rows");
    assert_eq!(trained.len(), 5, "four blocks and the model");
    for row in trained {
        let (before, after) = (row["before"].as_f64(), row["after"].as_f64());
        assert!(after < before, "{row}");
    }
    assert_ne!(weights(&out), weights(&packed));
    assert_eq!(weights(&out).len(), weights(&packed).len());
    assert!(Path::new(&out).join("tokenizer.json").exists());
    assert!(!Path::new(&path(folder.path(), "out.recovery")).exists());
    // The output exists already.
    assert_eq!(code(&lacuna(&arguments.concat())), 2);
}

#[test]
fn a_started_recovery_refuses_to_become_another() {
    let (folder, packed) = packed("2:4");
    let (out, work) = (
        path(folder.path(), "out"),
        path(folder.path(), "out.recovery"),
    );
    let run = |more: &[&str]| {
        let first = ["recover", MODEL, &packed, "-o", &out, "--stage", "block"];
        lacuna(&[&first, &LITTLE[..], more].concat())
    };
    fs::create_dir(&work).unwrap();
    fs::write(Path::new(&work).join("notes.txt"), "mine").unwrap();
    assert_eq!(code(&run(&[])), 2, "somebody's folder");
    fs::remove_file(Path::new(&work).join("notes.txt")).unwrap();
    // Two runs give the same bits.
    stdout(&run(&[]));
    let first = weights(&out);
    fs::remove_dir_all(&out).unwrap();
    stdout(&run(&[]));
    assert_eq!(weights(&out), first, "the same bits twice");
    fs::remove_dir_all(&out).unwrap();

    // Killed after its first file.
    let mut child =
        common::command(&[&["recover", MODEL, &packed, "-o", &out], &LITTLE[..]].concat())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
    let block = Path::new(&work).join("block-00000.safetensors");
    while !block.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let other = run(&["--seed", "2"]);
    assert_eq!(code(&other), 2);
    let message = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(message.contains("another job's"), "{message}");
    let arguments = [
        &["recover", MODEL, &packed, "-o", &out][..],
        &LITTLE,
        &["--json"],
    ];
    let report = stdout(&lacuna(&arguments.concat()));
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert!(
        report["trained"].as_array().expect("rows").len() < 5,
        "some was done"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let (folder, packed) = packed("2:4");
    let out = path(folder.path(), "out");
    let run = |more: &[&str]| {
        let first = ["recover", MODEL, &packed, "-o", &out, "--text", TEXT];
        code(&lacuna(&[&first, more].concat()))
    };
    assert_eq!(run(&["--tokens", "31", "--context", "32"]), 4);
    assert_eq!(
        run(&["--tokens", "224", "--context", "32"]),
        2,
        "none held out"
    );
    assert_eq!(run(&["--context", "1"]), 2);
    assert_eq!(run(&["--context", "257", "--tokens", "5000"]), 2);
    assert!(!Path::new(&out).exists());
}
