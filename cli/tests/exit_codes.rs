//! Exit codes and streams.

mod common;

use common::{COLS, Model, adapter, code, command, json, lacuna, stdout};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

fn error_of(args: &[&str]) -> (i32, String) {
    let output = lacuna(args);
    assert!(output.stdout.is_empty(), "errors belong on stderr");
    (
        code(&output),
        String::from_utf8(output.stderr).expect("text"),
    )
}

#[test]
fn usage_errors_are_2() {
    let model = Model::new();
    let (file, out) = (model.weights(), model.path("out"));
    for args in [
        &["nonsense"][..],
        &["compress", &file, "-o", &out],
        &["compress", &file, "-o", &out, "--format", "5:4"],
        &["compress", &file, "-o", &out, "--format", "2:4@f12"],
        &[
            "compress",
            &file,
            "-o",
            &out,
            "--format",
            "2:4",
            "--tensor",
            "*.nothing",
        ],
        &[
            "compress", &file, "-o", &out, "--format", "2:4", "--tensor", "*", "--tensor", "!*",
        ],
        &[
            "matmul", &file, "--tensor", "nothing", "--input", &file, "-o", &out,
        ],
        &["bench", "--shape", "4096"],
        &["bench", "--shape", "0x4"],
        &["bench", "--batch", "0"],
        &["verify", "--kernel", "gemx"],
        &["bench", "--weights", &file, "--tensor", "*.nothing"],
    ] {
        let (code, text) = error_of(args);
        assert_eq!(code, 2, "{args:?}: {text}");
        assert!(text.starts_with("error: "), "{text}");
    }
}

#[test]
fn bad_input_files_are_4() {
    let model = Model::new();
    let (bad, out) = (model.path("bad\u{1b}[2J"), model.path("out"));
    std::fs::write(&bad, [0xff; 64]).unwrap();
    let x = model.input(1, COLS + 1);
    for args in [
        &["inspect", &bad][..],
        &["inspect", "/nowhere/at/all"],
        &["unpack", &bad, "-o", &out],
        &["compress", &bad, "-o", &out, "--format", "2:4"],
        &[
            "matmul",
            &model.weights(),
            "--tensor",
            "layers.0.up",
            "--input",
            &x,
            "-o",
            &out,
            "--device",
            "cpu",
        ],
    ] {
        let (code, text) = error_of(args);
        assert_eq!(code, 4, "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "names are escaped");
    }
}

#[test]
fn outputs_that_cannot_be_written_are_6() {
    let model = Model::new();
    let out = model.path("no/such/folder");
    let (code, text) = error_of(&["unpack", &model.weights(), "-o", &out]);
    assert_eq!(code, 6, "{text}");
}

#[test]
fn no_adapter_is_3_and_matmul_falls_back() {
    let model = Model::new();
    let (x, out) = (model.input(1, COLS), model.path("y"));
    let run = |args: &[&str]| {
        let mut command = command(args);
        command.env("WGPU_ADAPTER_NAME", "no such adapter");
        command.output().expect("the binary starts")
    };
    for args in [&["verify", "--quick"][..], &["bench"], &["info"]] {
        assert_eq!(code(&run(args)), 3, "{args:?}");
    }
    let file = model.weights();
    let args = [
        "matmul",
        &file,
        "--tensor",
        "layers.0.up",
        "--input",
        &x,
        "-o",
        &out,
    ];
    assert_eq!(code(&run(&[&args[..], &["--device", "gpu"]].concat())), 3);
    let output = run(&args);
    stdout(&output);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("CPU"),
        "the fallback is said"
    );
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let model = Model::new();
    let file = model.weights();
    let mut child = command(&["inspect", &file, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("an end");
    assert_eq!(code(&output), 0);
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn info_is_one_block_with_the_candidates() {
    if !adapter() {
        return;
    }
    let info = json(&["info", "--json"]);
    assert!(info["adapters"].as_array().is_some_and(|a| !a.is_empty()));
    let products = info["selected"]["products"].as_array().unwrap();
    assert!(products.len() >= 12 && products.iter().all(|p| p["default"].is_string()));
    let short = stdout(&lacuna(&["info"]));
    assert!(short.contains("gemv/") && !short.contains("also "));
    assert!(stdout(&lacuna(&["info", "--candidates"])).contains("also gemv/"));
}

#[test]
fn activations_that_no_weight_serves_are_said() {
    if !adapter() {
        return;
    }
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");
    for (format, idle) in [("dense", true), ("w4g32", false)] {
        let output = lacuna(&[
            "generate",
            assets,
            "--prompt",
            "a",
            "--max-tokens",
            "1",
            "--device",
            "gpu",
            "--activations",
            "i8",
            "--format",
            format,
        ]);
        stdout(&output);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("changes nothing"), idle, "{format}: {said}");
    }
}

#[test]
fn the_adapter_multiplies_like_the_reference() {
    if !adapter() {
        return;
    }
    let model = Model::new();
    let (packed, x) = (model.path("packed"), model.input(9, COLS));
    stdout(&lacuna(&[
        "compress",
        &model.weights(),
        "-o",
        &packed,
        "--format",
        "2:4x4@f16",
    ]));
    let product = |device: &str| {
        let out = model.path(device);
        let args = [
            "matmul",
            &packed,
            "--tensor",
            "layers.0.up",
            "--input",
            &x,
            "-o",
            &out,
        ];
        stdout(&lacuna(&[&args[..], &["--device", device]].concat()));
        common::y(out)
    };
    let (gpu, cpu) = (product("gpu"), product("cpu"));
    assert_eq!(gpu.0, cpu.0);
    assert!(
        gpu.1
            .iter()
            .zip(&cpu.1)
            .all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0))
    );
}

