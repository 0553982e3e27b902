//! `calibrate`, and `compress` with its statistics. Only tests that say so need an adapter.

mod common;

use common::{Folder, Model, adapter, code, command, json, lacuna, stdout};
use lacuna_io::{RawTensor, WeightFile, save};
use lacuna_llm::{
    Checkpoint, Linear, Recipe, Site,
    blocks::{Blocks, embed},
};
use lacuna_prune::{Accumulator, Shared, Statistics, StatisticsWriter};
use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/shakespeare");
const HELDOUT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../assets/shakespeare/heldout.txt"
);
const TEXT: &str = "Now is the winter of our discontent made glorious summer by this sun of York; \
                    and all the clouds that lour'd upon our house in the deep bosom of the ocean \
                    buried. Now are our brows bound with victorious wreaths.";
const CONTEXT: usize = 64;

impl Folder {
    /// [`TEXT`] in a file.
    fn text(&self) -> String {
        let file = self.path("text.txt");
        fs::write(&file, TEXT).expect("writable");
        file
    }

    /// Calibrates the model on [`TEXT`]; returns the path of the statistics.
    fn statistics(&self, device: &str, more: &[&str]) -> String {
        let (text, file) = (self.text(), self.path("stats"));
        let args = ["calibrate", MODEL, "--text", &text, "-o", &file];
        let place = ["--context", "64", "--device", device];
        stdout(&lacuna(&[&args[..], &place, more].concat()));
        file
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a folder");
        let name = |e: fs::DirEntry| e.file_name().to_string_lossy().into_owned();
        entries.map(|e| name(e.expect("an entry"))).collect()
    }
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The inputs of all products of the model over [`TEXT`], by layer and site, from the CPU twin.
fn truth() -> Vec<[Vec<f32>; 4]> {
    let checkpoint = Checkpoint::open(MODEL).expect("it is shipped");
    let recipe = Recipe::default();
    let ids = checkpoint.tokenizer().unwrap().encode(TEXT).unwrap();
    let windows: Vec<Vec<u32>> = ids.chunks(CONTEXT).map(Into::into).collect();
    let mut streams = embed(&checkpoint, &recipe, &windows).unwrap();
    let mut blocks = Blocks::new(None, checkpoint.config(), CONTEXT).unwrap();
    let layer = |layer| {
        let mut seen = [const { vec![] }; 4];
        let mut block = blocks.load(&checkpoint, &recipe, layer).unwrap();
        for stream in &mut streams {
            let see = |site: Site, x: &[f32]| {
                seen[site as usize].extend_from_slice(x);
                Ok(())
            };
            block.observe(stream, &mut { see }).unwrap();
        }
        seen
    };
    (0..checkpoint.config().layers.len()).map(layer).collect()
}

/// Mean, mean square and Hessian of one input, by naive sums.
fn naive(x: &[f32], cols: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let n = (x.len() / cols) as f64;
    let mut sums = (vec![0.0; cols], vec![0.0; cols], vec![0.0; cols * cols]);
    for x in x.chunks_exact(cols) {
        for (i, &a) in x.iter().enumerate() {
            let a = f64::from(a);
            sums.0[i] += a / n;
            sums.1[i] += a * a / n;
            for (j, &b) in x.iter().enumerate() {
                sums.2[i * cols + j] += a * f64::from(b) / n;
            }
        }
    }
    sums
}

/// Largest difference from `expected`, relative to `scale(i)`.
fn apart(got: &[f32], expected: &[f64], scale: impl Fn(usize) -> f64) -> f64 {
    assert_eq!(got.len(), expected.len());
    let differences = got.iter().zip(expected).enumerate();
    differences
        .map(|(i, (&g, e))| (f64::from(g) - e).abs() / scale(i).max(1e-30))
        .fold(0.0, f64::max)
}

fn check_against_the_twin(file: &str, tolerance: f64) {
    let file = Statistics::open(file).expect("statistics");
    assert_eq!(file.modules().count(), 28);
    for (layer, sites) in truth().iter().enumerate() {
        for (site, x) in Site::ALL.into_iter().zip(sites) {
            let inputs = file.inputs(&site.module(layer)).expect("it was observed");
            let cols = inputs.cols();
            assert_eq!(
                (inputs.samples(), x.len()),
                (TEXT.len() as u64, TEXT.len() * cols)
            );
            let (mean, square, hessian) = naive(x, cols);
            let rms: Vec<f64> = square.iter().map(|s| s.sqrt()).collect();
            let got = inputs.hessian().expect("it was asked for");
            for apart in [
                apart(inputs.mean(), &mean, |i| rms[i]),
                apart(inputs.mean_square(), &square, |i| square[i]),
                apart(got, &hessian, |i| rms[i / cols] * rms[i % cols]),
            ] {
                assert!(apart <= tolerance, "layer {layer}, {site:?}: {apart}");
            }
            for other in site.linears() {
                assert_eq!(file.inputs(&other.module(layer)).unwrap(), inputs);
            }
        }
    }
}

#[test]
fn statistics_are_the_moments_of_what_the_twin_sees() {
    let folder = Folder::new();
    check_against_the_twin(&folder.statistics("cpu", &[]), 1e-6);
}

#[test]
fn a_device_sees_what_the_twin_sees() {
    if adapter() {
        let folder = Folder::new();
        check_against_the_twin(&folder.statistics("gpu", &[]), 1e-3);
    }
}

#[test]
fn windows_are_taken_evenly_and_runs_are_the_same() {
    let folder = Folder::new();
    let run = |name: &str| {
        let file = folder.path(name);
        let args = [
            "calibrate",
            MODEL,
            "--text",
            HELDOUT,
            HELDOUT,
            "-o",
            &file,
            "--tokens",
            "130",
            "--context",
            "32",
            "--device",
            "cpu",
            "--json",
        ];
        (json(&args), fs::read(&file).expect("it was written"))
    };
    let (report, bytes) = run("a");
    assert_eq!(
        (&report["samples"], &report["windows"]),
        (&128.into(), &4.into())
    );
    assert_eq!(report["bytes"], bytes.len());
    assert_eq!(bytes, run("b").1);
    let names = folder.names();
    assert_eq!(names.len(), 2, "nothing else is left: {names:?}");
}

#[test]
fn inputs_are_not_overwritten() {
    let folder = Folder::new();
    let (stats, text) = (folder.statistics("cpu", &["--no-hessian"]), folder.text());
    let model = folder.path("model.safetensors");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(format!("{MODEL}/{file}"), folder.path(file)).expect("it is shipped");
    }
    let choose = [
        "--method",
        "cats",
        "--ppl-increase",
        "1%",
        "--model",
        &model,
    ];
    for (output, args) in [
        (&text, &["calibrate", &model, "--text", &text][..]),
        (&model, &["calibrate", &model, "--text", &text]),
        (
            &model,
            &[&["thresholds", &stats, "--text", &text], &choose[..]].concat(),
        ),
        (
            &text,
            &[&["thresholds", &stats, "--text", &text], &choose[..]].concat(),
        ),
    ] {
        let before = fs::read(output).expect("it is there");
        let refused = lacuna(&[args, &["-o", output]].concat());
        let message = error(&refused);
        assert!(
            code(&refused) == 2 && message.contains("is an input"),
            "{message}"
        );
        assert!(before == fs::read(output).expect("it is there"), "{output}");
    }
}

