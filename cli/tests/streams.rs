//! Streams and paths that fail, and `bench --baseline`.
#![cfg(unix)]

mod common;

use common::{Folder, Model, adapter, code, command, lacuna, stdout};
use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::Path,
};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_full_disk_is_said() {
    // Every write to /dev/full fails with "no space left".
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return;
    };
    let model = Model::new();
    let weights = model.weights();
    for args in [
        &["inspect", &weights, "--json"][..],
        &["inspect", &weights],
        &["--help"],
        &["--version"],
        &["compress", "--help"],
    ] {
        let mut command = command(args);
        let output = command.stdout(full.try_clone().expect("a file")).output();
        let output = output.expect("the binary starts");
        assert_eq!(code(&output), 6, "{}", stderr(&output));
        assert!(stderr(&output).starts_with("error: cannot write to stdout: "));
    }
}

#[test]
fn what_cannot_be_said_ends_nothing() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return;
    };
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");
    let folder = Folder::new();
    let text = folder.path("text.txt");
    fs::write(&text, "To be, or not to be: that is the question.").expect("writable");
    let stats = folder.path("stats");
    for args in [
        &[
            "calibrate",
            assets,
            "--text",
            &text,
            "-o",
            &stats,
            "--device",
            "cpu",
        ][..],
        &[
            "generate",
            assets,
            "--prompt",
            "a",
            "--max-tokens",
            "2",
            "--device",
            "cpu",
        ],
        &["eval", assets, assets, "--text", &text, "--device", "cpu"],
    ] {
        let mut command = command(args);
        command.stderr(full.try_clone().expect("a file"));
        stdout(&command.output().expect("the binary starts"));
    }
    assert!(Path::new(&stats).exists());
}

#[test]
fn paths_need_not_be_text() {
    let model = Model::new();
    let folder = Folder::new();
    let odd = folder
        .0
        .path()
        .join(OsStr::from_bytes(b"w\xff.safetensors"));
    fs::copy(model.weights(), &odd).expect("a copy");
    let out = folder.0.path().join(OsStr::from_bytes(b"\xfe"));
    let mut compress = command(&["compress"]);
    compress.arg(&odd).args(["--format", "2:4", "-o"]).arg(&out);
    stdout(&compress.output().expect("the binary starts"));
    let mut inspect = command(&["inspect", "--json"]);
    let text = stdout(&inspect.arg(&out).output().expect("the binary starts"));
    assert!(text.contains("layers.0.up"), "{text}");
    // `-` does not mean stdin but a file of that name, which does not exist.
    let output = lacuna(&["inspect", "-"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
}

fn bench(more: &[&str]) -> std::process::Output {
    let product = [
        "bench", "--shape", "64x64", "--format", "2:4", "--rounds", "3", "--cache", "hot",
    ];
    lacuna(&[&product[..], more].concat())
}

#[test]
fn a_baseline_of_another_machine_is_refused() {
    if !adapter() {
        return;
    }
    let folder = Folder::new();
    let file = folder.path("record.jsonl");
    let record = stdout(&bench(&["-o", "jsonl"]));
    let against = |text: &str, more: &[&str]| {
        fs::write(&file, text).expect("a record");
        bench(&[&["--baseline", &file][..], more].concat())
    };

    // Against a baseline of almost no time, every product is far slower.
    let at_once = |line: &str| {
        let mut row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if row["median_us"].is_number() {
            row["median_us"] = 1e-6.into();
        }
        row.to_string()
    };
    let faster: Vec<_> = record.lines().map(at_once).collect();
    let faster = faster.join("\n");
    let slower = against(&faster, &["--fail-above", "5%"]);
    assert_eq!(code(&slower), 1, "{}", stderr(&slower));
    let table = String::from_utf8_lossy(&slower.stdout);
    assert!(table.contains("Against the baseline") && table.contains("2:4@f32 64x64 batch 1"));

    let driver = "\"driver_info\":\"";
    let other = record.replacen(driver, &format!("{driver}not "), 1);
    let old = record.replacen("\"schema\":1", "\"schema\":0", 1);
    for (text, words) in [
        (other.as_str(), "another adapter"),
        (old.as_str(), "its schema is 0, expected 1"),
        ("a table", "no record of a bench"),
    ] {
        assert_ne!(text, record);
        let refused = against(text, &[]);
        assert_eq!(code(&refused), 4);
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    fs::remove_file(Path::new(&file)).expect("a file");
    assert_eq!(code(&bench(&["--baseline", &file])), 4);
    assert_eq!(code(&bench(&["--fail-above", "5%"])), 2);
}