#[test]
fn bench_rows_hold_what_they_promise() {
    if !adapter() {
        return;
    }
    let args = [
        "--shape",
        "64x96,33x40",
        "--batch",
        "1,5",
        "--format",
        "f16,2:4@f16,1:8",
        "--rounds",
        "3",
        "--cache",
        "hot",
    ];
    let report = json(&[&["bench"], &args[..], &["-o", "json"]].concat());
    assert_eq!(
        (report["tool"].as_str(), report["version"].as_str()),
        (Some("lacuna"), Some(env!("CARGO_PKG_VERSION")))
    );
    for key in ["name", "driver", "driver_info", "backend", "type"] {
        assert!(report["adapter"][key].is_string(), "{key}");
    }
    assert!(report["copy_gb_per_s"].as_f64().is_some_and(|g| g > 0.0));
    let rows = report["rows"].as_array().unwrap();
    for batch in [1, 5] {
        // The two requested formats, one of which is the f16 baseline, and the f32 baseline.
        let formats = rows
            .iter()
            .filter(|r| r["batch"] == batch && r["rows"] == 64);
        let formats: std::collections::BTreeSet<_> =
            formats.map(|r| r["format"].as_str()).collect();
        assert_eq!(formats.len(), 4, "{formats:?}");
    }
    let cold = [
        "bench", "--shape", "64x64", "--format", "2:4", "--rounds", "2",
    ];
    let table = stdout(&lacuna(&cold));
    assert!(table.contains("| cold"), "{table}");
    let nonsense = lacuna(&[&cold[..], &["--candidate", "nonsense"]].concat());
    assert_eq!(code(&nonsense), 2);
    for row in rows {
        assert_eq!(row["samples_us"].as_array().map(Vec::len), Some(3), "{row}");
        for key in [
            "median_us",
            "gb_per_s",
            "copy_gb_per_s",
            "gflop_per_s",
            "x_dense",
            "error_over_bound",
        ] {
            assert!(
                row[key].as_f64().is_some_and(f64::is_finite),
                "{key}: {row}"
            );
        }
        for key in ["op", "format", "cache", "candidate", "timer"] {
            assert!(row[key].is_string(), "{key}: {row}");
        }
        if row["baseline"] == true {
            assert_eq!(row["x_dense"], 1.0);
        }
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_bench_leaves_whole_lines_and_exits_130() {
    if !adapter() {
        return;
    }
    let mut child = command(&[
        "bench", "--shape", "64x64", "--batch", "1,2,3,4", "--rounds", "2000", "-o", "jsonl",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .expect("the binary starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    out.read_line(&mut first).expect("a header");
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill").success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    let text = first + &rest;
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("whole lines");
    }
}