#[test]
fn methods_get_what_they_need_or_say_so() {
    let folder = Folder::new();
    let stats = folder.statistics("cpu", &["--no-hessian"]);
    let out = folder.path("out");
    let compress = |more: &[&str]| {
        let args = ["compress", MODEL, "-o", &out, "--stats", &stats, "--json"];
        lacuna(&[&args[..], more].concat())
    };
    for method in [
        &["--score", "sparsegpt"][..],
        &["--score", "wanda", "--recover", "layer"],
    ] {
        let refused = compress(&[method, &["--format", "2:4"]].concat());
        assert_eq!(code(&refused), 2);
        let message = error(&refused);
        assert!(
            message.contains("model.layers.0.mlp.down_proj"),
            "{message}"
        );
        assert!(
            message.contains("calibrate without --no-hessian"),
            "{message}"
        );
    }
    for recover in ["block", "model"] {
        let refused = compress(&["--format", "2:4", "--recover", recover]);
        assert_eq!(code(&refused), 2);
        assert!(
            error(&refused).contains("--recover layer"),
            "{}",
            error(&refused)
        );
    }
    assert!(!Path::new(&out).exists());
    stdout(&compress(&["--score", "wanda", "--format", "2:4"]));
    let wanda = fs::read(format!("{out}/model.safetensors")).unwrap();
    fs::remove_dir_all(&out).unwrap();
    stdout(&compress(&["--format", "2:4"]));
    assert_ne!(wanda, fs::read(format!("{out}/model.safetensors")).unwrap());
}

#[test]
fn outputs_are_nearer_where_columns_make_up_for_each_other() {
    let folder = Folder::new();
    let stats = folder.statistics("cpu", &[]);
    let error = |format: &str, method: &[&str]| -> f64 {
        let out = tempfile::tempdir_in(folder.0.path()).unwrap();
        let out = out.path().to_str().unwrap().to_owned();
        let args = [
            "compress", MODEL, "-o", &out, "--json", "--stats", &stats, "--format", format,
        ];
        let report = json(&[&args[..], method].concat());
        let rows = report["weights"].as_array().unwrap();
        assert_eq!(rows.len(), 28);
        let error = |row: &serde_json::Value| row["output_error"].as_f64().expect("it is known");
        rows.iter().map(error).sum::<f64>() / 28.0
    };
    for format in ["2:4", "w3g64", "w4g16s50"] {
        let [none, wanda, sparsegpt] =
            ["magnitude", "wanda", "sparsegpt"].map(|s| error(format, &["--score", s]));
        // With any score, scales are chosen by the moments in the statistics.
        assert!(wanda <= none, "{format}: {wanda} {none}");
        assert!(sparsegpt < wanda, "{format}: {sparsegpt} {wanda}");
        let recovered = error(format, &["--score", "sparsegpt", "--recover", "layer"]);
        assert!(recovered < wanda, "{format}: {recovered} {wanda}");
    }
}

#[test]
fn statistics_that_do_not_fit_are_refused_before_work_begins() {
    let folder = Folder::new();
    let out = folder.path("out");
    let refused = |stats: &str| {
        let output = lacuna(&[
            "compress", MODEL, "-o", &out, "--format", "2:4", "--score", "wanda", "--stats", stats,
        ]);
        assert!(!Path::new(&out).exists() && !Path::new(&format!("{out}.parts")).exists());
        (code(&output), error(&output))
    };
    let (code, message) = refused(&format!("{MODEL}/model.safetensors"));
    assert_eq!(code, 4);
    assert!(message.contains("no file of statistics"), "{message}");

    let sound = fs::read(folder.statistics("cpu", &[])).unwrap();
    let broken = folder.path("broken");
    fs::write(&broken, &sound[..sound.len() / 2]).unwrap();
    assert_eq!(refused(&broken).0, 4);
    // The new version has as many digits, so the header keeps its size.
    let (version, newer) = (
        br#""lacuna_statistics.version":"1""#,
        br#""lacuna_statistics.version":"2""#,
    );
    let at = sound.windows(version.len()).position(|w| w == version);
    let mut bytes = sound.clone();
    bytes[at.expect("a version")..][..newer.len()].copy_from_slice(newer);
    fs::write(&broken, bytes).unwrap();
    let (code, message) = refused(&broken);
    assert_eq!(code, 4);
    assert!(message.contains("version 2"), "{message}");
    assert_eq!(refused(&folder.path("nowhere")).0, 4);

    // Statistics of another model: other columns, or a missing layer.
    let other = folder.path("other");
    let write = |cols: usize, layers: usize| {
        let linear = |layer| Linear::ALL.map(|l: Linear| (l, l.module(layer)));
        let shared = |(linear, module): (Linear, String)| Shared {
            modules: vec![module],
            cols: if linear == Linear::Down { cols } else { 256 },
        };
        let plan: Vec<_> = (0..layers).flat_map(linear).map(shared).collect();
        let mut writer = StatisticsWriter::create(&other, 1, false, &plan, None).unwrap();
        for input in &plan {
            let mut sums = Accumulator::new(input.cols, false);
            sums.add(&vec![1.0; input.cols]).unwrap();
            let inputs = sums.finish().unwrap();
            writer.inputs(&input.modules[0], &inputs).unwrap();
        }
        writer.finish().unwrap();
    };
    write(640, 4);
    let (code, message) = refused(&other);
    assert_eq!(code, 4);
    for part in ["model.layers.0.mlp.down_proj", "640", "768"] {
        assert!(message.contains(part), "{message}");
    }
    write(768, 3);
    let (code, message) = refused(&other);
    assert_eq!(code, 4);
    assert!(message.contains("model.layers.3."), "{message}");
}

#[test]
fn activations_serve_weights_of_their_width() {
    let model = Model::new();
    let x = model.input(40, common::COLS);
    let out = model.path("out");
    let (weights, narrow) = (model.weights(), model.input(40, 19));
    let run = |x: &str, more: &[&str]| {
        let args = ["compress", &weights, "-o", &out, "--format", "2:4@f32"];
        lacuna(&[&args[..], &["--activations", x], more].concat())
    };
    let text = stdout(&run(&x, &["--score", "sparsegpt", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let rows = report["weights"].as_array().expect("weights");
    let errors = rows.iter().map(|row| row["output_error"].as_f64());
    let errors: Vec<f64> = errors.collect::<Option<_>>().expect("they are known");
    assert!(errors.iter().all(|e| (0.0..1.0).contains(e)), "{errors:?}");
    let table = stdout(&run(&x, &["--score", "sparsegpt"]));
    assert!(table.contains("output error"), "{table}");
    for error in errors {
        assert!(table.contains(&format!("{error:.4}\n")), "{table}");
    }

    let refused = run(&narrow, &[]);
    assert_eq!(code(&refused), 4);
    let message = error(&refused);
    assert!(
        message.contains("[40, 19]") && message.contains("[samples, 20]"),
        "{message}"
    );
    let wrong = model.path("wrong");
    save(&wrong, [("x", RawTensor::from_f32(&[20], &[1.0; 20]))]).unwrap();
    assert_eq!(code(&run(&wrong, &[])), 4);
    save(&wrong, [("x", RawTensor::from_f32(&[0, 20], &[]))]).unwrap();
    assert_eq!(code(&run(&wrong, &[])), 4);
    save(&wrong, [("y", RawTensor::from_f32(&[1, 20], &[1.0; 20]))]).unwrap();
    assert_eq!(code(&run(&wrong, &[])), 4);
    save(
        &wrong,
        [("x", RawTensor::from_f32(&[1, 20], &[f32::NAN; 20]))],
    )
    .unwrap();
    assert_eq!(code(&run(&wrong, &[])), 4);
    assert!(WeightFile::open(&out).is_ok());
}

#[test]
fn what_makes_no_sense_is_said() {
    let folder = Folder::new();
    let (text, out) = (folder.text(), folder.path("out"));
    let run = |model: &str, text: &str, more: &[&str]| {
        let args = [
            "calibrate",
            model,
            "--text",
            text,
            "-o",
            &out,
            "--device",
            "cpu",
        ];
        code(&lacuna(&[&args[..], more].concat()))
    };
    assert_eq!(run(&folder.path("nowhere"), &text, &[]), 4);
    assert_eq!(run(MODEL, &folder.path("nowhere"), &[]), 4);
    let empty = folder.path("empty");
    fs::write(&empty, "").unwrap();
    assert_eq!(run(MODEL, &empty, &[]), 4);
    for more in [
        ["--tokens", "0"],
        ["--tokens", "1"],
        ["--context", "1"],
        ["--context", "257"],
    ] {
        assert_eq!(run(MODEL, &text, &more), 2, "{more:?}");
    }
    let short = [
        "calibrate",
        MODEL,
        "--text",
        &text,
        "-o",
        &out,
        "--context",
        "1",
    ];
    let said = error(&lacuna(&short));
    assert!(said.contains("context is 1, supported: 2 to 256"), "{said}");
    assert_eq!(
        run(MODEL, &text, &["--tokens", "100", "--context", "128"]),
        2
    );
    fs::create_dir(&out).unwrap();
    assert_eq!(run(MODEL, &text, &[]), 2, "a folder is there");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_exits_130_and_leaves_nothing() {
    let folder = Folder::new();
    let out = folder.path("out");
    let mut child = command(&[
        "calibrate",
        MODEL,
        "--text",
        HELDOUT,
        "-o",
        &out,
        "--device",
        "cpu",
    ])
    .stderr(Stdio::null())
    .stdout(Stdio::null())
    .spawn()
    .expect("the binary starts");
    let begin = Instant::now();
    while folder.names().is_empty() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(killed.expect("kill").success());
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}
